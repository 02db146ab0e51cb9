"""What a discrepancy adds to log loss along the iso-compute curve of a budget."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TILT_REACH = 4.0
"""e-folds of params on both sides of the optimum beyond which a tilt goes no further."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tilt:
    """What a discrepancy adds to log loss along the iso-compute curve of a budget.

    Attributes
    ----------
    slope : ndarray, shape (draw, point)
        Per e-fold of params.
    log_params : ndarray, shape (point,) or (draw, point)
        Where it adds nothing.
    """

    slope: npt.NDArray[np.float64]
    log_params: npt.NDArray[np.float64]

    def at(self, log_params: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What it adds at params, (draw, point)."""
        return np.asarray(tilted(self.slope, self.log_params, log_params, xp=np))


def tilted(slope: Any, middle: Any, log_params: Any, *, xp: Any) -> Any:
    """What a tilt adds to log loss, in arrays of `xp`."""
    return slope * TILT_REACH * xp.tanh((log_params - middle) / TILT_REACH)
