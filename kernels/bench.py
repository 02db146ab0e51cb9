"""Time the mLSTM cell on a device, beside what the device can do and beside its peers.

Peaks are measured in the same run: a large matrix product of the same dtype, and a large copy.
FLOPs and bytes are the accounting's, so a share of peak does not reward recomputation.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor

from allometry.accounting import (
    XLSTMShape,
    mlstm_backward_flops,
    mlstm_bytes_per_token,
    mlstm_forward_flops,
    mlstm_step_flops,
)
from allometry.kernels.bench_clock import Peaks, measure_peaks, seconds_of
from allometry.kernels.check import available_backends
from allometry.kernels.contract import empty_state
from allometry.kernels.dispatch import Backend, mlstm, mlstm_step

PASSES = ("forward", "forward_backward", "step")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchShape:
    """Inputs of one measurement; `chunk` None is the backend's default."""

    batch: int
    heads: int
    time: int
    d_qk: int
    d_v: int
    dtype: str = "bfloat16"
    chunk: int | None = None

    @property
    def label(self) -> str:
        """Batch, heads, time and widths in short."""
        return f"B{self.batch} H{self.heads} T{self.time} {self.d_qk}/{self.d_v}"


STUDY_SHAPES = (
    BenchShape(batch=8, heads=16, time=8192, d_qk=128, d_v=256),
    BenchShape(batch=8, heads=8, time=8192, d_qk=256, d_v=512),
)
CPU_SHAPES = (
    BenchShape(batch=1, heads=4, time=1024, d_qk=64, d_v=128, dtype="float32"),
    BenchShape(batch=1, heads=4, time=512, d_qk=128, d_v=256, dtype="float32"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One backend, pass and shape; medians. A backend that cannot run it has `error` and NaN."""

    backend: str
    kind: str
    shape: BenchShape
    seconds: float
    flops: float
    bytes: float
    peaks: Peaks
    error: str = ""

    def record(self) -> dict[str, Any]:
        """One row of a table: shape, speed and shares of the measured peaks."""
        tokens = self.shape.batch * (1 if self.kind == "step" else self.shape.time)
        return {
            "backend": self.backend,
            "pass": self.kind,
            **asdict(self.shape),
            "seconds": self.seconds,
            "tokens_per_second": tokens / self.seconds,
            "tflops": self.flops / self.seconds / 1e12,
            "matmul_share": self.flops / self.seconds / self.peaks.matmul_flops,
            "bytes_per_second": self.bytes / self.seconds,
            "copy_share": self.bytes / self.seconds / self.peaks.copy_bytes,
            "error": self.error,
        }


def cell_flops(shape: BenchShape, kind: str) -> float:
    """FLOPs of a pass as the accounting counts a training run's cell, at `shape.chunk` or 64."""
    rows = shape.batch * shape.heads
    if kind == "step":
        return float(rows * mlstm_step_flops(shape.d_qk, shape.d_v))
    one_head = XLSTMShape(
        d_model=shape.d_v,
        n_layers=1,
        n_heads=1,
        head_dim_v=shape.d_v,
        head_dim_qk=shape.d_qk,
        chunk_size=min(shape.chunk or 64, shape.time),
    )
    forward = mlstm_forward_flops(one_head, shape.time, count="tfla")
    if kind == "forward":
        return rows * forward
    return rows * (forward + mlstm_backward_flops(one_head, shape.time, count="tfla"))


def cell_bytes(shape: BenchShape, kind: str) -> float:
    """Bytes that a pass must move; for the backward pass, twice the forward's."""
    rows, a, c = shape.batch * shape.heads, shape.d_qk, shape.d_v
    item = int(getattr(torch, shape.dtype).itemsize)
    if kind == "step":  # state read and written, q, k, v read, h written
        return float(rows * (2 * 4 * (a * c + a + 1) + item * (2 * a + 2 * c) + 8))
    per_token = mlstm_bytes_per_token(a, c, shape.chunk or 64, activation_bytes=item)
    return rows * shape.time * per_token * (1 if kind == "forward" else 3)


def _draw(shape: BenchShape, device: torch.device, *, steps: bool) -> tuple[Tensor, ...]:
    rng = torch.Generator(device).manual_seed(0)
    flat = (shape.batch, shape.heads, *((shape.time,) if steps else ()))

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, device=device)

    dtype = getattr(torch, shape.dtype)
    q, k, v = (normal(*flat, width).to(dtype) for width in (shape.d_qk, shape.d_qk, shape.d_v))
    return q, k, v, normal(*flat) - 10, normal(*flat) + 4.5  # gates as where training starts


Cell = Callable[..., Any]


def _ours(backend: str, shape: BenchShape) -> Cell:
    def run(*inputs: Tensor) -> Tensor:
        chosen = cast(Backend, backend)
        h, _ = mlstm(*inputs, backend=chosen, chunk_size=shape.chunk, return_state=False)
        return h

    return run


def _peer_mlstm_kernels(shape: BenchShape, device: torch.device) -> Cell:
    from mlstm_kernels.torch import get_mlstm_kernel

    name = "chunkwise--triton_xl_chunk" if device.type == "cuda" else "chunkwise--native_custbw"
    kernel: Cell = get_mlstm_kernel(name)
    options: dict[str, Any] = {"chunk_size": shape.chunk or 128}
    if device.type == "cuda":
        options["autocast_kernel_dtype"] = getattr(torch, shape.dtype)
    return lambda *inputs: kernel(*inputs, **options)


def _peer_fla(shape: BenchShape, device: torch.device) -> Cell:
    from fla.ops.simple_gla import chunk_simple_gla

    # The nearest that fla has: a scalar decay, no exponential input gate and no normaliser.
    def run(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        gate = torch.nn.functional.logsigmoid(f).transpose(1, 2)
        h: Tensor = chunk_simple_gla(q, k, v, g=gate)[0]
        return h.transpose(1, 2)

    return run


def cells(shape: BenchShape, device: torch.device) -> dict[str, Callable[[], Cell]]:
    """Every backend of ours that runs here, and the peers that are installed, by name."""
    found: dict[str, Callable[[], Cell]] = {}
    for backend in available_backends(device):
        if backend == "chunkwise" or device.type == "cuda":
            found[backend] = lambda backend=backend: _ours(backend, shape)  # type: ignore[misc]
    if find_spec("mlstm_kernels"):
        found["mlstm_kernels"] = lambda: _peer_mlstm_kernels(shape, device)
    if device.type == "cuda" and find_spec("fla"):
        found["fla simple_gla"] = lambda: _peer_fla(shape, device)
    return found


def _call(cell: Cell, inputs: Sequence[Tensor], kind: str) -> Callable[[], object]:
    if kind == "forward":

        def forward() -> object:
            with torch.no_grad():
                return cell(*inputs)

        return forward
    leaves = [x.detach().requires_grad_() for x in inputs]
    weight = torch.ones_like(inputs[2])

    def forward_backward() -> object:
        for x in leaves:
            x.grad = None
        cell(*leaves).backward(weight)
        return None

    return forward_backward


def _steps(shape: BenchShape, device: torch.device) -> dict[str, Callable[[], object]]:
    """One decode step of every backend of ours and of mlstm_kernels."""
    inputs = _draw(shape, device, steps=False)
    q, _, v, *_ = inputs
    state = empty_state(q, v, torch.float32)
    calls: dict[str, Callable[[], object]] = {}
    for backend in available_backends(device):
        if backend == "chunkwise" or device.type == "cuda":
            calls[backend] = lambda backend=backend: mlstm_step(  # type: ignore[misc]
                *inputs, state=state, backend=backend
            )
    if find_spec("mlstm_kernels"):
        from mlstm_kernels.torch import get_mlstm_step_kernel

        kernel = get_mlstm_step_kernel("triton" if device.type == "cuda" else "native")
        q, k, v, i, f = inputs
        calls["mlstm_kernels"] = lambda: kernel(q, k, v, i[..., None], f[..., None], *_peer(state))
    return calls


def _peer(state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    C, n, m = state
    return C, n, m[..., None]


def bench_kernels(
    device: torch.device,
    shapes: Sequence[BenchShape],
    *,
    passes: Sequence[str] = PASSES,
    repeats: int = 10,
    report: Callable[[str], None] = lambda text: None,
) -> list[Timing]:
    """Time every backend that runs here, and its installed peers, on every shape and pass.

    Parameters
    ----------
    device : torch.device
    shapes : sequence of BenchShape
    passes : sequence of str
        Of `PASSES`; the decode step ignores the shape's time.
    repeats : int
        Timed calls a median.
    report : callable
        Called with a line before each measurement.

    Returns
    -------
    list of Timing
    """
    peaks: dict[str, Peaks] = {}
    timings = []
    for shape in shapes:
        if shape.dtype not in peaks:
            report(f"peaks of {device} in {shape.dtype}")
            peaks[shape.dtype] = measure_peaks(device, getattr(torch, shape.dtype))
        for kind in passes:
            # Made one at a time, so that one backend's memory is free for the next.
            names: dict[str, Callable[[], Any]] = (
                _steps(shape, device) if kind == "step" else cells(shape, device)
            )
            for name, make in names.items():
                report(f"{name} {kind} {shape.label}")
                seconds, error = float("nan"), ""
                try:
                    call = make
                    if kind != "step":
                        call = _call(make(), _draw(shape, device, steps=True), kind)
                    seconds = seconds_of(call, device, repeats=repeats)
                except Exception as problem:  # a peer's error is a result, not ours to raise
                    if name in ("triton", "chunkwise"):
                        raise
                    error = f"{type(problem).__name__}: {problem}"[:200]
                counted = replace(shape, chunk=shape.chunk or 64)
                timings.append(
                    Timing(
                        backend=name,
                        kind=kind,
                        shape=shape,
                        seconds=seconds,
                        flops=cell_flops(counted, kind),
                        bytes=cell_bytes(counted, kind),
                        peaks=peaks[shape.dtype],
                        error=error,
                    )
                )
                gc.collect()
    return timings
