"""The mLSTM cell: its definition, and fast forms of it."""

if __name__ != "allometry.kernels":
    raise ImportError(f"imported as {__name__!r}; import allometry.kernels instead")

from allometry.kernels.contract import EPS, State, empty_state
from allometry.kernels.dispatch import mlstm, mlstm_step, which_backend

__all__ = ["EPS", "State", "empty_state", "mlstm", "mlstm_step", "which_backend"]
