"""The discrepancy of a law beyond its data, and how far beyond a prediction is.

Outside the runs a law was fitted to, its error does not average out: it drifts, with one sign, as
the budget grows. Predicted log loss (natural) gets ``eta * scale * decades``, where decades is the
distance from the data and eta ~ Normal(0, 1), with a part shared by all groups of the study.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Prior of the drift.

    Attributes
    ----------
    scale : float
        Standard deviation of log loss for each decade of compute beyond the largest run.
    shared : float
        Correlation of the drift between two groups of one study, 0 to 1.
    """

    scale: float
    shared: float = 0.5


def default_drift(n_groups: int) -> Drift:
    """2 % a decade for one or two groups; 1 % from three groups on, whose pooled law errs less.

    From predicting the larger runs of ten public studies: the single-group scale was the best of
    every leave-one-study-out split, pooled groups of one study needed .0075 to .01.
    """
    return Drift(scale=0.01 if n_groups >= 3 else 0.02)


def draw_drift(drift: Drift, *, draws: int, n_groups: int, seed: int) -> npt.NDArray[np.float64]:
    """Drift of each draw and group, shape (draw, group), in log loss a decade."""
    rng = np.random.default_rng([seed, 3])
    common = rng.normal(size=(draws, 1))
    own = rng.normal(size=(draws, n_groups))
    eta = np.sqrt(drift.shared) * common + np.sqrt(1.0 - drift.shared) * own
    return np.asarray(drift.scale * eta)


def decades_beyond(
    flops: npt.NDArray[np.float64], largest_flops: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Decades of training compute beyond the largest run of the group; zero inside."""
    return np.asarray(np.maximum(np.log10(flops / largest_flops), 0.0))
