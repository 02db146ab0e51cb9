"""What a caller asks: budgets and groups, checked and crossed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.decisions.asking import group_columns
from allometry.errors import InputError
from allometry.inference import Posterior

MOST = 1e60
"""FLOPs, or anything else that is counted; powers of more overflow."""


def check_budgets(flops: ArrayLike, *, where: str = "flops") -> npt.NDArray[np.float64]:
    """Budgets as a flat float array.

    Raises
    ------
    InputError
        If there are none, some are not numbers, or not positive, or more than anything to count.
    """
    try:
        values = np.atleast_1d(np.asarray(flops, dtype=np.float64)).ravel()
    except (TypeError, ValueError) as error:
        raise InputError(f"not a number: {flops!r}", where=where) from error
    if len(values) == 0:
        raise InputError("no budget given", where=where, hint="Give one or more, such as 1e22.")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if len(bad):
        what = f"must be positive and finite, got {', '.join(f'{v:g}' for v in bad[:5])}"
        raise InputError(what, where=where)
    if (many := values[values > MOST]).size:
        raise InputError(f"must be at most {MOST:g}, got {many[0]:g}", where=where)
    return values


def cross(
    posterior: Posterior, groups: list[int], flops: npt.NDArray[np.float64]
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every group with every budget: label columns, group indices and budgets, one row each."""
    index = np.repeat(np.asarray(groups, dtype=np.int64), len(flops))
    return group_columns(posterior, index), index, np.tile(flops, len(groups))


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A difference of loss that does not matter.

    Attributes
    ----------
    value : float
        In the unit of loss, or in percent of the best loss.
    percent : bool
        Which of the two.
    """

    value: float
    percent: bool = False

    def __post_init__(self) -> None:
        if not (self.value > 0 and np.isfinite(self.value)):
            hint = "Give a difference of loss such as 0.005, or a share of it such as 0.1%."
            raise InputError(f"must be positive, got {self.value:g}", where="within", hint=hint)

    @property
    def amount(self) -> float:
        """The value, percents as shares."""
        return self.value / 100 if self.percent else self.value


def check_level(level: "Level | float | str") -> Level:
    """A level from ``0.005`` (unit of loss) or ``"0.1%"`` (of the best loss).

    Examples
    --------
    >>> check_level("0.1%").amount
    0.001
    """
    if isinstance(level, Level):
        return level
    text = str(level).strip()
    try:
        return Level(value=float(text.removesuffix("%")), percent=text.endswith("%"))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        hint = "Give a difference of loss such as 0.005, or a share of it such as 0.1%."
        raise InputError(f"not a level: {text!r}", where="within", hint=hint) from None


def refuse_columns(posterior: Posterior) -> None:
    """Refuse a law that needs more than params and tokens: a budget does not say the rest."""
    if posterior.law.columns:
        columns = ", ".join(posterior.law.columns)
        what = f"law {posterior.law.name} needs {columns} beside a budget"
        raise InputError(what, hint="Use predict with a table that has these columns.")
