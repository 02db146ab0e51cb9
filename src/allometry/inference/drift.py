"""The scale of a law's discrepancy far from its runs, and one draw of it for each group.

What the discrepancy is at a point is in `allometry.inference.discrepancy`: its mean, and its
standard deviation as a share of the drift, which errs with one sign everywhere in a group.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allometry.errors import InputError

LENGTH = 5.0
"""Decades over which the discrepancy changes, in c and in r."""

FORMER_LENGTH = 3.0
"""That of posterior files which do not say it, whose scales go with it."""

STUDIES_LOG_SD = 0.45
"""Log sd of the scale between studies: it lies within a factor two of its median in most."""

FAR_LOG_SD = 0.4
"""Log sd of the scale far from a study's runs around the one that its residuals tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Prior of the discrepancy far from the runs.

    Attributes
    ----------
    scale : float
        Median over studies of the standard deviation of log loss, about which they are log-normal.
        A study's own runs tell its scale (`allometry.inference.discrepancy_scale`).
    shared : float
        Correlation of the discrepancy between two groups of one study, 0 to 1.
    log_sd : float
        Log sd of the scale between studies.
    length : float
        Decades over which it changes, in N D and in D / N.
    """

    scale: float
    shared: float = 0.5
    log_sd: float = STUDIES_LOG_SD
    length: float = LENGTH

    def __post_init__(self) -> None:
        positive = min(self.log_sd, self.length) > 0
        if not (self.scale >= 0 and 0 <= self.shared <= 1 and positive):
            rule = "scale must be at least 0, shared 0 to 1 and log_sd and length positive"
            what = f"{rule}, got {self}"
            raise InputError(what, where="drift")


def default_drift(n_groups: int) -> Drift:
    """8 % of loss, whatever the number of groups.

    With the covariance of `allometry.inference.discrepancy` the residuals of five public studies
    put it between 8 and 11 %, where text is repeated at 22 % (docs/validation.md).
    `STUDIES_LOG_SD` says as much.
    """
    return Drift(scale=0.08)


def draw_drift(drift: Drift, *, draws: int, n_groups: int, seed: int) -> npt.NDArray[np.float64]:
    """Discrepancy far from the runs in a study of median scale, shape (draw, group)."""
    rng = np.random.default_rng([seed, 3])
    common = rng.normal(size=(draws, 1))
    own = rng.normal(size=(draws, n_groups))
    eta = np.sqrt(drift.shared) * common + np.sqrt(1.0 - drift.shared) * own
    return np.asarray(drift.scale * eta)


def draw_far(*, log_sd: float, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Scale far from the runs over the median of the one near them, shape (draw,).

    `log_sd` is what the study leaves open of the scale near its runs.
    """
    rng = np.random.default_rng([seed, 13])
    spread = np.hypot(log_sd, FAR_LOG_SD)
    return np.asarray(np.exp(spread * rng.normal(size=draws)))


def far_square(*, log_sd: float) -> float:
    """Mean square of `draw_far`: what it multiplies a variance by."""
    return float(np.exp(2.0 * np.hypot(log_sd, FAR_LOG_SD) ** 2))
