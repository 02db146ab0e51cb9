# %% [markdown]
# # Chinchilla's 240 points: are the published values covered?
#
# The points of figure 4 of arXiv:2203.15556 as digitised by arXiv:2404.10102, whose re-estimate of
# the additive law is compared with three posteriors: the same law with the same noise everywhere
# (what that fit assumes), the same law with noise that grows off the valley, and the default law.

# %%
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cyclopts
import pandas as pd

from allometry.cli.output import emit
from allometry.cli.runtime import prepare_jax, stages
from allometry.errors import AllometryError
from allometry.inference import NO_OFF_VALLEY, Posterior, Sampler, default_priors, fit
from allometry.laws import get_law
from allometry.observations import read_runs
from allometry.plots import draw_figure
from allometry.plots.writing import save_figure

PUBLISHED = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
"""arXiv:2404.10102, Huber loss (delta 1e-3) on 240 points; N and D in units of one."""

FITS = {
    "chinchilla-constant": ("chinchilla", "constant"),
    "chinchilla-valley": ("chinchilla", "valley"),
    "pnorm-valley": ("pnorm", "valley"),
}


# %%
def fit_points(runs: str, law: str, noise: str, *, sampler: Sampler, seed: int) -> Posterior:
    priors = default_priors(get_law(law))
    if noise == "constant":
        priors = replace(priors, off_valley=NO_OFF_VALLEY)
    with stages() as bar:
        return fit(
            read_runs(runs), law=law, priors=priors, sampler=sampler, seed=seed, progress=bar
        )


# %% [markdown]
# A published value is covered if the 90 % interval holds it. `gamma` below one says that the two
# terms add less than in the additive law; A and B of the p-norm law are not those of the additive
# one, so only E and the exponents can be set beside each other.


# %%
def coverage_table(posterior: Posterior, name: str) -> pd.DataFrame:
    table = posterior.summary()
    table = table[table["parameter"].isin([*PUBLISHED, "gamma", "noise", "off_valley"])]
    table = table[["parameter", "median", "q5", "q95"]].assign(fit=name)
    table["published"] = table["parameter"].map(PUBLISHED)
    inside = (table["q5"] <= table["published"]) & (table["published"] <= table["q95"])
    table["covered"] = inside.map({True: "yes", False: "no"}).where(table["published"].notna(), "-")
    return table


def expected_log_density(posterior: Posterior) -> float:
    """PSIS-LOO estimate of how well each law predicts a point that it has not seen."""
    from arviz_stats import loo

    return float(loo(posterior.idata).elpd)


# %%
def main(
    *,
    runs: str = "chinchilla",
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"])] = Path(
        "output/chinchilla"
    ),
    draws: int = 500,
    seed: int = 0,
) -> int:
    """Fit three models to the points; print coverage; write figures.

    Parameters
    ----------
    runs
        A runs table, or the name of a known one.
    output
        Folder for posteriors and figures; posteriors that lie there are not fitted again.
    draws
        Kept draws of each of four chains.
    seed
        Seed of the fits.
    """
    prepare_jax()
    frames, scores = [], []
    for name, (law, noise) in FITS.items():
        file = output / f"{name}.nc"
        if file.is_file():
            posterior = Posterior.load(file)
        else:
            sampler = Sampler(draws=draws)
            posterior = fit_points(runs, law, noise, sampler=sampler, seed=seed)
            posterior.save(file)
        c = posterior.record.convergence
        frames.append(coverage_table(posterior, name))
        scores.append(
            {"fit": name, "converged": c.converged, "elpd": expected_log_density(posterior)}
        )
        for kind in ("surface", "residuals", "fan"):
            save_figure(draw_figure(posterior, kind), output / f"{name}-{kind}.png", dpi=150)
    emit(pd.concat(frames, ignore_index=True), as_json=False)
    print("\nExpected log predictive density of a point left out (larger is better)")
    emit(pd.DataFrame(scores), as_json=False)
    print(f"\nFigures: {output}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except AllometryError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
