"""Runs that no smooth law can hold: a robust rule that looks twice before it leaves one out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from allometry.observations.record import Exclusion

FEWEST_RUNS = 10
"""Groups smaller than this are not judged: three coefficients leave too little to tell by."""

Array = NDArray[np.float64]

_EXPONENTS = np.arange(0.1, 0.81, 0.1)  # alpha and beta of published laws lie within
_NEIGHBOURS = 12
_MAD_TO_SD = 1.4826  # of a Normal distribution


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """Robust additive law of one group, for screening only.

    Attributes
    ----------
    E : float
        Asymptote, in units of the loss.
    residual : ndarray, shape (runs,)
        Observed over fitted loss, minus one.
    scale : float
        1.4826 times the median absolute residual.
    """

    E: float
    residual: Array
    scale: float


def robust_exclusions(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = (),
    threshold: float = 8.0,
    smallest: float = 0.02,
) -> list[Exclusion]:
    """Find runs whose loss is far from both the law and the neighbours of their group.

    A run is left out when its loss is off by more than `threshold` robust standard deviations
    *and* by more than `smallest`, as a fraction, from two surfaces: an additive law fitted by
    least absolute errors to the group, and a plane through the logarithms of its nearest
    neighbours in (log N, log D), the run itself left out. The first alone would take the edges of
    a group for outliers where the law bends otherwise; the second alone, the ends of a sparse one.

    Parameters
    ----------
    table : DataFrame
        Validated runs.
    by : sequence of str
        Columns whose cells are judged apart. Groups below `FEWEST_RUNS` are left alone.
    threshold : float
        Robust standard deviations; 8 leaves out fewer than one clean run in a thousand even under
        Student-t noise with 4 degrees of freedom.
    smallest : float
        Relative error below which a run is never left out.

    Returns
    -------
    list of Exclusion
        Rows as in the table's index, with both distances in the reason.
    """
    found = []
    for _, group in split_groups(table, by):
        if len(group) < FEWEST_RUNS:
            continue
        surface = fit_surface(group)
        local, local_scale = _neighbour_residuals(group)
        for index, row in enumerate(group.index):
            from_law, from_plane = surface.residual[index], local[index]
            far = (
                abs(from_law) > max(threshold * surface.scale, smallest)
                and abs(from_plane) > max(threshold * local_scale, smallest)
                and np.sign(from_law) == np.sign(from_plane)
            )
            if far:
                reason = (
                    f"outlier: loss {group['loss'].iloc[index]:.4g} is {from_law:+.1%} off the law "
                    f"of its group ({abs(from_law) / surface.scale:.0f} robust sd) and "
                    f"{from_plane:+.1%} off its neighbours"
                )
                name = group["run_id"].iloc[index] if "run_id" in group else None
                run_id = None if name is None or pd.isna(name) else str(name)
                found.append(Exclusion(row=int(row), run_id=run_id, reason=reason))
    return found


def split_groups(
    table: pd.DataFrame, by: Sequence[str]
) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """Yield the groups of a table as (cell, rows); one group without a cell where `by` is empty."""
    if not by:
        yield {}, table
        return
    for key, group in table.groupby(list(by), sort=True):
        yield dict(zip(by, key, strict=True)), group


def fit_surface(group: pd.DataFrame, *, steps: int = 25) -> Surface:
    """Least absolute relative errors of E + A N^-alpha + B D^-beta, exponents on a grid."""
    params, tokens, loss = (group[name].to_numpy(float) for name in ("params", "tokens", "loss"))
    n, d = params / np.exp(np.log(params).mean()), tokens / np.exp(np.log(tokens).mean())
    alpha, beta = (grid.reshape(-1, 1) for grid in np.meshgrid(_EXPONENTS, _EXPONENTS))
    terms = [np.broadcast_to(1.0, (len(alpha), len(n))), n**-alpha, d**-beta]
    design = np.stack(terms, axis=-1) / loss[:, None]  # exponents, runs, coefficients
    coefficients = _least_absolute(design, np.ones(design.shape[:2]), steps)
    fitted = np.einsum("brk,bk->br", design, coefficients)
    best = int(np.argmin(np.abs(1.0 - fitted).sum(axis=1)))
    residual = 1.0 / np.maximum(fitted[best], 1e-3) - 1.0
    return Surface(E=float(coefficients[best, 0]), residual=residual, scale=_robust_sd(residual))


def _neighbour_residuals(group: pd.DataFrame) -> tuple[Array, float]:
    # Relative error of each loss from a robust plane through its neighbours' log losses.
    from scipy.spatial import cKDTree  # a third of a second, and only this rule needs it

    place = np.log(group[["params", "tokens"]].to_numpy(float))
    place = (place - place.mean(axis=0)) / np.maximum(place.std(axis=0), 1e-9)
    loss = np.log(group["loss"].to_numpy(float))
    count = min(_NEIGHBOURS + 1, len(loss))
    _, near = cKDTree(place).query(place, k=count)
    # Runs at one place may hide the run itself among its equals: then drop the farthest.
    itself = near == np.arange(len(loss))[:, None]
    itself[~itself.any(axis=1), -1] = True
    near = near[~itself].reshape(len(loss), count - 1)
    away = place[near] - place[:, None, :]
    design = np.concatenate([np.ones((*near.shape, 1)), away], axis=-1)
    plane = _least_absolute(design, loss[near], steps=25)
    residual: Array = np.expm1(loss - plane[:, 0])
    return residual, _robust_sd(residual)


def _least_absolute(design: Array, target: Array, steps: int) -> Array:
    """Coefficients of least absolute errors; shapes (batch, rows, k), (batch, rows) to (batch, k).

    Iteratively reweighted least squares, the weights floored at a tenth of the spread; a ridge far
    below the rounding of any table keeps designs without a second N or D solvable.
    """
    weight = np.ones_like(target)
    size = np.maximum((design**2).sum(axis=(1, 2)), 1e-300)
    ridge = 1e-10 * size[:, None, None] * np.eye(design.shape[-1])
    for _ in range(steps):
        scaled = np.swapaxes(design * weight[..., None], 1, 2)
        normal = scaled @ design
        level = weight.mean(axis=1)[:, None, None]
        right = scaled @ target[..., None]
        coefficients: Array = np.linalg.solve(normal + level * ridge, right)[..., 0]
        residual = np.abs(target - np.einsum("brk,bk->br", design, coefficients))
        weight = 1.0 / np.maximum(
            residual, 0.1 * np.median(residual, axis=1, keepdims=True) + 1e-12
        )
    return coefficients


def _robust_sd(residual: Array) -> float:
    return float(_MAD_TO_SD * np.median(np.abs(residual))) + 1e-12
