"""Sizes, dtypes and device facts that the launches of the Triton kernels share."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from allometry.errors import InputError
from allometry.kernels.tiles import CHUNK_SIZES, power_of_two
from allometry.kernels.tuning import LARGE

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in triton's CPU interpreter (TRITON_INTERPRET=1 before triton is imported).

There bfloat16 arithmetic is silently wrong, so operands are raised to float32 on loading."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_INTERPRETED_LIMIT = 1 << 15
"""Shared memory that tiles may use in the interpreter: none exists, small tiles test more."""
_TL = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Sizes of one call, and what follows from the dtype of q, k, v.

    bfloat16 has float32's range, so its products take bfloat16 throughout. float16 has not: what
    gates and denominators have scaled can pass 65504, and is multiplied as TF32 (as many bits).
    """

    batch: int
    heads: int
    time: int
    d_qk: int
    d_v: int
    chunk: int
    dtype: torch.dtype
    device: torch.device

    @property
    def n_chunks(self) -> int:
        """Chunks of a sequence; the last may be filled up."""
        return -(-self.time // self.chunk)

    @property
    def rows(self) -> int:
        """Heads of all sequences."""
        return self.batch * self.heads

    @property
    def padded(self) -> tuple[int, int]:
        """Shape of a vector over time in the kernels' own layout."""
        return self.rows, self.n_chunks * self.chunk

    @property
    def operand(self) -> torch.dtype:
        """Type of q, k, v as operands of a product."""
        return torch.float32 if INTERPRETED else self.dtype

    @property
    def wide(self) -> torch.dtype:
        """Type of scaled operands and of stored states."""
        return torch.bfloat16 if self.operand == torch.bfloat16 else torch.float32

    @property
    def split(self) -> bool:
        """Whether gate vectors are sums of two float32: only where the inputs are as precise."""
        return self.dtype == torch.float32

    @property
    def large(self) -> bool:
        """Whether the call is worth measuring tiles for."""
        return self.rows * self.time >= LARGE

    def constants(self) -> dict[str, Any]:
        """Compile-time arguments that the chunk kernels share."""
        return {
            "L": self.chunk,
            "OPERAND": _TL[self.operand],
            "WIDE": _TL[self.wide],
            "PRECISION": "tf32" if self.dtype == torch.float16 else "ieee",
            "SPLIT": self.split,
        }

    def key(self, *more: object) -> tuple[Any, ...]:
        """What a choice of tiles depends on."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return (*more, self.d_qk, self.d_v, self.chunk, str(self.dtype), device)


def sizes_of(q: Tensor, v: Tensor, chunk_size: int | None) -> Sizes:
    """Sizes of a call; the chunk is a power of two, not longer than needed.

    Parameters
    ----------
    q, v : Tensor, shapes (batch, heads, time, d_qk) and (batch, heads, time, d_v)
    chunk_size : int or None
        Rounded up to one of `CHUNK_SIZES`; None chooses by the widths: a state costs d_qk x d_v
        bytes a chunk, pairs d_qk + d_v operations a token and token of the chunk.
    """
    batch, heads, time, d_qk = q.shape
    d_v = v.shape[-1]
    wanted = chunk_size or (256 if d_qk * d_v > 128 * 256 else 128)
    chunk = min(power_of_two(wanted), power_of_two(time), CHUNK_SIZES[-1])
    return Sizes(
        batch=batch,
        heads=heads,
        time=time,
        d_qk=d_qk,
        d_v=d_v,
        chunk=max(chunk, CHUNK_SIZES[0]),
        dtype=q.dtype,
        device=q.device,
    )


def check_device(q: Tensor) -> None:
    """Raise an InputError where these kernels cannot run."""
    if q.dtype not in DTYPES:
        names = ", ".join(str(x).removeprefix("torch.") for x in DTYPES)
        what = f"the triton backend takes {names}, got {q.dtype}"
        raise InputError(what, where="mlstm", hint='Use backend="chunkwise".')
    if q.device.type != "cuda" and not INTERPRETED:
        hint = 'Use backend="chunkwise"; to test kernels, set TRITON_INTERPRET=1 before importing.'
        raise InputError(
            f"the triton backend needs a GPU, got {q.device}", where="mlstm", hint=hint
        )


@cache
def shared_memory_limit(device: torch.device) -> int:
    """Shared memory that one block may have, in bytes."""
    if device.type != "cuda":
        return _INTERPRETED_LIMIT
    utilities = triton.runtime.driver.active.utils  # torch has it under several names
    return int(utilities.get_device_properties(_index(device))["max_shared_mem"])


def _index(device: torch.device) -> int:
    return int(torch.cuda.current_device() if device.index is None else device.index)


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a buffer of no particular content; every buffer of the kernels comes from here."""
    return like.new_empty(shape, dtype=dtype)


def rows_contiguous(x: Tensor) -> Tensor:
    """`x` if its last axis is contiguous, else a copy; the other axes may have any stride."""
    contiguous: Tensor = x if x.stride(-1) == 1 else x.contiguous()
    return contiguous


@cache
def multiprocessors(device: torch.device) -> int:
    """Streaming multiprocessors of the device; 1 in the interpreter."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
