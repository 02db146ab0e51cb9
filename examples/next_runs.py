# %% [markdown]
# # Which runs to do next, and a page for those who decide
#
# A posterior, such as `allometry fit synthetic -o fit.nc` writes, is asked which further runs would
# tell most of a decision at a budget that nobody has run: the best size there, and which
# architecture wins. Then everything it says becomes one page with a slider. Both have a command of
# their own (`allometry design`, `allometry report`):
#
#     python examples/next_runs.py fit.nc --output output/next_runs

# %%
import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import pandas as pd

from allometry.cli.asking import short
from allometry.cli.output import emit
from allometry.cli.runtime import prepare_jax
from allometry.decisions import nearest_shapes
from allometry.decisions.design import design_runs
from allometry.errors import AllometryError
from allometry.inference import Posterior
from allometry.plots.design import draw_design
from allometry.plots.tables import fitted_table
from allometry.plots.writing import save_figure
from allometry.report import report, write_report

# %% [markdown]
# ## Runs for a decision
#
# `gain` is the share of the present variance that a run is expected to take after those above it;
# `sd_after` is what is left of the doubt. The shape to build stands beside each run.


# %%
def runs_table(
    posterior: Posterior, decision: str, *, at: float, budget: float, context_length: int
) -> pd.DataFrame:
    one = {} if decision == "winner" else {"architecture": posterior.groups["architecture"][0]}
    return design_runs(posterior, budget, decision, at=at, context_length=context_length, **one)


# %% [markdown]
# ## The page
#
# One HTML file with the answer in words, the slider, pictures, tables and provenance.


# %%
def write_page(posterior: Posterior, path: Path) -> Path:
    page = report(posterior, title="What to train next", command="python examples/next_runs.py")
    return write_report(page, path)


# %%
def main(
    posterior: Path,
    *,
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"])] = Path("output/next_runs"),
    beyond: float = 100.0,
    share: float = 5.0,
) -> int:
    """Print the runs for two decisions, draw them, and write the page.

    Parameters
    ----------
    posterior
        File written by ``allometry fit`` with two architectures and a context length.
    output
        Folder for the figures and the page.
    beyond
        The decision's budget over that of the largest run.
    share
        What the further runs may cost together, over the largest run.
    """
    prepare_jax()
    loaded = Posterior.load(posterior)
    largest = float(loaded.largest_flops().max())
    context = int(loaded.groups["context_length"].iloc[int(loaded.largest_flops().argmax())])
    at, budget = beyond * largest, share * largest
    for decision in ("size", "winner"):
        table = runs_table(loaded, decision, at=at, budget=budget, context_length=context)
        print(f"\nRuns of {budget:.2g} FLOPs together for: {table.attrs['quantity']}")
        if table.empty:
            print("no run takes a hundredth of the variance")
            continue
        emit(short(nearest_shapes(table, params="params")), as_json=False)
        save_figure(draw_design(table, fitted_table(loaded)), output / f"{decision}.png", dpi=150)
    print(f"\nFigures and page: {write_page(loaded, output / 'page.html').parent}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except AllometryError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
