# %% [markdown]
# # Choices with intervals: sizes, break-evens, a lifetime's demand, too few tokens, a new context
#
# Everything here asks one posterior, such as `allometry fit xlstm -o study.nc` writes, and each
# table has a command of its own (`allometry regret|break-even|lifetime|repeat`, and `--plot`):
#
#     python examples/decisions.py study.nc --output output/decisions

# %%
import sys
import warnings
from pathlib import Path
from typing import Annotated

import cyclopts
import pandas as pd

from allometry.cli.asking import short
from allometry.cli.output import emit
from allometry.cli.runtime import prepare_jax
from allometry.decisions import (
    UnseenGroupWarning,
    break_even_budget,
    buildable,
    least_regret,
    lifetime,
    regret_curve,
    repeated,
)
from allometry.errors import AllometryError
from allometry.inference import Posterior
from allometry.plots.choices import draw_break_even, draw_lifetime
from allometry.plots.decisions import draw_regret
from allometry.plots.writing import save_figure

# %% [markdown]
# ## Which size, and how much it matters
#
# The size of least expected regret, the band of sizes whose loss is within a tenth of a percent of
# the best, and the shape to build.


# %%
def size_table(posterior: Posterior, flops: float, context_length: int) -> pd.DataFrame:
    best = least_regret(posterior, [flops], within="0.1%", context_length=context_length)
    return buildable(posterior, best, context_length=context_length)


# %% [markdown]
# ## A context that was never run
#
# Drawn from the population of groups; the warning says from what. Its interval is wider than those
# of its neighbours.


# %%
def unseen_table(posterior: Posterior, flops: float, context_length: int) -> pd.DataFrame:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnseenGroupWarning)
        table = posterior.allocate([flops], context_length=context_length)
    for warning in caught:
        print(f"note: {warning.message}", file=sys.stderr)
    return table


# %% [markdown]
# ## What serving does to the best size
#
# Least FLOPs of training and serving together for a loss: the more is served, the smaller the model
# and the longer it is trained.


# %%
def demand_table(posterior: Posterior, target_loss: float, context_length: int) -> pd.DataFrame:
    return lifetime(
        posterior,
        [0.0, 1e11, 1e12, 1e13],
        target_loss=target_loss,
        context_length=context_length,
    )


# %%
def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}")
    emit(short(table), as_json=False)


def main(
    posterior: Path,
    *,
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"])] = Path("output/decisions"),
    flops: float = 1e21,
    context_length: int | None = None,
    new_context: int = 4096,
) -> int:
    """All tables and figures.

    Parameters
    ----------
    posterior
        File written by ``allometry fit`` with an architecture and a context length.
    output
        Folder for the figures.
    flops
        Training budget.
    context_length
        A context that was run; by default the one with the largest budget.
    new_context
        A context that was not.
    """
    prepare_jax()
    loaded = Posterior.load(posterior)
    largest = loaded.groups["context_length"].iloc[int(loaded.largest_flops().argmax())]
    context = int(largest) if context_length is None else context_length
    first = loaded.groups["architecture"].unique()
    show("Sizes of least regret", size_table(loaded, flops, context))
    show(f"Context {new_context}, never run", unseen_table(loaded, flops, new_context))
    equal = break_even_budget(loaded, str(first[0]), str(first[-1]))
    show("Budget of equal loss", equal)
    target = float(loaded.allocate([flops], context_length=context)["loss_median"].max())
    demand = demand_table(loaded, target, context)
    show(f"A loss of {target:.3f}, by the tokens to be served", demand)
    few = repeated(loaded, [1e10], [flops], published=True, context_length=context)
    show("Ten billion unique tokens, with the published discount", few)
    curve = regret_curve(loaded, [flops], context_length=context)
    for name, figure in (
        ("regret", draw_regret(curve, "0.1%")),
        ("break-even", draw_break_even(equal)),
        ("lifetime", draw_lifetime(demand)),
    ):
        save_figure(figure, output / f"{name}.png", dpi=150)
    print(f"\nFigures: {output}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except AllometryError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
