"""The cost model: training FLOPs as a function of params and tokens, group by group.

``C(N, D) = c(N) D``, and the FLOPs of a token are six a parameter times a smooth correction:

``log c(N) = log 6 N + y(log(N / N_ref))``

where y is a polynomial of degree two at most between the smallest and the largest params it was
fitted to, and continues outside with a slope that fades:

``y(x) = y(x_high) + s (1 - exp(-(x - x_high) / s_fade)) s_fade`` with s = y'(x_high), above, and
likewise below. So c is smooth, rises with N everywhere, and its ratio to 6 N stays bounded: the
share of attention and of the embedding, which bends y, dies out in large models.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from allometry.errors import InputError

CostKind = Literal["accounting", "table", "6nd"]
"""Where the correction comes from: shapes of the family, a table's own `flops`, or nowhere."""

# In e-folds of params. At 3 to 100 times the largest model of each of the study's six groups a fade
# of 1 is within 9 % of the shape family; a straight line is up to 67 % off.
FADE_ABOVE = 1.0
# Downwards a vocabulary of fixed size keeps bending the ratio for longer.
FADE_BELOW = 3.0

SMALLEST_SLOPE = 0.2
"""Least d log c / d log N that a fit may have anywhere; one that has less is refitted simpler."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """Training FLOPs of a token as a function of params, for every group; hashable, plain numbers.

    Attributes
    ----------
    kind : {"accounting", "table", "6nd"}
        Where it comes from.
    groups : tuple of str
        Name of every group, in the order of the group index.
    reference_params : float
        N_ref.
    coefficients : tuple of (float, float, float)
        For every group b0, b1, b2 of ``y(x) = b0 + b1 x + b2 x^2``, ``x = log(N / N_ref)``.
    range_params : tuple of (float, float)
        For every group the smallest and largest params between which the polynomial holds.
    residuals : tuple of float
        For every group the root mean square of what the polynomial leaves of log c. One size has
        several shapes, so a few percent are in the nature of the thing.
    fade_above, fade_below : float
        e-folds of params over which the slope fades outside the range.
    """

    kind: CostKind
    groups: tuple[str, ...]
    reference_params: float
    coefficients: tuple[tuple[float, float, float], ...]
    range_params: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]
    fade_above: float = FADE_ABOVE
    fade_below: float = FADE_BELOW

    def __post_init__(self) -> None:
        if self.kind not in get_args(CostKind):
            valid = ", ".join(get_args(CostKind))
            raise InputError(f"kind must be one of {valid}, got {self.kind!r}", where="cost model")
        lengths = {
            name: len(getattr(self, name))
            for name in ("groups", "coefficients", "range_params", "residuals")
        }
        if len(set(lengths.values())) > 1 or not self.groups:
            counts = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise InputError(f"needs one entry a group: {counts}", where="cost model")
        self._require_rising()

    def _require_rising(self) -> None:
        if not (self.reference_params > 0 and self.fade_above > 0 and self.fade_below > 0):
            raise InputError("reference_params and fades must be positive", where="cost model")
        for group, row, (low, high) in zip(
            self.groups, self.coefficients, self.range_params, strict=True
        ):
            if not all(map(math.isfinite, row)):
                raise InputError(f"coefficients {row}", where=f"cost model, {group}")
            if not 0 < low <= high < math.inf:
                raise InputError(f"range_params {low} to {high}", where=f"cost model, {group}")
            ends = (math.log(low / self.reference_params), math.log(high / self.reference_params))
            if not smallest_slope(row, *ends) > 0:
                what = f"FLOPs fall with params under coefficients {row}"
                hint = "Use a polynomial of lower degree, or cost 6nd."
                raise InputError(what, where=f"cost model, {group}", hint=hint)

    def log_correction(self, group: ArrayLike, log_params: ArrayLike, *, xp: Any = np) -> Any:
        """Natural log of c(N) / 6 N: y in the formula at the top of this module.

        Parameters
        ----------
        group : array-like of int
            Group index; broadcasts against `log_params`.
        log_params : array-like
            Natural log of total params.
        xp : module
            Where the arithmetic is done: ``numpy`` (default) or ``jax.numpy``, which can trace and
            differentiate it. Only array operations, no branches.

        Returns
        -------
        array of `xp`
        """
        curve = tuple(xp.asarray(row)[xp.asarray(group)] for row in self.curves())
        x = xp.asarray(log_params) - math.log(self.reference_params)
        return correction(x, curve, (self.fade_above, self.fade_below), xp=xp)

    def curves(self) -> np.ndarray:
        """What `correction` needs of every group, shape (5, group): both ends, b0, b1, b2."""
        ends = np.log(np.asarray(self.range_params).T / self.reference_params)
        return np.concatenate([ends, np.asarray(self.coefficients).T])

    def flops_per_token(self, group: ArrayLike, params: ArrayLike, *, xp: Any = np) -> Any:
        """Training FLOPs of a token, c(N); `group` and `xp` as in `log_correction`.

        Examples
        --------
        >>> float(six_nd(["all"]).flops_per_token(0, 1e9))
        6000000000.0
        """
        N = xp.asarray(params)
        return 6.0 * N * xp.exp(self.log_correction(group, xp.log(N), xp=xp))

    def flops(self, group: ArrayLike, params: ArrayLike, tokens: ArrayLike, *, xp: Any = np) -> Any:
        """Training FLOPs of a run, C(N, D)."""
        return self.flops_per_token(group, params, xp=xp) * xp.asarray(tokens)

    def tokens_at(
        self, group: ArrayLike, flops: ArrayLike, params: ArrayLike, *, xp: Any = np
    ) -> Any:
        """Tokens that a budget buys for a model of `params`: D with C(N, D) = `flops`.

        Examples
        --------
        >>> float(six_nd(["all"]).tokens_at(0, 6e21, 1e9))
        1000000000000.0
        """
        return xp.asarray(flops) / self.flops_per_token(group, params, xp=xp)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "CostModel":
        """The cost model that `to_dict` wrote.

        Raises
        ------
        InputError
            If a field is missing, unknown or of the wrong kind.
        """
        names = {field.name for field in fields(cls)}
        if wrong := sorted(names ^ set(document)):
            raise InputError(f"fields missing or unknown: {', '.join(wrong)}", where="cost model")
        try:
            return cls(
                kind=document["kind"],
                groups=tuple(str(name) for name in document["groups"]),
                reference_params=float(document["reference_params"]),
                coefficients=tuple(_floats(row, 3) for row in document["coefficients"]),
                range_params=tuple(_floats(row, 2) for row in document["range_params"]),
                residuals=tuple(float(value) for value in document["residuals"]),
                fade_above=float(document["fade_above"]),
                fade_below=float(document["fade_below"]),
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not readable: {error}", where="cost model") from error


def correction(x: Any, curve: Any, fades: tuple[Any, Any], *, xp: Any = np) -> Any:
    """y(x) in the formula at the top of this module, of arrays of `xp`: no branches.

    Parameters
    ----------
    x : array of `xp`
        log(N / N_ref).
    curve : sequence of five
        Ends of the range of x, b0, b1 and b2; each broadcasts against `x`. See `CostModel.curves`.
    fades : tuple of two
        s_fade above and below.
    """
    low, high, b0, b1, b2 = curve
    inside = xp.clip(x, low, high)
    above, below = xp.maximum(x - high, 0.0), xp.maximum(low - x, 0.0)
    y = b0 + inside * (b1 + inside * b2)
    y = y - (b1 + 2 * b2 * high) * fades[0] * xp.expm1(-above / fades[0])
    return y + (b1 + 2 * b2 * low) * fades[1] * xp.expm1(-below / fades[1])


def six_nd(groups: Sequence[str]) -> CostModel:
    """The cost model C = 6 N D, for every group alike.

    Examples
    --------
    >>> six_nd(["all"]).kind
    '6nd'
    """
    n = len(groups)
    return CostModel(
        kind="6nd",
        groups=tuple(groups),
        reference_params=1e9,
        coefficients=((0.0, 0.0, 0.0),) * n,
        range_params=((1e9, 1e9),) * n,
        residuals=(0.0,) * n,
    )


def smallest_slope(coefficients: tuple[float, float, float], low: float, high: float) -> float:
    """Least d log c / d log N between `low` and `high` (and so anywhere: outside it tends to 1)."""
    _, b1, b2 = coefficients
    return min(1.0, 1.0 + b1 + 2 * b2 * low, 1.0 + b1 + 2 * b2 * high)


def _floats(row: Any, length: int) -> Any:  # a tuple of that length
    values = tuple(float(value) for value in row)
    if len(values) != length:
        raise ValueError(f"{length} numbers expected, got {len(values)}")
    return values
