"""Points of serving: sizes, losses and timings of one architecture at one context."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.decisions.latency import check_points
from allometry.decisions.prediction import predict_draws
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.latency_posterior import LatencyPosterior

Draws = npt.NDArray[np.float64]
SIZES = 25
"""Sizes tried between the ends of the timed range."""
AROUND = 4.0
"""Where the timed sizes are within a factor of two, sizes tried reach this far beyond them."""


def interval(name: str, draws: Draws) -> dict[str, float]:
    """Interval columns of some draws as plain numbers; NaN if there are none."""
    columns = interval_columns(name, draws if len(draws) else np.full(1, np.nan))
    return {key: float(value) for key, value in columns.items()}


def nearest_context(loss: Posterior, architecture: str, context_length: int) -> int | None:
    """Context length of that architecture's groups nearest to one; None if groups have none."""
    if context_length < 1:
        raise InputError(f"context_length must be 1 or more, got {context_length}", where="serving")
    groups = loss.groups
    if "context_length" not in groups:
        return None
    own = groups[groups["architecture"].astype(str) == architecture]
    if own.empty:
        known = ", ".join(sorted(set(groups["architecture"].astype(str))))
        what = f"no losses of architecture {architecture!r}; fitted: {known}"
        raise InputError(what, where=loss.where)
    contexts = own["context_length"].astype(float).to_numpy()
    return int(contexts[np.abs(np.log(contexts / context_length)).argmin()])


def losses_at(
    loss: Posterior, architecture: str, context_length: int, params: Draws, tokens: Draws
) -> Draws:
    """Draws of the loss of the group trained at the nearest context, shape (draw, point)."""
    nearest = nearest_context(loss, architecture, context_length)
    points = pd.DataFrame({"params": params, "tokens": tokens, "architecture": architecture})
    if nearest is not None:
        points["context_length"] = nearest
    return np.asarray(predict_draws(loss, points)[0])


def sizes_tried(latency: LatencyPosterior, params: "npt.ArrayLike | None") -> Draws:
    """Sizes asked for, or a grid over those that were timed; around it, if that is one size.

    Raises
    ------
    InputError
        If a size is no positive number.
    """
    if params is not None:
        sizes = np.atleast_1d(np.asarray(params, dtype=float))
        if not sizes.size or not (np.isfinite(sizes) & (sizes >= 1)).all():
            raise InputError("params must be 1 or more and finite", where="serving")
        return sizes
    timed = latency.idata["constant_data"]["params"].to_numpy()
    low, high = float(timed.min()), float(timed.max())
    beyond = AROUND if high < 2.0 * low else 1.0
    return np.geomspace(low / beyond, high * beyond, SIZES)


def family_points(
    architecture: str,
    params: "npt.ArrayLike",
    contexts: "npt.ArrayLike",
    batches: "npt.ArrayLike",
    quantity: str,
    *,
    dtype: str | None = None,
) -> pd.DataFrame:
    """Points of an architecture, each with the family's shape nearest to its params."""
    rows = pd.MultiIndex.from_product(
        [np.atleast_1d(params), np.atleast_1d(contexts), np.atleast_1d(batches)],
        names=["params", "prefill_length", "batch_size"],
    ).to_frame(index=False)
    return check_points(rows.assign(architecture=architecture, quantity=quantity, dtype=dtype))
