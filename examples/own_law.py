# %% [markdown]
# # A law of your own
#
# One exponent for both terms: `L = E + A N^-s + B D^-s`. Ten lines: coefficients with their priors
# (on the sampler's scale: logs, relative to the table's reference run), the log loss, the published
# units, and the imbalance of a run. From the command line: `allometry fit RUNS -o FIT.nc --law
# one-exponent --law-module own_law` in this folder; then set `ALLOMETRY_LAW_MODULES=own_law` for
# the commands that ask the posterior.

# %%
from pathlib import Path

import jax.numpy as jnp

from allometry.laws import CHINCHILLA, Coefficient, Law, register_law

# %%
s = Coefficient(
    name="log_s", meaning="log of the exponent of both terms", loc=-1.1, scale=0.4, between=0.1
)


def terms(c, at):
    exponent = jnp.exp(c["log_s"])
    return c["log_u"] - exponent * at.log_params, c["log_v"] - exponent * at.log_tokens


def published(c, scale):
    exponent = jnp.exp(c["log_s"])
    a, b = (jnp.log(scale.loss) + c[name] for name in ("log_u", "log_v"))
    a, b = a + exponent * jnp.log(scale.params), b + exponent * jnp.log(scale.tokens)
    E = scale.loss * jnp.exp(c["log_E"])
    return {"E": E, "A": jnp.exp(a), "B": jnp.exp(b), "alpha": exponent, "beta": exponent}


ONE_EXPONENT = register_law(
    Law(
        name="one-exponent",
        formula="L = E + A N^-s + B D^-s",
        reference="an example",
        coefficients=(*CHINCHILLA.coefficients[:3], s),
        log_loss=lambda c, at: jnp.logaddexp(c["log_E"], jnp.logaddexp(*terms(c, at))),
        published=published,
        imbalance=lambda c, at: terms(c, at)[0] - terms(c, at)[1],
    )
)


# %% [markdown]
# Fit it to the bundled synthetic runs and ask it for an allocation, like any other law.


# %%
def main() -> None:
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import Sampler, fit

    prepare_jax()
    runs = Path(__file__).parent.parent / "data" / "synthetic" / "runs.csv"
    posterior = fit(str(runs), law=ONE_EXPONENT, sampler=Sampler(draws=250), seed=0)
    emit(posterior.summary().head(12), as_json=False)
    table = posterior.allocate([1e21])
    emit(table[[n for n in table if not n.endswith(("_q25", "_q75"))]], as_json=False)


if __name__ == "__main__":
    main()
