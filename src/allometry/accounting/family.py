"""The shape family: from a wanted number of parameters to widths, depth and heads.

Two families share one rule. ``study`` is the grid of the reference study, 80M to 7B parameters at
its vocabulary. ``small`` continues it downwards for models that train on a laptop.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from allometry.accounting.params import count_params
from allometry.accounting.shapes import VOCAB_SIZE, Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError

Architecture = Literal["transformer", "xlstm"]
Family = Literal["study", "small"]

STUDY_RANGE = (80e6, 7e9)
"""Parameters (total) between which the study's grid lies; above, shapes are extrapolated."""
SMALL_RANGE = (50e3, 80e6)
"""Parameters (total) for which the small family is meant."""

# Leave 2 % of size for the middle of a width's depths: sizes come in near-ties of width and depth.
_DEPTH_PREFERENCE = 0.02

# Width to the range of depths trained at it (the study's IsoFLOP grid).
_STUDY_DEPTHS: dict[int, tuple[int, int]] = (
    {512: (10, 16), 640: (10, 16), 768: (12, 18), 896: (12, 27), 1024: (18, 30)}
    | dict.fromkeys((1152, 1280, 1408, 1536, 1792), (24, 30))
    | dict.fromkeys((2048, 2304), (24, 36))
    | dict.fromkeys((2560, 2816, 3072, 3328, 3584, 4096), (28, 38))
)
_LARGER_WIDTHS = (5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480)


