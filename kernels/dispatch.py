"""The one door to the mLSTM cell: checks the inputs, picks a backend, says which."""

from typing import Literal, get_args, overload

import torch
from torch import Tensor

from allometry.errors import InputError
from allometry.kernels import reference
from allometry.kernels.chunkwise import mlstm_chunkwise
from allometry.kernels.contract import EPS, State, check_inputs
from allometry.kernels.decode import decode_step

Backend = Literal["auto", "reference", "chunkwise", "triton"]


def which_backend(q: Tensor, backend: Backend = "auto") -> str:
    """Name of the backend that `mlstm` would use for inputs on the device of `q`.

    Parameters
    ----------
    q : Tensor
        The cell's queries; only device and dtype count.
    backend : {"auto", "reference", "chunkwise", "triton"}
        What the caller asks for; "auto" is triton for inputs on a CUDA device that are not
        float64 (which the kernels leave to the others), else chunkwise.

    Returns
    -------
    str
        "reference", "chunkwise" or "triton".

    Raises
    ------
    InputError
        If there is no such backend.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    if backend != "auto":
        return backend
    return "triton" if q.device.type == "cuda" and q.dtype != torch.float64 else "chunkwise"


@overload
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    state: State | None = ...,
    backend: Backend = ...,
    chunk_size: int | None = ...,
    normalizer_gradient: bool = ...,
    eps: float = ...,
    return_state: Literal[True] = ...,
) -> tuple[Tensor, State]: ...
@overload
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    state: State | None = ...,
    backend: Backend = ...,
    chunk_size: int | None = ...,
    normalizer_gradient: bool = ...,
    eps: float = ...,
    return_state: Literal[False],
) -> tuple[Tensor, None]: ...
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    state: State | None = None,
    backend: Backend = "auto",
    chunk_size: int | None = None,
    normalizer_gradient: bool = True,
    eps: float = EPS,
    return_state: bool = True,
) -> tuple[Tensor, State | None]:
    """Hidden states of the mLSTM cell over a sequence, and its state after the last token.

    Parameters
    ----------
    q, k : Tensor, shape (batch, heads, time, d_qk)
        Queries and keys; float64, float32, bfloat16 or float16, any strides, any `time` >= 1.
        The scale d_qk^(-1/2) is applied inside.
    v : Tensor, shape (batch, heads, time, d_v)
        Values, of the dtype of `q`.
    i, f : Tensor, shape (batch, heads, time)
        Pre-activations of the exponential input gate and the sigmoid forget gate, after the soft
        cap. Keep them in float32. f = -25 at a document's first token resets the state.
    state : State, optional
        (C, n, m) to start from, shapes (batch, heads, d_qk, d_v), (batch, heads, d_qk) and
        (batch, heads); default the empty state, all zeros. Never changed.
    backend : {"auto", "reference", "chunkwise", "triton"}
        See `which_backend`.
    chunk_size : int, optional
        Tokens a chunk; default: chosen by the backend from the widths.
    normalizer_gradient : bool
        Whether the denominator is differentiated. False saves little and is right only where a
        scale-invariant norm follows h.
    eps : float
        Added to the stabilised denominator.
    return_state : bool
        Whether the state after the last token is wanted; training has no use for it.

    Returns
    -------
    h : Tensor, shape (batch, heads, time, d_v), dtype of `v`
    state : State or None
        After the last token; float32, or float64 if an input is. Differentiable. None without
        `return_state`.

    Raises
    ------
    InputError
        If a shape, dtype, device, the chunk size or the backend does not fit.
    """
    check_inputs(q, k, v, i, f, state, where="mlstm")
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}", where="mlstm")
    chosen = which_backend(q, backend)
    if chosen == "reference":
        with torch.autocast(q.device.type, enabled=False):
            h, end = reference.chunkwise(q, k, v, i, f, state, chunk_size=chunk_size or 64, eps=eps)
        return h, end if return_state else None
    if chosen == "triton":
        # Only here: triton has no wheel for every system that has torch.
        from allometry.kernels.triton_ops import mlstm_triton

        h, end = mlstm_triton(
            q,
            k,
            v,
            i,
            f,
            state,
            chunk_size=chunk_size,
            normalizer_gradient=normalizer_gradient,
            eps=eps,
        )
        return h, end if return_state else None
    return mlstm_chunkwise(
        q,
        k,
        v,
        i,
        f,
        state,
        chunk_size=chunk_size,
        normalizer_gradient=normalizer_gradient,
        eps=eps,
        return_state=return_state,
    )


def mlstm_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    state: State | None = None,
    backend: Backend = "auto",
    eps: float = EPS,
) -> tuple[Tensor, State]:
    """Hidden state of the mLSTM cell for one token, and the state after it.

    Parameters
    ----------
    q, k : Tensor, shape (batch, heads, d_qk)
    v : Tensor, shape (batch, heads, d_v)
    i, f : Tensor, shape (batch, heads)
        As in `mlstm`.
    state : State, optional
        State before the token; default the empty state. Never changed.
    backend : {"auto", "reference", "chunkwise", "triton"}
        See `which_backend`.
    eps : float
        Added to the stabilised denominator.

    Returns
    -------
    h : Tensor, shape (batch, heads, d_v), dtype of `v`
    state : State
        New tensors.

    Raises
    ------
    InputError
        If a shape, dtype or device does not fit.
    """
    check_inputs(q, k, v, i, f, state, where="mlstm_step")
    chosen = which_backend(q, backend)
    if chosen == "triton":
        from allometry.kernels.triton_ops import mlstm_step_triton as step
    else:
        step = reference.step if chosen == "reference" else decode_step
    if not torch.is_autocast_enabled(q.device.type):
        return step(q, k, v, i, f, state, eps=eps)
    with torch.autocast(q.device.type, enabled=False):
        return step(q, k, v, i, f, state, eps=eps)
