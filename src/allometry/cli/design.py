"""``allometry design``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from allometry.cli.asking import (
    EVERY_GROUP,
    STUDY_VOCAB,
    Cost,
    Groups,
    VocabSize,
    answered,
    check_picture,
    check_shapes,
    notes,
    open_posterior,
    other_cost,
    parse_group,
    write_picture,
)

if TYPE_CHECKING:
    import pandas as pd


def design_command(
    posterior: Path,
    *,
    budget: float,
    decision: Literal["size", "loss", "winner", "exponent"],
    at: float | None = None,
    between: tuple[str, str] | None = None,
    candidates: str | None = None,
    runs: int = 10,
    least_gain: float = 0.01,
    buildable: Annotated[bool, Parameter(negative=())] = False,
    vocab_size: VocabSize = STUDY_VOCAB,
    plot: Path | None = None,
    groups: Groups = EVERY_GROUP,
    cost: Cost | None = None,
    json: bool = False,
) -> int:
    """Which runs to do next, so that a decision is taken with the least doubt.

    Say what must be decided, and what further runs may cost together. Each row is a run: its gain
    is the share of the present variance that it is expected to take from what the decision hangs
    on, after the runs above it. Nothing is fitted for it: the worth of a run does not depend on
    how it ends.

    - size: the params to train at a budget.
    - loss: the loss that they will have.
    - winner: which of two architectures has less of it.
    - exponent: how params grow with compute.

    An example: ``allometry design fit.nc --budget 1e21 --decision size --at 1e23
    --architecture xlstm --context-length 8192``. Fit again with the runs that were made, then ask
    again: the second answer knows how the first ones ended. Exit code 1 if no run is worth it.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    budget
        Training FLOPs of all further runs together.
    decision
        What must be decided.
    at
        Training budget in FLOPs that the decision is about: of all but exponent.
    between
        The two of a winner: ``--between transformer xlstm``. By default the only two.
    candidates
        Groups whose runs may be done: ``--candidates context_length=2048``; by default all, since a
        run of one group tells something of the others. Or a table of the runs to choose from, each
        once, with params, tokens and group columns.
    runs
        How many at most.
    least_gain
        A run with less gain is left out.
    buildable
        Also the shape to build: the family's nearest to each run's size.
    vocab_size
        Rows of embedding and head of the shapes to build: the tokenizer's vocabulary.
    plot
        Picture of the gain over the cost, and of where the runs lie: .png, .pdf or .svg.
    cost
        Another cost model than the posterior's own.
    json
        Print one JSON document.
    """
    from allometry.cli.output import stderr
    from allometry.decisions.buildable import nearest_shapes
    from allometry.decisions.design import design_runs

    check_picture(plot)
    loaded = open_posterior(posterior)
    wanted = _candidates(candidates)
    if buildable and (wanted is None or isinstance(wanted, dict)):
        check_shapes(loaded, Groups(group=candidates, unseen=True))  # runs of every group, or these
    with notes():
        table = design_runs(
            loaded,
            budget,
            decision,
            at=at,
            between=between,
            candidates=wanted,
            runs=runs,
            least_gain=least_gain,
            cost=other_cost(loaded, cost),
            **groups.which(),
        )
    stderr.print(_told(table, least_gain), soft_wrap=True, highlight=False, markup=False)
    if plot and len(table):
        from allometry.plots.design import draw_design
        from allometry.plots.tables import fitted_table

        write_picture(draw_design(table, fitted_table(loaded)), plot)
    if buildable and len(table):
        with notes():
            table = nearest_shapes(table, params="params", vocab_size=vocab_size)
    answered(table, as_json=json)
    return 0 if len(table) else 1


def _candidates(text: str | None) -> "dict[str, object] | pd.DataFrame | None":
    """Groups, where there is an equals sign, or a table of runs."""
    from allometry.observations.loading import load_table

    if text is None or "=" in text:
        return parse_group(text, option="--candidates")
    return load_table(Path(text))[0]


def _told(table: "pd.DataFrame", least_gain: float) -> str:
    """One sentence: what is better known, by how much, and for what."""
    from allometry.observations.units import power_text

    quantity = table.attrs["quantity"]
    if table.empty:
        return f"{quantity}: no run within the budget takes {least_gain:.2g} of its variance"
    last = table.iloc[-1]
    count = f"{len(table)} runs" if len(table) > 1 else "one run"
    change = f"sd {last['sd_before']:.3g} now, {last['sd_after']:.3g} expected after {count}"
    spent = power_text(last["cumulative_flops"])
    text = f"{quantity}: {change} of {spent} FLOPs together"
    if "expected_regret_after" in table:
        before, after = last["expected_regret_before"], last["expected_regret_after"]
        text += f"; expected regret {before:.2g} now, {after:.2g} then"
    return text
