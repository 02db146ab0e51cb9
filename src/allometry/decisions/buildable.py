"""Shapes that can be built: from a wanted number of params to widths, depth and heads."""

import warnings
from functools import lru_cache
from typing import Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import (
    VOCAB_SIZE,
    CostModel,
    Shape,
    count_params,
    family_shapes,
    training_flops_per_token,
)
from allometry.decisions.asking import Which, ask
from allometry.decisions.grids import valley
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.costs import ARCHITECTURES

NEAR = 1.35
"""Shapes are looked for within this factor of the wanted params, then ever wider."""

WIDER = (NEAR, 2.0)


SHAPE_COLUMNS = (
    *("buildable_params", "buildable_tokens", "d_model", "n_layers", "n_heads"),
    *("buildable_regret", "buildable_regret_percent"),
)


class NoShapeWarning(UserWarning):
    """No shape of the family is nearly as large as a wanted size."""


def buildable(
    posterior: Posterior,
    table: pd.DataFrame,
    *,
    params: str = "params",
    vocab_size: int = VOCAB_SIZE,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """A table of decisions with the shape to build for each row, and what it loses.

    Of the family's shapes near the wanted size the one with the least expected regret is taken,
    each trained on the tokens that the budget buys it: its own FLOPs where the posterior's cost
    model is the accounting, so that widths and depths that cost more for their size are seen.

    Parameters
    ----------
    posterior : Posterior
    table : DataFrame
        Group columns, ``flops`` (training budget) and the wanted size.
    params : str
        Column of the wanted size.
    vocab_size : int
        Rows of the embedding and of the head.
    cost : CostModel, optional
        Instead of the posterior's own.
    which : Which
        As the table was asked for: needed where its groups were never run.

    Returns
    -------
    DataFrame
        The table with ``buildable_params``, ``buildable_tokens``, ``d_model``, ``n_layers``,
        ``n_heads``, ``buildable_regret`` and ``buildable_regret_percent`` (expected); NaN where
        no shape is within a factor of two of the wanted size.

    Raises
    ------
    InputError
        If the family has no shapes of an architecture.

    Warns
    -----
    NoShapeWarning
        For each size that no shape is near to.
    """
    posterior, _ = ask(posterior, cost=cost, **which)
    index = group_index(posterior, table)
    rows = [
        _nearest(posterior, g, float(flops), float(wanted), vocab_size)
        for g, flops, wanted in zip(index, table["flops"], table[params], strict=True)
    ]
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def nearest_shapes(
    table: pd.DataFrame, *, params: str = "params_median", vocab_size: int = VOCAB_SIZE
) -> pd.DataFrame:
    """A table with the family's shape nearest to the size in a column.

    Returns
    -------
    DataFrame
        The table with ``buildable_params``, ``d_model``, ``n_layers``, ``n_heads``; NaN where no
        size is known, or no shape is within a factor of two of it.

    Warns
    -----
    NoShapeWarning
        For each size that no shape is near to.
    """
    rows = []
    for _, row in table.iterrows():
        wanted = float(row[params])
        names = ("buildable_params", "d_model", "n_layers", "n_heads")
        near = []
        if np.isfinite(wanted):
            near = shapes_near(str(row.get("architecture")), wanted, vocab_size=vocab_size)
        if not near:
            rows.append(dict.fromkeys(names, np.nan))
            continue
        shape, total = min(near, key=lambda pair: abs(np.log(pair[1] / wanted)))
        values = (float(total), shape.d_model, shape.n_layers, shape.n_heads)
        rows.append(dict(zip(names, values, strict=True)))
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def group_index(posterior: Posterior, table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Index of the group of each row."""
    names = list(posterior.groups.columns)
    known = posterior.groups.astype(str).agg("/".join, axis=1)
    place = {name: i for i, name in enumerate(known)}
    return np.array([place[key] for key in table[names].astype(str).agg("/".join, axis=1)])


def shapes_near(
    architecture: str, params: float, *, vocab_size: int = VOCAB_SIZE
) -> list[tuple[Shape, int]]:
    """Shapes of the family near a size with their params; none, with a warning, if none is.

    Raises
    ------
    InputError
        If the accounting does not know the architecture.
    """
    if architecture not in ARCHITECTURES:
        what = f"no shapes are known of architecture {architecture!r}"
        hint = f"The accounting has shapes of {', '.join(ARCHITECTURES)}."
        raise InputError(what, where="buildable", hint=hint)
    every = _family(architecture, vocab_size)
    away = np.abs(np.log(np.array([total for _, total in every]) / params))
    for reach in WIDER:
        if (near := np.flatnonzero(away <= np.log(reach))).size:
            return [every[i] for i in near]
    nearest = every[int(away.argmin())][1]
    text = (
        f"no {architecture} of the family has nearly {params:.3g} params with a vocabulary of "
        f"{vocab_size:,}: the nearest has {nearest:.3g}, and is left out"
    )
    if nearest > params:
        text += "; a smaller vocabulary (--vocab-size, vocab_size=) allows smaller ones"
    warnings.warn(text, NoShapeWarning, stacklevel=3)
    return []


@lru_cache(maxsize=8)
def _family(architecture: str, vocab_size: int) -> tuple[tuple[Shape, int], ...]:
    shapes = [
        shape
        for family in ("small", "study")
        for shape in family_shapes(architecture, vocab_size=vocab_size, family=family)
    ]
    return tuple((shape, count_params(shape).total) for shape in shapes)


def _nearest(
    posterior: Posterior, group: int, flops: float, wanted: float, vocab_size: int
) -> dict[str, object]:
    row = posterior.groups.iloc[group]
    near = shapes_near(str(row.get("architecture")), wanted, vocab_size=vocab_size)
    if not near:
        return dict.fromkeys(SHAPE_COLUMNS, np.nan)
    sizes = np.array([total for _, total in near], dtype=np.float64)
    tokens = None
    if posterior.record.cost.kind == "accounting" and "context_length" in row:
        context = int(row["context_length"])
        each = [training_flops_per_token(shape, context).total for shape, _ in near]
        tokens = flops / np.array(each)
    found = valley(posterior, group, flops, params=sizes, tokens=tokens)
    relative = found.signed_relative_regret
    regret = found.in_loss(relative).mean(axis=0)
    best = int(regret.argmin())
    shape = near[best][0]
    values = (
        sizes[best],
        found.tokens[best],
        shape.d_model,
        shape.n_layers,
        shape.n_heads,
        float(regret[best]),
        float(100 * relative[:, best].mean()),
    )
    return dict(zip(SHAPE_COLUMNS, values, strict=True))
