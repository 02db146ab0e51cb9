"""Sizes, batches and steps of planned runs: where to measure a valley, and how long to train."""

import math
import warnings
from collections.abc import Iterator, Sequence

from allometry.accounting import (
    Shape,
    TransformerShape,
    XLSTMShape,
    count_params,
    family_shapes,
    study_batch_size,
    training_flops_per_sequence,
)
from allometry.errors import InputError
from allometry.harness.sweep.law import FAMILIES

TOLERANCE = 0.02
"""Largest relative distance of a run's FLOPs from its budget."""
MIN_STEPS = 64
"""Fewest optimizer steps of a run: fewer hardly train, and half a step is near 1 % of FLOPs."""
SPREAD = (0.2, 5.0)
"""Smallest and largest size of a valley, as shares of the expected optimum."""
STUDY_BUDGET = 6e18
"""From here on batches are the reference study's."""
_TINY = ((8, 1), (12, 1), (16, 1), (16, 2), (24, 1), (24, 2), (32, 1))  # width and depth
_SIDE = 1.25  # a size this factor from the optimum counts as on one side of it


class PlanWarning(UserWarning):
    """A plan that can be run but may not show what it is for."""


def rule_batch_tokens(budget: float) -> float:
    """Tokens a step for a budget: the study's from 6e18 FLOPs on, below it a fitted power.

    Below: ``0.2920 C^0.3271``, the near-optimal batches of DeepSeek LLM (arXiv:2401.02954,
    section 3.1), fitted there between 1e17 and 2e19 FLOPs and extrapolated here.

    Examples
    --------
    >>> rule_batch_tokens(1e19), round(rule_batch_tokens(1e13))
    (1048576.0, 5226)
    """
    if not budget > 0:
        raise InputError(f"a budget must be positive, got {budget}")
    if budget >= STUDY_BUDGET:
        return float(study_batch_size(1, budget))
    return float(0.2920 * budget**0.3271)


def choose_batch(
    shapes: Sequence[Shape], context_length: int, flops: float, batch_tokens: float
) -> int:
    """Sequences a step for runs that share a budget.

    A power of two near `batch_tokens`, halved until each run has at least `MIN_STEPS` steps: one
    batch for a whole valley, so that its sizes differ in nothing else.

    Raises
    ------
    InputError
        If even one sequence a step gives some shape too few steps.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> choose_batch([preset("transformer-tiny")], 128, 1e12, 4096)
    32
    """
    costly = max(shapes, key=lambda s: training_flops_per_sequence(s, context_length).total)
    sequences = flops / training_flops_per_sequence(costly, context_length).total
    if sequences < MIN_STEPS:
        what = (
            f"{flops:.3g} FLOPs train {costly.architecture} of {count_params(costly).total:,} "
            f"params at context {context_length} for {sequences:.0f} sequences; a run needs "
            f"{MIN_STEPS} steps"
        )
        raise InputError(what, hint="Raise the budget, or plan smaller sizes or contexts.")
    batch_size: int = 2 ** round(math.log2(max(1.0, batch_tokens / context_length)))
    while sequences / batch_size < MIN_STEPS:
        batch_size //= 2
    return batch_size


