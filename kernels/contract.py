"""What every mLSTM backend takes and returns: shapes, dtypes, the state, and one check of them."""

import torch
from torch import Tensor

from allometry.errors import InputError

State = tuple[Tensor, Tensor, Tensor]
"""(C, n, m): matrix memory, normaliser and running maximum of the log gates, of shapes
(batch, heads, d_qk, d_v), (batch, heads, d_qk) and (batch, heads)."""

EPS = 1e-6
"""Added to the stabilised denominator, so in units of e^m (mlstm_kernels 2.0.6 and the study)."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """Dtype of gates, state and sums: float32, or float64 as soon as one tensor is float64."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def empty_state(q: Tensor, v: Tensor, dtype: torch.dtype | None = None) -> State:
    """State before the first token: C = 0, n = 0, and m = 0 (as in mlstm_kernels, not -inf).

    Parameters
    ----------
    q, v : Tensor, shapes (batch, heads, ..., d_qk) and (batch, heads, ..., d_v)
        Only their shapes, device and dtype count.
    dtype : torch.dtype, optional
        Default: `accumulation_dtype` of the two.

    Returns
    -------
    State
        Zeros on the device of `q`.
    """
    dtype = dtype or accumulation_dtype(q, v)
    batch, heads, d_qk, d_v = *q.shape[:2], q.shape[-1], v.shape[-1]
    return (
        q.new_zeros((batch, heads, d_qk, d_v), dtype=dtype),
        q.new_zeros((batch, heads, d_qk), dtype=dtype),
        q.new_zeros((batch, heads), dtype=dtype),
    )


def check_inputs(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State | None, *, where: str
) -> None:
    """Raise one InputError that names every broken rule of the cell's inputs.

    Parameters
    ----------
    q, k, v, i, f : Tensor
        Shapes (batch, heads, ..., d_qk) twice, (batch, heads, ..., d_v), (batch, heads, ...)
        twice; the dots are a time axis for "mlstm" and nothing for "mlstm_step".
    state : State or None
        Shapes as in `State`.
    where : {"mlstm", "mlstm_step"}
        The function that asks.

    Raises
    ------
    InputError
        If a shape, dtype or device does not fit the others.
    """
    n_axes = 4 if where == "mlstm" else 3
    if q.ndim != n_axes or v.ndim != n_axes:
        axes = "batch, heads, time" if n_axes == 4 else "batch, heads"
        what = f"q and v must be ({axes}, width), got {tuple(q.shape)} and {tuple(v.shape)}"
        raise InputError(what, where=where, hint="Move the heads to the second axis.")
    gate, d_qk, d_v = q.shape[:-1], q.shape[-1], v.shape[-1]
    heads = gate[:2]
    wanted = {"k": (k, (*gate, d_qk)), "v": (v, (*gate, d_v)), "i": (i, gate), "f": (f, gate)}
    if state is not None:
        C, n, m = state
        wanted |= {"C": (C, (*heads, d_qk, d_v)), "n": (n, (*heads, d_qk)), "m": (m, heads)}
    faults = [
        f"{name} must be {tuple(shape)}, got {tuple(x.shape)}"
        for name, (x, shape) in wanted.items()
        if x.shape != shape
    ]
    if 0 in q.shape[2:] or d_v == 0:
        faults.append(f"time and widths must be at least 1, got q {tuple(q.shape)}, d_v {d_v}")
    if q.dtype != k.dtype or q.dtype != v.dtype:
        faults.append(f"q, k and v must share a dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    for name, x in {"q": q, **{name: x for name, (x, _) in wanted.items()}}.items():
        if x.dtype not in DTYPES:
            faults.append(f"{name} must be floating point, got {x.dtype}")
        if x.device != q.device:
            faults.append(f"{name} is on {x.device}, q on {q.device}")
    if faults:
        hint = "q, k: (batch, heads, time, d_qk); v: (batch, heads, time, d_v); i, f without width."
        raise InputError("; ".join(faults), where=where, hint=hint)
