r"""Do the kernels compute the cell, on this device? Forward and every gradient against float64.

The bound is no constant. Let u be the unit roundoff of the dtype. The float64 reference runs on the
CPU, on the inputs as they are, and `MOVES` times more with each input moved by a random relative u.
A kernel rounds at `ROUNDINGS` places where a moved reference rounds once, so its error may be that
many times the largest of these differences. Errors and bounds are taken row by row (a token's h, a
row of C, 16 tokens' gates): where the denominator nearly vanishes, that row's bound grows, and no
other's.

What the moved reference cannot see is added: sums in float32, and the rounding of terms that cancel
whatever the inputs are: q . dq and k . dk in the gradient of f; the shares of numerator and
denominator in those of q and k, whose size is taken from other, random gradients of h.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from allometry.errors import KernelError
from allometry.kernels import reference
from allometry.kernels.check_cases import (
    CASES,
    QUICK_CASES,
    SMALL_CASES,
    Case,
    draw_case,
    draw_weights,
)
from allometry.kernels.contract import State
from allometry.kernels.dispatch import Backend, mlstm, mlstm_step

ROUNDINGS = 12
"""On the longest way, to dk: the weighted operand, the stored state, the weights and the result of
the forward pass; the weighted operand, the stored gradient, the weights and the result of the
backward pass; a factor 1.5 for chance."""
MOVES = 4
"""By chance one move may leave a row as it is; four do so in 1 of 10^5 rows."""
QUANTITIES = ("h", "C", "n", "dq", "dk", "dv", "di", "df", "dC", "dn", "dm")
DTYPES = ("float32", "bfloat16", "float16")

Run = Callable[..., tuple[Tensor, State]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One quantity of one case.

    Attributes
    ----------
    error, bound : float
        Medians over the rows, relative to a row's Euclidean norm.
    worst : float
        Largest error of a row in units of that row's bound.
    """

    backend: str
    dtype: str
    case: str
    quantity: str
    error: float
    bound: float
    worst: float

    @property
    def ok(self) -> bool:
        """Whether every row is within its bound; a NaN is not."""
        return self.worst <= 1.0

    def record(self) -> dict[str, object]:
        """Fields and `ok`, for a table."""
        return asdict(self) | {"ok": self.ok}


def evaluate(
    run: Run, inputs: Sequence[Tensor], state: State, weights: Sequence[Tensor] | None
) -> tuple[Tensor, ...]:
    """Return `QUANTITIES`, in float64 on the CPU.

    Parameters
    ----------
    run : callable
        (q, k, v, i, f, state) -> (h, state).
    inputs, state
        Where and as what they are run.
    weights : sequence of Tensor, or None
        Gradients of h, C, n, m; None leaves the gradients out.
    """
    leaves = [x.detach().clone().requires_grad_(weights is not None) for x in (*inputs, *state)]
    C0, n0, m0 = leaves[5:]
    h, (C, n, m) = run(*leaves[:5], (C0, n0, m0))
    scale = m.detach().double().exp()  # m alone means nothing: e^m C does
    outputs = [h, C.double() * scale[..., None, None], n.double() * scale[..., None]]
    if weights is not None:
        given = [
            w.to(device=x.device, dtype=x.dtype) for w, x in zip(weights, (h, C, n, m), strict=True)
        ]
        outputs += torch.autograd.grad((h, C, n, m), leaves, given)
    return tuple(x.detach().cpu().double() for x in outputs)


def _moved(x: Tensor, roundoff: float, rng: torch.Generator) -> Tensor:
    sign = torch.randint(0, 2, x.shape, generator=rng, dtype=torch.float64) * 2 - 1
    return x * (1 + roundoff * sign)


def _rows(x: Tensor, quantity: str) -> Tensor:
    """[rows, entries]: vectors for what has a width, 16 tokens for gates, all of m."""
    if quantity == "dm":
        return x.reshape(1, -1)
    if quantity in ("di", "df"):
        x = pad(x, (0, -x.shape[-1] % 16)).unflatten(-1, (-1, 16))
    return x.flatten(0, -2)