class ExtrapolationWarning(UserWarning):
    """A shape outside the sizes that its family was made from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeChoice:
    """A shape of the family and how well it answers the question.

    Attributes
    ----------
    shape : TransformerShape or XLSTMShape
        Can be built by `allometry.models`.
    params : int
        Its total parameters, embedding and head included.
    relative_error : float
        ``params / wanted - 1``.
    family : {"study", "small"}
        Where it comes from.
    extrapolated : bool
        The wanted size is outside the range of the family, or by more than a tenth outside the
        sizes that it has at this vocabulary.
    """

    shape: Shape
    params: int
    relative_error: float
    family: Family
    extrapolated: bool


def choose_shape(
    architecture: str,
    params: float,
    *,
    vocab_size: int = VOCAB_SIZE,
    family: Family | None = None,
) -> ShapeChoice:
    """Shape whose total parameters come closest to `params`, with what to know about it.

    Minimises ``|ln(N / params)| + 0.02 |n - mid| / mid`` over the widths of the family and the
    depths n of each width, mid being the middle of those depths.

    Parameters
    ----------
    architecture : {"transformer", "xlstm"}
        Family name, as in the column `architecture`.
    params : float
        Wanted total, embedding and head included.
    vocab_size : int
        Rows of the embedding and of the head.
    family : {"study", "small"}, optional
        By default ``small`` below 80M parameters, ``study`` from there on.

    Raises
    ------
    InputError
        If the architecture or family is unknown, or `params` is not a positive number.

    Examples
    --------
    >>> choice = choose_shape("transformer", 400e6)
    >>> choice.shape.d_model, choice.shape.n_layers, choice.extrapolated
    (1024, 23, False)
    >>> choose_shape("xlstm", 1e6, vocab_size=256).shape.d_model
    160
    """
    if not (params > 0 and math.isfinite(params)):
        raise InputError(f"params must be a positive number, got {params}")
    if family is not None and family not in get_args(Family):
        raise InputError(f"family must be study or small, got {family!r}")
    chosen: Family = family or ("small" if params < SMALL_RANGE[1] else "study")
    candidates = _candidates(architecture, vocab_size, chosen)
    shape, total, _ = min(
        candidates, key=lambda row: abs(math.log(row[1] / params)) + _DEPTH_PREFERENCE * row[2]
    )
    low, high = STUDY_RANGE if chosen == "study" else SMALL_RANGE
    sizes = [total for _, total, _ in candidates]  # a large vocabulary lifts the smallest
    low, high = max(low, 0.9 * min(sizes)), min(high, 1.1 * max(sizes))
    return ShapeChoice(
        shape=shape,
        params=total,
        relative_error=total / params - 1,
        family=chosen,
        extrapolated=not low <= params <= high,
    )


def shape_for(
    architecture: str,
    params: float,
    *,
    vocab_size: int = VOCAB_SIZE,
    family: Family | None = None,
) -> Shape:
    """Shape whose total parameters come closest to `params`; see `choose_shape`.

    Warns
    -----
    ExtrapolationWarning
        If `params` is outside 80M to 7B (``study``) or 50k to 80M (``small``), or below what
        this vocabulary allows.

    Examples
    --------
    >>> shape = shape_for("xlstm", 160e6)
    >>> shape.d_model, shape.n_layers, shape.n_heads, shape.head_dim_v
    (768, 12, 6, 128)
    """
    choice = choose_shape(architecture, params, vocab_size=vocab_size, family=family)
    if choice.extrapolated:
        low, high = STUDY_RANGE if choice.family == "study" else SMALL_RANGE
        what = (
            f"shape for {params:.4g} parameters extrapolates the {choice.family} family, made from "
            f"{low:.3g} to {high:.3g}; the shape taken has {choice.params:,}"
        )
        warnings.warn(what, ExtrapolationWarning, stacklevel=2)
    return choice.shape


def family_shapes(
    architecture: str, *, vocab_size: int = VOCAB_SIZE, family: Family = "study"
) -> tuple[Shape, ...]:
    """Every shape of a family, extrapolated widths included, by width and then depth."""
    return tuple(shape for shape, _, _ in _candidates(architecture, vocab_size, family))


def shape_of(
    architecture: str,
    d_model: int,
    n_layers: int,
    *,
    family: Family = "study",
    vocab_size: int = VOCAB_SIZE,
) -> Shape:
    """Shape of the given width and depth, with the heads that the family gives this width.

    Study, Transformer: heads of 64 up to width 1024, 128 above. Study, xLSTM: value heads of 256 at
    widths 1024, 1280 and from 1536 on, else 128. Small: the widest head of (64, 32, 16)
    (Transformer) or (128, 64, 32) (xLSTM) of which at least four fit, else the narrowest.
    Query/key heads of the xLSTM are half as wide as its value heads.

    Examples
    --------
    >>> shape_of("xlstm", 1280, 24).n_heads, shape_of("transformer", 96, 3, family="small").n_heads
    (5, 6)
    """
    head_dim = _head_dim(architecture, d_model, family)
    if d_model % head_dim:
        what = f"d_model {d_model} is not a multiple of the family's head width {head_dim}"
        raise InputError(what, where=architecture, hint=f"Use a multiple of {head_dim}.")
    heads = d_model // head_dim
    if architecture == "transformer":
        return TransformerShape(
            d_model=d_model, n_layers=n_layers, n_heads=heads, vocab_size=vocab_size
        )
    return XLSTMShape(d_model=d_model, n_layers=n_layers, n_heads=heads, vocab_size=vocab_size)


def _head_dim(architecture: str, d_model: int, family: Family) -> int:
    if architecture not in get_args(Architecture):
        valid = ", ".join(get_args(Architecture))
        raise InputError(f"architecture must be one of {valid}, got {architecture!r}")
    if family == "study":
        if architecture == "transformer":
            return 64 if d_model <= 1024 else 128
        return 256 if d_model in (1024, 1280) or d_model >= 1536 else 128
    widths = (64, 32, 16) if architecture == "transformer" else (128, 64, 32)
    fitting = [width for width in widths if d_model % width == 0 and d_model // width >= 4]
    return fitting[0] if fitting else widths[-1]


@lru_cache(maxsize=64)
def _candidates(
    architecture: str, vocab_size: int, family: Family
) -> tuple[tuple[Shape, int, float], ...]:
    # Shape, its total parameters, and how far its depth is from the middle of its width's depths.
    rows = []
    for d_model, (low, high) in _depths(architecture, family):
        middle = (low + high) / 2
        for n_layers in range(low, high + 1):
            shape = shape_of(architecture, d_model, n_layers, family=family, vocab_size=vocab_size)
            rows.append((shape, count_params(shape).total, abs(n_layers - middle) / middle))
    return tuple(rows)


def _depths(architecture: str, family: Family) -> Iterator[tuple[int, tuple[int, int]]]:
    if family == "study":
        yield from _STUDY_DEPTHS.items()
        for width in _LARGER_WIDTHS:
            # On the grid d ~ N^0.46 and n ~ N^0.29, so depth grows as width^0.63.
            middle = 33 * (width / 4096) ** 0.63
            yield width, (round(0.85 * middle), round(1.15 * middle))
        return
    # xLSTM heads are at least 32 wide, so that query/key heads of 16 suit a kernel's tile.
    fine = range(32, 256, 16 if architecture == "transformer" else 32)
    for width in (*fine, *range(256, 769, 32)):
        yield width, (max(2, min(10, width // 64)), min(12, max(6, width // 24)))
