"""What serving a model costs in FLOPs, by its size: the demand side of a lifetime."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from allometry.accounting import choose_shape, count_params, decode_flops
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.costs import ARCHITECTURES

Serving = Literal["decode", "2n"]
Floats = npt.NDArray[np.float64]

WIDEST = (1e6, 1e14)
"""Params that are searched at all, where no run is nearly as small."""

BELOW = 20.0
"""Sizes are searched down to the smallest run's over this."""

SHAPE_POINTS = 25
"""Sizes at which decode steps are counted."""

SERVED_POINTS = 257
"""Sizes between which the largest one that a total can serve is interpolated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One question of one group: what is fixed, and what serving costs.

    Attributes
    ----------
    group : int
    served_tokens : float
    target_loss : float or None
    total_flops : float or None
    serving : {"decode", "2n"}
    serving_context : float or None
    """

    group: int
    served_tokens: float
    target_loss: float | None
    total_flops: float | None
    serving: Serving
    serving_context: float | None


def serving_flops(
    architecture: str, params: Floats, *, context_length: float, serving: Serving = "decode"
) -> Floats:
    """FLOPs of a served token for models of any size, a smooth function of params.

    With ``decode``: a quadratic of log params through the decode steps of the family's shapes over
    2 N each, so that widths and depths, which come in steps, do not make the optimum jump.

    Examples
    --------
    >>> float(serving_flops("any", np.array([1e9]), context_length=1, serving="2n")[0])
    2000000000.0
    """
    if serving == "2n":
        return 2.0 * params
    wanted = np.geomspace(params.min(), params.max() * (1 + 1e-9), SHAPE_POINTS)
    shapes = [choose_shape(architecture, float(size)).shape for size in wanted]
    sizes = np.array([count_params(shape).total for shape in shapes], dtype=np.float64)
    steps = [decode_flops(shape, max(round(context_length), 1)).total for shape in shapes]
    ratio = np.log(np.array(steps) / (2.0 * sizes))
    degree = min(2, len(np.unique(sizes)) - 1)
    x = np.log(sizes) - np.log(sizes).mean()
    smooth = np.polynomial.polynomial.polyfit(x, ratio, degree)
    inside = np.clip(np.log(params), np.log(sizes.min()), np.log(sizes.max()))
    at = inside - np.log(sizes).mean()
    return np.asarray(2.0 * params * np.exp(np.polynomial.polynomial.polyval(at, smooth)))


def serving_choice(
    posterior: Posterior, group: int, serving: Serving | None, context: int | None
) -> tuple[Serving, float | None]:
    """How served tokens are counted for a group, and the context of serving."""
    if serving is not None and serving not in get_args(Serving):
        raise InputError(f"must be decode or 2n, got {serving!r}", where="serving")
    row = posterior.groups.iloc[group]
    known = str(row.get("architecture")) in ARCHITECTURES
    if context is None and "context_length" in row:
        context = max(int(row["context_length"]) // 2, 1)
    if serving == "2n" or (serving is None and (not known or context is None)):
        return "2n", None
    if not known or context is None:
        what = "decode FLOPs need an architecture that the accounting knows, and a context"
        hint = f"Use 2n (--serving 2n), or one of {', '.join(ARCHITECTURES)} with serving_context."
        raise InputError(what, where="/".join(map(str, row)), hint=hint)
    return "decode", float(context)


def serve_all(posterior: Posterior, plan: Plan, sizes: Floats) -> Floats:
    """FLOPs of serving all tokens with models of these sizes, (point,)."""
    first = str(posterior.groups.iloc[plan.group].get("architecture"))
    context = plan.serving_context or 1.0
    each = serving_flops(first, sizes, context_length=context, serving=plan.serving)
    return plan.served_tokens * each


def searched_sizes(posterior: Posterior, points: int) -> Floats:
    """Sizes between the ends of what is searched, evenly on the log scale, (point,)."""
    smallest = float(posterior.idata["constant_data"]["params"].min())
    return np.geomspace(min(WIDEST[0], smallest / BELOW), WIDEST[1], points)


def largest_served(posterior: Posterior, plan: Plan) -> float:
    """Params at which serving alone takes the whole total."""
    sizes = searched_sizes(posterior, SERVED_POINTS)
    serve = serve_all(posterior, plan, sizes)
    total = plan.total_flops or 0.0
    if serve[-1] <= total:
        return float(np.inf)
    return float(np.exp(np.interp(np.log(total), np.log(serve), np.log(sizes))))
