"""Where a cost model comes from: the accounting of a shape family, or a table's own FLOPs."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allometry.accounting.cost import SMALLEST_SLOPE, CostModel, smallest_slope
from allometry.accounting.family import STUDY_RANGE, choose_shape
from allometry.accounting.flops import training_flops_per_token
from allometry.accounting.shapes import VOCAB_SIZE
from allometry.errors import InputError

_Row = tuple[float, float, float]

# Scales of the table fit, on the natural log of FLOPs a token over 6 N. The noise is the width
# and depth that one size may have (1 to 6 % in the reference study); slopes there are -.16 to .06
# and curvatures -.02 to -.05, in six groups of two architectures and three contexts.
_NOISE_SD = 0.05
_POOLED_SD = np.array([np.inf, 0.2, 0.05])
_BETWEEN_SD = np.array([1.0, 0.1, 0.03])
_FIT_POINTS = 120


def accounting_cost(
    architectures: Sequence[str],
    context_lengths: Sequence[int],
    *,
    groups: Sequence[str] | None = None,
    range_params: ArrayLike = STUDY_RANGE,
    vocab_size: int = VOCAB_SIZE,
) -> CostModel:
    """Cost model from the shape family: what a run of any size costs, without a run.

    Parameters
    ----------
    architectures, context_lengths : sequences, one entry a group
        The cell of each group.
    groups : sequence of str, optional
        Names of the groups; by default ``"architecture, context_length"``.
    range_params : array-like, shape (2,) or (groups, 2)
        Smallest and largest params of each group, which the polynomial is fitted between; widened
        to a factor of ten at least.
    vocab_size : int
        Rows of the embedding and of the head.

    Returns
    -------
    CostModel
        Of kind ``accounting``; `residuals` say how far the family's own shapes scatter about it.

    Examples
    --------
    >>> cost = accounting_cost(["transformer", "xlstm"], [16384, 16384])
    >>> at_1b = cost.flops_per_token([0, 1], 1e9)
    >>> [round(float(c) / 6e9, 2) for c in at_1b]
    [1.67, 0.94]
    """
    if len(architectures) != len(context_lengths) or not len(architectures):
        what = f"{len(architectures)} architectures and {len(context_lengths)} context lengths"
        raise InputError(what, where="cost model", hint="Give one of each for every group.")
    ranges = np.broadcast_to(np.asarray(range_params, dtype=float), (len(architectures), 2))
    if not ((ranges[:, 0] > 0) & (ranges[:, 0] <= ranges[:, 1]) & np.isfinite(ranges[:, 1])).all():
        raise InputError(f"range_params must be (smallest, largest), got {ranges.tolist()}")
    reference = float(np.exp(np.log(ranges).mean()))
    rows, fitted, residuals = [], [], []
    for architecture, context_length, (low, high) in zip(
        architectures, context_lengths, ranges, strict=True
    ):
        widen = max(1.0, math.sqrt(10 * low / high))
        ends = (float(low / widen), float(high * widen))
        x, y = _family_points(architecture, int(context_length), *ends, vocab_size)
        row = _rising_polynomial(x - math.log(reference), y)
        rows.append(row)
        fitted.append(ends)
        residuals.append(_residual(row, x - math.log(reference), y))
    names = groups or [f"{a}, {t}" for a, t in zip(architectures, context_lengths, strict=True)]
    return CostModel(
        kind="accounting",
        groups=tuple(names),
        reference_params=reference,
        coefficients=tuple(rows),
        range_params=tuple(fitted),
        residuals=tuple(residuals),
    )


def table_cost(
    group: ArrayLike,
    params: ArrayLike,
    tokens: ArrayLike,
    flops: ArrayLike,
    *,
    groups: Sequence[str],
) -> CostModel:
    """Cost model learned from finished runs, partially pooled over groups.

    Ridge regression of ``log(flops / (6 params tokens))`` on a quadratic of log params: each
    group has its own intercept, its slope and curvature lean on those of all groups (more so the
    fewer runs it has), and these lean on zero. A group without runs gets the pooled ones.

    Parameters
    ----------
    group : array-like of int, shape (run,)
        Group index of every run.
    params, tokens, flops : array-like, shape (run,)
        Positive; params with embeddings, training FLOPs in all.
    groups : sequence of str
        Names of the groups.

    Returns
    -------
    CostModel
        Of kind ``table``.

    Raises
    ------
    InputError
        If there are no runs, or values that are not positive and finite.

    Examples
    --------
    >>> cost = table_cost([0, 0, 0], [1e8, 3e8, 1e9], [1e9] * 3, [6e17, 18e17, 6e18], groups=["a"])
    >>> round(float(cost.flops(0, 2e9, 1e9)) / 1e19, 6)
    1.2
    """
    index = np.asarray(group, dtype=int)
    N, D, C = (np.asarray(column, dtype=float) for column in (params, tokens, flops))
    _require_usable(index, {"params": N, "tokens": D, "flops": C}, len(groups))
    reference = float(np.exp(np.log(N).mean()))
    x, y = np.log(N / reference), np.log(C / D / (6.0 * N))
    coefficients = _pooled_quadratics(index, x, y, len(groups))
    rows, ranges, residuals = [], [], []
    for g in range(len(groups)):
        mine = index == g
        here = mine if mine.any() else np.ones_like(mine)
        low, high = float(x[here].min()), float(x[here].max())
        row = _as_row(coefficients[g])
        if smallest_slope(row, low, high) < SMALLEST_SLOPE:
            row = _simpler(row, low, high)
        rows.append(row)
        ranges.append((float(N[here].min()), float(N[here].max())))
        residuals.append(_residual(row, x[mine], y[mine]) if mine.any() else 0.0)
    return CostModel(
        kind="table",
        groups=tuple(groups),
        reference_params=reference,
        coefficients=tuple(rows),
        range_params=tuple(ranges),
        residuals=tuple(residuals),
    )


@lru_cache(maxsize=256)
def _family_points(
    architecture: str, context_length: int, low: float, high: float, vocab_size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Log params and log(FLOPs a token / 6 N) of the family's shapes between two sizes.
    choices = [
        choose_shape(architecture, float(params), vocab_size=vocab_size)
        for params in np.geomspace(low, high, _FIT_POINTS)
    ]
    N = np.array([choice.params for choice in choices], dtype=float)
    cost = [training_flops_per_token(choice.shape, context_length).total for choice in choices]
    x, y = np.log(N), np.log(np.array(cost) / (6.0 * N))
    x.flags.writeable = y.flags.writeable = False
    return x, y


def _rising_polynomial(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Row:
    for degree in (2, 1, 0):
        if np.unique(x).size > degree:
            ascending = np.polynomial.polynomial.polyfit(x, y, degree)
            row = _as_row(np.concatenate([ascending, np.zeros(2 - degree)]))
            if smallest_slope(row, float(x.min()), float(x.max())) >= SMALLEST_SLOPE:
                return row
    raise AssertionError("a constant always rises: its slope of log c is 1")


def _pooled_quadratics(
    index: NDArray[np.int_], x: NDArray[np.float64], y: NDArray[np.float64], n_groups: int
) -> NDArray[np.float64]:
    # Closed form of the two-level Gaussian model: groups eliminated, the pooled row solved first.
    basis = np.stack([np.ones_like(x), x, x * x], axis=1) / _NOISE_SD
    products = np.zeros((n_groups, 3, 3))
    targets = np.zeros((n_groups, 3))
    np.add.at(products, index, basis[:, :, None] * basis[:, None, :])
    np.add.at(targets, index, basis * (y / _NOISE_SD)[:, None])
    between = np.diag(_BETWEEN_SD**-2.0)
    inner = products + between
    gain = between @ np.linalg.solve(inner, np.broadcast_to(between, inner.shape))
    pull = np.linalg.solve(inner, targets[:, :, None])[:, :, 0] @ between
    pooled_precision = (between - gain).sum(axis=0) + np.diag(_POOLED_SD**-2.0)
    pooled = np.linalg.solve(pooled_precision, pull.sum(axis=0))
    right = targets + between @ pooled
    return np.linalg.solve(inner, right[:, :, None])[:, :, 0].astype(np.float64)


def _simpler(row: _Row, low: float, high: float) -> _Row:
    # Drop the curvature about the middle of the range, then the slope too, until c rises.
    b0, b1, b2 = row
    middle = (low + high) / 2
    slope = b1 + 2 * b2 * middle
    level = b0 + b1 * middle + b2 * middle**2
    straight = (level - slope * middle, slope, 0.0)
    if smallest_slope(straight, low, high) >= SMALLEST_SLOPE:
        return straight
    return (level, 0.0, 0.0)


def _residual(row: _Row, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    b0, b1, b2 = row
    return float(np.sqrt(np.mean((y - (b0 + b1 * x + b2 * x * x)) ** 2)))


def _as_row(values: NDArray[np.float64]) -> _Row:
    b0, b1, b2 = (float(value) for value in values)
    return (b0, b1, b2)


def _require_usable(
    index: NDArray[np.int_], columns: dict[str, NDArray[np.float64]], n_groups: int
) -> None:
    if not index.size:
        raise InputError("no runs to learn a cost model from", hint="Use cost accounting or 6nd.")
    broken = [
        f"{name} must be positive and finite (row {', '.join(map(str, rows[:5]))}"
        + (f" and {rows.size - 5} more)" if rows.size > 5 else ")")
        for name, values in columns.items()
        if (rows := np.flatnonzero(~((values > 0) & np.isfinite(values)))).size
    ]
    if any(values.shape != index.shape for values in columns.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in columns.items())
        broken.append(f"columns differ in length: group {index.shape}, {shapes}")
    if index.min() < 0 or index.max() >= n_groups:
        broken.append(f"group must be 0 to {n_groups - 1}, got {index.min()} to {index.max()}")
    if broken:
        raise InputError("; ".join(broken), where="cost model")
