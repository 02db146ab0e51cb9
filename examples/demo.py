# %% [markdown]
# # The demo: bundled runs to growth laws, allocations and plots
#
# The analysis of `study.py` on the table that comes with the package. `make demo` runs it; only the
# core dependencies are needed.

# %%
import sys
from pathlib import Path

import cyclopts
from study import analyse, fit_runs

from allometry.cli.runtime import prepare_jax
from allometry.errors import AllometryError
from allometry.inference import Sampler

DATA = Path(__file__).parent.parent / "data"
KINDS = ("valleys", "surface", "growth", "allocations", "fan", "ppc", "probability")


# %%
LEAST_RUNS = 40  # measured runs, so that every group has valleys


def bundled_table() -> tuple[Path, str]:
    """Runs that this project measured, once there are enough; else the synthetic ones."""
    measured = DATA / "measured" / "runs.csv"
    if measured.is_file() and len(measured.read_text(encoding="utf-8").splitlines()) > LEAST_RUNS:
        return measured, "runs measured by this project"
    text = "SYNTHETIC runs: published laws plus noise, no model was trained for them"
    return DATA / "synthetic" / "runs.csv", text


# %%
def main(*, output: Path = Path("demo"), draws: int = 250, chains: int = 4, seed: int = 0) -> int:
    """Fit the bundled runs; print growth laws and allocations; write plots.

    Parameters
    ----------
    output
        Folder for the posterior and the figures.
    draws
        Kept draws of each chain.
    chains
        Markov chains.
    seed
        Seed of the fit.
    """
    prepare_jax()
    table, what = bundled_table()
    print(f"{table.parent.name}/{table.name}: {what}")
    posterior = fit_runs(str(table), seed=seed, sampler=Sampler(chains=chains, draws=draws))
    posterior.save(output / "posterior.nc")
    largest = float(posterior.largest_flops().max())
    analyse(
        posterior,
        output,
        compare_at=(largest / 10, largest, 10 * largest),
        allocate_at=(largest, 10 * largest, 100 * largest),
        kinds=KINDS,
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except AllometryError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
