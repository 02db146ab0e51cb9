"""The scale of a law's discrepancy far from its runs, and one draw of it for each group.

What the discrepancy is at a point is in `allometry.inference.discrepancy`: its mean, and its
standard deviation as a share of the drift, which errs with one sign everywhere in a group.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STUDIES_LOG_SD = 0.45
"""Log sd of the scale between studies: it lies within a factor two of its median in most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Prior of the discrepancy far from the runs.

    Attributes
    ----------
    scale : float
        Median over studies of the standard deviation of log loss; between studies it is log-normal
        with `STUDIES_LOG_SD`.
    shared : float
        Correlation of the discrepancy between two groups of one study, 0 to 1.
    """

    scale: float
    shared: float = 0.5


def default_drift(n_groups: int) -> Drift:
    """3.5 % of loss, whatever the number of groups.

    From hiding the larger runs of public studies (docs/validation.md): with the lengths of
    `allometry.inference.discrepancy`, the scale at which the errors' mean square would have been
    right is half of this in Farseer's study, near it in Chinchilla's points and the over-training
    study, and up to twice this in the xLSTM study. `STUDIES_LOG_SD` says as much.
    """
    return Drift(scale=0.035)


def draw_drift(drift: Drift, *, draws: int, n_groups: int, seed: int) -> npt.NDArray[np.float64]:
    """Discrepancy far from the runs in a study of median scale, shape (draw, group)."""
    rng = np.random.default_rng([seed, 3])
    common = rng.normal(size=(draws, 1))
    own = rng.normal(size=(draws, n_groups))
    eta = np.sqrt(drift.shared) * common + np.sqrt(1.0 - drift.shared) * own
    return np.asarray(drift.scale * eta)


def draw_study(*, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Scale of this study's discrepancy over the median study's, shape (draw,)."""
    rng = np.random.default_rng([seed, 13])
    return np.asarray(np.exp(STUDIES_LOG_SD * rng.normal(size=draws)))
