"""What reading a table gives: the runs, and a record of what was done to get them."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """One row that was left out.

    Attributes
    ----------
    row : int
        Position in the source; 0 is the first row of data.
    run_id : str or None
        The run's name, where the table has one.
    reason : str
        The condition or rule that left it out.
    """

    row: int
    run_id: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runs:
    """Finished training runs that passed every rule, and how they came to be.

    Attributes
    ----------
    table : DataFrame
        One row a run, numbered from 0: `params`, `tokens`, `loss` and, where known, `flops`
        (float64), `context_length` (int64), `architecture` (text), the optional columns of a runs
        table, and every other column untouched.
    source : str
        File, registered name, or ``table`` for a frame.
    sha256 : str
        Of the file's bytes; for a frame, of its CSV text.
    mapped : dict of str to str
        Column of the source -> canonical name, for those that were renamed.
    excluded : tuple of Exclusion
        Rows left out, in the order of the source.
    warnings : tuple of str
        What stands but may surprise, with figures.
    by : tuple of str
        Columns of `table` whose cells are groups; empty: all runs are one group.
    loss_unit : str
        ``nats per token``, unless a registered table says that its unit is another or unknown;
        absolute priors on E hold for nats per token only.
    """

    table: pd.DataFrame
    source: str
    sha256: str
    mapped: dict[str, str]
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    loss_unit: str = "nats per token"


def count_groups(runs: Runs) -> pd.DataFrame:
    """One row a group: its columns, the number of runs, and the range of N, D, C and loss."""
    table = runs.table.assign(**({} if runs.by else {"group": "all"}))
    ranges = {
        f"{name}_{end}": (name, function)
        for name in ("params", "tokens", "flops", "loss")
        if name in table
        for end, function in (("low", "min"), ("high", "max"))
    }
    grouped = table.groupby(list(runs.by) or ["group"], sort=True)
    counted: pd.DataFrame = grouped.agg(runs=("loss", "size"), **ranges).reset_index()
    return counted
