"""Compile the Triton kernels for GPUs that are not here, and report what each needs.

Run as a script, without TRITON_INTERPRET: python compile_for_gpu.py '{"capability": 90, ...}'.
Tensors are on the meta device; each launch is compiled to machine code instead of run. One JSON
line a compiled kernel: name, tiles, shared memory, registers, bytes spilled, estimate.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from allometry.kernels import triton_launch, triton_sizes
from allometry.kernels.tiles import PairTiles, pair_bytes, state_tile_bytes
from allometry.kernels.triton_ops import _backward_op, _forward_op, _step_op

TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Recorder:
    """Stands in for a kernel: `kernel[grid](...)` compiles it for `capability`."""

    def __init__(self, kernel: Any, capability: int, found: list[dict[str, Any]]) -> None:
        self.kernel, self.capability, self.found = kernel, capability, found

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.compile

    def compile(self, *args: Any, num_warps: int = 4, num_stages: int = 2, **kwargs: Any) -> None:
        values = dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs
        signature, constants, attributes = {}, {}, {}
        for index, parameter in enumerate(self.kernel.params):
            value = values[parameter.name]
            if parameter.is_constexpr or value is None:
                signature[parameter.name] = "constexpr"
                constants[parameter.name] = value
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = TYPES[value.dtype]
                attributes[(index,)] = [["tt.divisibility", 16]]
            elif isinstance(value, float):
                signature[parameter.name] = "fp32"
            else:
                signature[parameter.name] = "i32"
                if not parameter.do_not_specialize and value % 16 == 0:
                    attributes[(index,)] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, attributes)
        options = {"num_warps": num_warps, "num_stages": num_stages}
        target = GPUTarget("cuda", self.capability, 32)
        compiled = triton.compile(source, target=target, options=options)
        self.found.append(
            {
                "kernel": self.kernel.__name__,
                "use": values.get("USE"),
                "shared": compiled.metadata.shared,
                **_usage(compiled.asm["cubin"]),
                "wgmma": "wgmma" in compiled.asm["ptx"],
            }
        )


def _usage(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{word}:(\d+)", text)[1]) for word in ("REG", "STACK"))
    return {"registers": registers, "stack": stack}


class EveryCandidate:
    """Stands in for the tuner: launches the first `count` candidates and notes their tiles."""

    def __init__(self, found: list[dict[str, Any]], count: int, sizes: Any) -> None:
        self.found, self.count, self.sizes = found, count, sizes

    def choose(self, key: Any, candidates: Any, launch: Any, *, large: bool) -> Any:
        for tiles in candidates[: self.count]:
            launch(tiles)
            self.found[-1]["tiles"] = str(tiles)
            wide, operand = self.sizes.wide.itemsize, self.sizes.operand.itemsize
            if isinstance(tiles, PairTiles):
                # key[0] is the use: the score's width is d_v for dq and dk.
                width = self.sizes.d_v if key[0] in ("q", "k") else self.sizes.d_qk
                self.found[-1]["estimate"] = pair_bytes(tiles, width, operand, wide, wide)
            else:
                self.found[-1]["estimate"] = state_tile_bytes(tiles, operand, wide)
        return candidates[0]


def compile_all(
    *, capability: int, limit: int, d_qk: int, d_v: int, chunk: int, dtype: str, count: int
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in [name for name in vars(triton_launch) if name.endswith("_kernel")]:
        setattr(triton_launch, name, Recorder(getattr(triton_launch, name), capability, found))
    triton_launch.shared_memory_limit = lambda device: limit
    batch, heads, time = 2, 2, 4 * chunk
    torch_dtype = getattr(torch, dtype)
    q, k, v = (
        torch.empty(batch, heads, time, width, dtype=torch_dtype, device="meta")
        for width in (d_qk, d_qk, d_v)
    )
    i = torch.empty(batch, heads, time, device="meta")
    C, n, m = (
        torch.empty(batch, heads, *shape, device="meta") for shape in ((d_qk, d_v), (d_qk,), ())
    )
    sizes = triton_sizes.sizes_of(q, v, chunk)
    triton_launch._TUNER = EveryCandidate(found, count, sizes)
    # The operators' bodies, past their fakes, which answer for meta tensors.
    forward, backward, step = (op._init_fn for op in (_forward_op, _backward_op, _step_op))
    h, C_last, n_last, m_last, dot = forward(q, k, v, i, i, C, n, m, chunk, True, 1e-6)
    inputs = (q, k, v, i, i, C, n, m, h, dot, C_last, n_last)
    backward(*inputs, h, C_last, n_last, m_last, chunk, True, 1e-6)
    step(q[:, :, 0], k[:, :, 0], v[:, :, 0], i[:, :, 0], i[:, :, 0], C, n, m, 1e-6)
    return found


if __name__ == "__main__":
    for row in compile_all(**json.loads(sys.argv[1])):
        sys.stdout.write(json.dumps(row) + "\n")