def _norms(x: Tensor, quantity: str) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(_rows(x, quantity), dim=-1)
    return norms


def _bounds(
    case: Case, dtype: torch.dtype, run: Run, inputs: Sequence[Tensor], state: State,
    weights: Sequence[Tensor] | None, seed: int,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:  # fmt: skip
    """Return the true quantities, and the largest error of each row that rounding explains."""
    rng = torch.Generator().manual_seed(seed)
    u, u32 = torch.finfo(dtype).eps / 2, torch.finfo(torch.float32).eps / 2
    exact = [x.double() for x in (*inputs, *state)]
    given = None if weights is None else [w.double() for w in weights]
    truth = evaluate(run, exact[:5], (exact[5], exact[6], exact[7]), given)
    differences = [torch.zeros(()) for _ in truth]
    for _ in range(MOVES):
        # Gates and state stay float32 whatever the dtype is.
        C, n, m = (_moved(x, u32, rng) for x in exact[5:])
        moved = [_moved(x, u if at < 3 else u32, rng) for at, x in enumerate(exact[:5])]
        given_moved = None if given is None else [_moved(w, u, rng) for w in given]
        other = evaluate(run, moved, (C, n, m), given_moved)
        differences = [
            torch.maximum(difference, _norms(x - y, name))
            for difference, x, y, name in zip(differences, truth, other, QUANTITIES, strict=False)
        ]
    terms = case.time + case.d_qk + case.d_v  # of the longest sum; its roundings are independent
    summed = 4 * u32 * math.sqrt(terms)
    # Below its smallest normal number, a dtype has fixed steps.
    tiny = torch.finfo(dtype).tiny * torch.finfo(dtype).eps * math.sqrt(case.d_v)
    bounds = [
        ROUNDINGS * difference + summed * _norms(x, name) + tiny
        for difference, x, name in zip(differences, truth, QUANTITIES, strict=False)
    ]
    if weights is not None:
        sizes = [torch.zeros(()) for _ in truth]
        for draw in range(MOVES):
            other_given = [w.double() for w in draw_weights(case, dtype, seed + draw)]
            share = evaluate(
                _fixed_denominator, exact[:5], (exact[5], exact[6], exact[7]), other_given
            )
            sizes = [torch.maximum(size, x.abs()) for size, x in zip(sizes, share, strict=True)]
        for name in ("dq", "dk"):
            at = QUANTITIES.index(name)
            bounds[at] += (ROUNDINGS * u + summed) * _norms(sizes[at], name)
        dots = [(exact[at].abs() * sizes[3 + at]).norm(dim=-1) for at in range(2)]
        for name, error in _dot_errors(case, exact[4], dots, u, summed).items():
            bounds[QUANTITIES.index(name)] += error
    return truth, bounds


def _fixed_denominator(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State
) -> tuple[Tensor, State]:
    return mlstm(q, k, v, i, f, state=state, backend="chunkwise", normalizer_gradient=False)


def _dot_errors(
    case: Case, f: Tensor, dots: Sequence[Tensor], u: float, summed: float
) -> dict[str, Tensor]:
    """Errors of di and df from rounding q . dq and k . dk, of which df sums a chunk."""
    square = sum((dot**2 for dot in dots), torch.zeros(()))
    square = pad(square, (0, -case.time % case.chunk)).unflatten(-1, (-1, case.chunk))
    later = square.flip(-1).cumsum(-1).flip(-1).flatten(-2)[..., : case.time].sqrt()
    di = (u + summed) * dots[1].abs()
    df = (u + summed) * later * torch.sigmoid(-f)
    return {"di": _norms(di, "di"), "df": _norms(df, "df")}


def available_backends(device: torch.device) -> tuple[str, ...]:
    """Backends that run on `device`: chunkwise anywhere, triton on a GPU or in its interpreter."""
    if find_spec("triton") is None:
        return ("chunkwise",)
    from allometry.kernels.triton_sizes import INTERPRETED

    return ("chunkwise", "triton") if device.type == "cuda" or INTERPRETED else ("chunkwise",)


def cases_for(backend: str, device: torch.device) -> tuple[Case, ...]:
    """All cases; small ones where the interpreter runs the kernels."""
    return SMALL_CASES if backend == "triton" and device.type != "cuda" else CASES


def check_case(
    case: Case, *, backend: str, dtype: str, device: torch.device, seed: int = 0
) -> list[Finding]:
    """Errors and bounds of one case, one `Finding` a quantity."""
    torch_dtype = getattr(torch, dtype)
    inputs, state = draw_case(case, torch_dtype, seed)
    # A decode step that needs gradients goes through the chunk kernels: check the fused one.
    weights = None if case.step else draw_weights(case, torch_dtype, seed + 1)
    if case.step:
        inputs = tuple(x[:, :, 0] for x in inputs)

    chosen = cast(Backend, backend)

    def run(
        q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State
    ) -> tuple[Tensor, State]:
        if case.step:
            return mlstm_step(q, k, v, i, f, state=state, backend=chosen)
        return mlstm(q, k, v, i, f, state=state, backend=chosen, chunk_size=case.chunk)

    definition: Run = reference.step if case.step else reference.chunkwise
    truth, bounds = _bounds(case, torch_dtype, definition, inputs, state, weights, seed + 2)
    on_device = [x.to(device) for x in (*inputs, *state)]
    C, n, m = on_device[5:]
    values = evaluate(run, on_device[:5], (C, n, m), weights)
    largest = torch.finfo(torch_dtype).max
    found = []
    for name, value, true, bound in zip(QUANTITIES, values, truth, bounds, strict=False):
        # Beyond the dtype's largest number, infinity is the right answer.
        held = _rows(true, name).abs().amax(-1) < largest
        if not held.any():
            continue
        error = _norms(value - true, name)[held]
        size = _norms(true, name)[held].clamp_min(float(torch.finfo(torch.float32).tiny))
        finding = Finding(
            backend=backend,
            dtype=dtype,
            case=case.name,
            quantity=name,
            error=float((error / size).median()),
            bound=float((bound[held] / size).median()),
            worst=float((error / bound[held]).max()),
        )
        found.append(finding)
    return found


def check_kernels(
    device: torch.device,
    *,
    backends: Iterable[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    cases: Sequence[Case] = CASES,
    seed: int = 0,
    report: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    """Compare backends with the float64 reference, dtype by dtype and case by case.

    Parameters
    ----------
    device : torch.device
        Where the backends run; the reference always runs on the CPU.
    backends : iterable of str, optional
        Default: all that run on `device`.
    dtypes : sequence of str
        Of q, k and v.
    cases : sequence of Case
    seed : int
        Of inputs, weights and the reference's moved inputs.
    report : callable
        Called with a line before each case.

    Returns
    -------
    list of Finding
        One a backend, dtype, case and quantity.
    """
    found = []
    for backend in backends or available_backends(device):
        for dtype in dtypes:
            for case in cases:
                report(f"{backend} {dtype}: {case.name}")
                found += check_case(case, backend=backend, dtype=dtype, device=device, seed=seed)
    return found


def quick_check(device: torch.device) -> None:
    """Check the backend that "auto" picks on `device`, in seconds; a sweep runs it before training.

    Raises
    ------
    KernelError
        If any output or gradient is off by more than rounding explains.
    """
    backend = available_backends(device)[-1] if device.type == "cuda" else "chunkwise"
    dtypes = ("float32", "bfloat16")
    found = check_kernels(device, backends=[backend], dtypes=dtypes, cases=QUICK_CASES)
    if bad := [x for x in found if not x.ok]:
        shown = ", ".join(f"{x.quantity} ({x.dtype}), {x.worst:.1e} x the bound" for x in bad[:5])
        raise KernelError(
            f"{len(bad)} of {len(found)} quantities differ from the float64 reference: {shown}",
            where=f"mLSTM {backend} kernels on {device}",
            hint="Do not train on this device; see allometry kernels check.",
        )