def place_sizes(
    architecture: str,
    *,
    context_length: int,
    budget: float,
    optimum: float,
    sizes: int,
    spread: tuple[float, float] = SPREAD,
    vocab_size: int,
) -> list[Shape]:
    """Shapes of one valley: `sizes` of the family, evenly spaced in log N around the optimum.

    Shapes that the budget trains for fewer than `MIN_STEPS` single sequences are not candidates.

    Parameters
    ----------
    optimum : float
        Expected compute-optimal params.
    sizes : int
        Wanted shapes; fewer come back if the family has no more in the spread.
    spread : (float, float)
        Smallest and largest size, as shares of `optimum`.

    Warns
    -----
    PlanWarning
        If fewer than two sizes lie on a side of the optimum, or fewer than `sizes` were found.
    """
    low, high = spread
    if not 0 < low < 1 < high:
        raise InputError(f"spread must be one number below 1 and one above, got {low} {high}")
    if sizes < 3:
        raise InputError(f"a valley needs at least 3 sizes a budget, got {sizes}")
    where = f"{architecture} at context {context_length}, {budget:.3g} FLOPs"
    candidates = _affordable(architecture, context_length, budget, vocab_size)
    if not candidates:
        what = f"no shape of the family can be trained for {MIN_STEPS} sequences"
        raise InputError(what, where=where, hint="Raise the budget or shorten the context.")
    # The family may end inside the spread: space the sizes over what there is.
    smallest = max(low * optimum, min(candidates))
    largest = max(min(high * optimum, max(candidates)), smallest)
    chosen: dict[int, Shape] = {}
    for k in range(sizes):
        target = smallest * (largest / smallest) ** (k / (sizes - 1))
        free = [params for params in candidates if params not in chosen]
        if not free:
            break
        nearest = min(free, key=lambda params: _misfit(candidates[params], params, target))
        chosen[nearest] = candidates[nearest]
    _warn_if_one_sided(sorted(chosen), optimum, sizes, where)
    return [chosen[params] for params in sorted(chosen)]


def nearest_shape(architecture: str, params: float, vocab_size: int) -> Shape:
    """Shape to plan for a wanted size, with embeddings; warns if it is a fifth or more off.

    Proportions count beside size, so it need not be the nearest of all.

    Examples
    --------
    >>> nearest_shape("transformer", 400e6, 50_304).d_model
    1024
    """
    counted = {count_params(s).total: s for s in planned_shapes(architecture, vocab_size)}
    nearest = min(counted, key=lambda n: _misfit(counted[n], n, params))
    if abs(nearest / params - 1) >= 0.2:
        what = f"the {architecture} nearest to {params:,.0f} params has {nearest:,}"
        warnings.warn(what, PlanWarning, stacklevel=3)
    return counted[nearest]


def planned_shapes(architecture: str, vocab_size: int) -> Iterator[Shape]:
    """Shapes to choose sizes from: the families, and a few below the smallest of them.

    The latter have one head of at least 16; they close the left side of valleys at budgets that a
    laptop can pay.
    """
    for d_model, n_layers in _TINY:
        sizes = {"d_model": d_model, "n_layers": n_layers, "vocab_size": vocab_size}
        if architecture == "transformer":
            yield TransformerShape(**sizes, n_heads=max(1, d_model // 16))
        else:
            yield XLSTMShape(**sizes, n_heads=1, head_dim_qk=16)
    for family in FAMILIES:
        yield from family_shapes(architecture, vocab_size=vocab_size, family=family)


def _misfit(shape: Shape, params: int, target: float) -> float:
    # The study's width / depth is about 50 at 2e8 params and grows as N^0.17 over its grid. A fifth
    # of the size's weight: sizes may move a little so that proportions do not jump along a valley.
    proportion = 50 * (params / 2e8) ** 0.17
    odd = abs(math.log(shape.d_model / shape.n_layers / proportion))
    return abs(math.log(params / target)) + odd / 5


def _affordable(
    architecture: str, context_length: int, budget: float, vocab_size: int
) -> dict[int, Shape]:
    shapes: dict[int, Shape] = {}
    for shape in planned_shapes(architecture, vocab_size):
        cost = training_flops_per_sequence(shape, context_length).total
        if budget / cost >= MIN_STEPS:
            shapes.setdefault(count_params(shape).total, shape)
    return shapes


def _warn_if_one_sided(params: Sequence[int], optimum: float, sizes: int, where: str) -> None:
    below = sum(n < optimum / _SIDE for n in params)
    above = sum(n > optimum * _SIDE for n in params)
    if min(below, above) < min(2, (sizes - 1) // 2):
        what = (
            f"{where}: {below} sizes below and {above} above the expected optimum of "
            f"{optimum:,.0f} params; the valley may lie outside the grid. Change the budget, the "
            "vocabulary or the spread"
        )
        warnings.warn(what, PlanWarning, stacklevel=4)
    elif len(params) < sizes:
        what = f"{where}: the family has only {len(params)} of {sizes} sizes in the spread"
        warnings.warn(what, PlanWarning, stacklevel=4)
