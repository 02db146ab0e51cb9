"""Where a valley is expected: a loss law, or optima someone has already estimated.

A planner has to know roughly where loss against log N has its minimum before any run is made. The
law here is plain arithmetic on published coefficients; better numbers come in as a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from allometry.accounting import count_params, family_shapes, training_flops_per_sequence
from allometry.errors import InputError

FAMILIES: tuple[Literal["small", "study"], ...] = ("small", "study")
_OPTIMA_COLUMNS = ("architecture", "context_length", "flops")
_OPTIMUM_NAMES = ("params", "params_median")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanningLaw:
    """Additive power law, ``L = E + A N^-alpha + B D^-beta``; N and D in units of one.

    Defaults: the re-fit of Hoffmann et al.'s runs by Besiroglu et al. 2024, arXiv:2404.10102.
    """

    E: float = 1.8172
    A: float = 482.01
    B: float = 2085.43
    alpha: float = 0.3478
    beta: float = 0.3658

    def __post_init__(self) -> None:
        if not (self.A > 0 and self.B > 0 and self.alpha > 0 and self.beta > 0):
            raise InputError(f"A, B, alpha and beta must be positive: {self}", where="planning law")

    def loss(self, params: NDArray[np.float64], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected loss, nats per token."""
        return self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta


@dataclass(frozen=True, kw_only=True)
class Optima:
    """Compute-optimal params: from a table where it has the group, else from a law.

    Attributes
    ----------
    law : PlanningLaw
        Used for groups that `table` does not have.
    table : DataFrame or None
        Columns architecture, context_length, flops and params (or params_median, as
        ``allometry allocate`` prints). Between its budgets log N* is interpolated, beyond them it
        goes on with the slope of the nearest two (0.5 where there is only one).
    """

    law: PlanningLaw = PlanningLaw()
    table: pd.DataFrame | None = None

    def params(
        self, architecture: str, context_length: int, flops: float, *, vocab_size: int
    ) -> float:
        """N* for a budget, with embeddings."""
        if self.table is not None:
            rows = self.table[
                (self.table.architecture == architecture)
                & (self.table.context_length == context_length)
            ].sort_values("flops")
            if len(rows):
                at = [math.log(value) for value in rows.flops]
                return math.exp(_straight(at, [math.log(n) for n in rows.params], math.log(flops)))
        return self._law_optimum(architecture, context_length, flops, vocab_size)

    def _law_optimum(
        self, architecture: str, context_length: int, flops: float, vocab_size: int
    ) -> float:
        # Tokens by the true cost of the shapes, not by 6 N D: at long contexts they differ by two.
        costs = {
            count_params(shape).total: training_flops_per_sequence(shape, context_length).total
            for family in FAMILIES
            for shape in family_shapes(architecture, vocab_size=vocab_size, family=family)
        }
        known = np.array(sorted(costs), dtype=float)
        per_token = np.array([costs[int(n)] for n in known]) / context_length
        # Ten times beyond the family on both sides, where cost goes on in proportion to params:
        # an optimum outside the family has to be seen as one.
        params = np.geomspace(known[0] / 10, known[-1] * 10, 2000)
        inside = np.interp(np.log(params), np.log(known), np.log(per_token / known))
        tokens = flops / (np.exp(inside) * params)
        return float(params[np.argmin(self.law.loss(params, tokens))])


def read_optima(path: Path) -> pd.DataFrame:
    """Table of compute-optimal params, as ``allometry allocate --json`` or a CSV file gives it.

    Raises
    ------
    InputError
        If a column is missing or a number is not positive.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    try:
        table = pd.read_json(path) if path.suffix == ".json" else pd.read_csv(path)
    except ValueError as error:
        raise InputError(
            f"cannot be read as a table: {str(error).strip()}", where=str(path)
        ) from error
    name = next((name for name in _OPTIMUM_NAMES if name in table), "")
    missing = [column for column in _OPTIMA_COLUMNS if column not in table]
    if missing or not name:
        missing += [] if name else ["params or params_median"]
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}"
        raise InputError(what, where=str(path))
    optima = table[list(_OPTIMA_COLUMNS)].assign(params=table[name])
    if not (optima[["flops", "params"]] > 0).all(axis=None):
        raise InputError("flops and params must be positive", where=str(path))
    return optima


def _straight(x: Sequence[float], y: Sequence[float], at: float) -> float:
    if len(x) == 1:
        return y[0] + 0.5 * (at - x[0])
    k = min(max(int(np.searchsorted(x, at)), 1), len(x) - 1)
    return y[k - 1] + (y[k] - y[k - 1]) * (at - x[k - 1]) / (x[k] - x[k - 1])
