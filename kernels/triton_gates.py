r"""Triton: the cell's gate vectors, and the way back from their gradients.

Inside a chunk, with :math:`\ell_t = \log_2 \sigma(f_t)` (all logs to base 2: the GPU's own) and its
sum b_t from the chunk's start:

    w_s = i_s - b_s                        what token s writes, in units that do not move
    mu_t = max over s <= t of w_s          so the running maximum is m_t = b_t + max(mu_t, m_start)

The weight of s in t is 2^(w_s - M_t), M_t = max(mu_t, m_start): at most 1, no rescaling. The chunk
kernels are all of this; nothing runs over the whole sequence but one scalar a chunk.

Sums are float64: with f = -120 a chunk's b passes 10^4, where float32 resolves 10^-3. The vectors
leave as float32, or as an unevaluated sum of two of them (`_lo`) where the inputs are float32.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
_NOT_SPECIALIZED = [
    "T", "NC", "H", "i_sb", "i_sh", "i_st", "f_sb", "f_sh", "f_st", "N_Q", "N_K", "N_X",
]  # fmt: skip


@triton.jit
def masked_if(mask, flag):
    """`mask` where the scalar `flag` is true, else nowhere.

    Until triton's interpreter > 3.9.0 broadcasts int1 scalars as int1: it refuses `mask & flag`.
    """
    return (mask & flag) != 0


@triton.jit
def _larger(x, y):
    return tl.maximum(x, y)


@triton.jit
def _split(x):
    """Float64 as hi + lo, both float32; lo of an infinite value is 0."""
    hi = x.to(tl.float32)
    finite = tl.abs(hi) < float("inf")
    lo = tl.where(finite, x, 0.0) - tl.where(finite, hi, 0.0).to(tl.float64)
    return hi, lo.to(tl.float32)


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def gates_kernel(
    i_ptr, f_ptr, i_sb, i_sh, i_st, f_sb, f_sh, f_st,
    w_ptr, w_lo_ptr, b_ptr, b_lo_ptr, mu_ptr, top_ptr, decay_ptr,
    H, T, NC,
    L: tl.constexpr, FORGET_MIN: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """w, b and mu of one chunk of one head, each [BH, NC * L]; its largest w and b_L, [BH, NC].

    time   0 ..... L ..... 2L ..... T
    head   | (0)   | (1)   | (2) ####    # filled up: i = -inf writes nothing, l = 0 forgets nothing
    """
    pid = tl.program_id(0)
    chunk, bh = pid % NC, pid // NC
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    t = chunk * L + tl.arange(0, L)
    inside = t < T
    t64 = t.to(tl.int64)  # int64: a long context times a wide stride passes 2**31
    i_at = i_ptr + batch * i_sb + head * i_sh + t64 * i_st
    f_at = f_ptr + batch * f_sb + head * f_sh + t64 * f_st
    i = tl.load(i_at, mask=inside, other=-float("inf")).to(tl.float32).to(tl.float64)  # [L]
    f = tl.load(f_at, mask=inside, other=0.0).to(tl.float32).to(tl.float64)  # [L]
    # -softplus(-f): log(sigmoid(f)) is -inf below f = -88 in float32.
    log_forget = tl.minimum(f, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(f)))
    log_forget = tl.where(inside, tl.maximum(log_forget, FORGET_MIN) * LOG2E, 0.0)
    b = tl.cumsum(log_forget, 0)
    w64 = i * LOG2E - b
    w, w_lo = _split(w64)
    b_hi, b_lo = _split(b)
    at = bh.to(tl.int64) * NC * L + t
    tl.store(w_ptr + at, w)
    tl.store(b_ptr + at, b_hi)
    tl.store(mu_ptr + at, tl.associative_scan(w, 0, _larger))
    if SPLIT:
        tl.store(w_lo_ptr + at, w_lo)
        tl.store(b_lo_ptr + at, b_lo)
    tl.store(top_ptr + bh.to(tl.int64) * NC + chunk, tl.max(w64, 0))
    tl.store(decay_ptr + bh.to(tl.int64) * NC + chunk, tl.sum(log_forget, 0))


@triton.jit(do_not_specialize=["T", "NC", "H", "BH"])
def rows_kernel(
    h_ptr, h_sb, h_sh, h_st, g_ptr, g_sb, g_sh, g_st,
    dot_ptr, b_ptr, b_lo_ptr, mu_ptr, m_ptr, M_ptr, M_lo_ptr, delta_ptr,
    H, T, NC, BH, eps, scale,
    D_V: tl.constexpr, L: tl.constexpr, BT: tl.constexpr, BV: tl.constexpr,
    NORM: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """What the backward pass needs of each row t, [BH, NC * L]: M' and delta.

    M'_t = M_t + log2((N_t + eps) / s), so that 2^(w_s - M'_t) is the weight, the scale and the
    denominator in one; delta_t = -[|l_t| > e^-m_t] sign(l_t) (dh_t . h_t), the gradient that
    reaches l_t, times (N_t + eps).
    """
    pid = tl.program_id(0)
    tile, bh = pid % (NC * (L // BT)), pid // (NC * (L // BT))
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    chunk = tile // (L // BT)
    t = tile * BT + tl.arange(0, BT)
    inside = t < T
    at = bh.to(tl.int64) * NC * L + t
    m_start = tl.load(m_ptr + bh.to(tl.int64) * (NC + 1) + chunk)
    M = tl.maximum(tl.load(mu_ptr + at), m_start.to(tl.float32))  # [BT]
    log_n = M + tl.load(b_ptr + at)
    if SPLIT:
        log_n += tl.load(b_lo_ptr + at)
    floor = tl.exp2(-log_n)  # e^-m
    dot = tl.load(dot_ptr + at, mask=inside, other=0.0)  # l
    denominator = tl.maximum(tl.abs(dot), floor) + eps
    M_row = M.to(tl.float64) + tl.log2(denominator / scale).to(tl.float64)
    hi, lo = _split(M_row)
    tl.store(M_ptr + at, tl.where(inside, hi, float("inf")))  # inf: weighs 0 everywhere
    if SPLIT:
        tl.store(M_lo_ptr + at, tl.where(inside, lo, 0.0))
    if NORM:
        r = tl.zeros([BT], tl.float32)
        t64 = t.to(tl.int64)[:, None]
        for v0 in range(0, D_V, BV):
            column = v0 + tl.arange(0, BV)[None, :]
            mask = inside[:, None] & (column < D_V)
            h_at = h_ptr + batch * h_sb + head * h_sh + t64 * h_st + column
            g_at = g_ptr + batch * g_sb + head * g_sh + t64 * g_st + column
            h = tl.load(h_at, mask=mask, other=0.0).to(tl.float32)  # [BT, BV]
            g = tl.load(g_at, mask=mask, other=0.0).to(tl.float32)
            r += tl.sum(h * g, 1)
        sign = tl.where(dot > 0, 1.0, -1.0)
        delta = tl.where(tl.abs(dot) > floor, -sign * r, 0.0)
        tl.store(delta_ptr + at, tl.where(inside, delta, 0.0))


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def gate_gradients_kernel(
    f_ptr, f_sb, f_sh, f_st, i_grad_ptr, f_grad_ptr,
    q_dot_ptr, k_dot_ptr, x_ptr, w_ptr, mu_ptr, end_ptr, star_ptr,
    H, T, NC, N_Q, N_K, N_X,
    L: tl.constexpr, END: tl.constexpr,
):  # fmt: skip
    """Gradients di and df of one chunk of one head, contiguous [BH, T].

    di_s = k_s . dk_s;  dl_r = sum over t >= r of (q_t . dq_t - k_t . dk_t) + X, t in the chunk and
    X the product of the chunk's end state with its gradient. The sum stays inside a chunk: over
    the whole sequence, rounding errors of its large and opposite terms would add up.

    The dot products and X arrive in parts, one for each tile of the width. `end` is what reaches
    the last m and goes to the token that set it, the largest w of chunk `star` (-1: the initial
    state).
    """
    pid = tl.program_id(0)
    chunk, bh = pid % NC, (pid // NC)
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    bh = bh.to(tl.int64)
    position = tl.arange(0, L)
    t = chunk * L + position
    inside = t < T
    q_dot, k_dot = tl.zeros([L], tl.float32), tl.zeros([L], tl.float32)
    for part in range(N_Q):
        q_dot += tl.load(q_dot_ptr + (bh * N_Q + part) * NC * L + t, mask=inside, other=0.0)
    for part in range(N_K):
        k_dot += tl.load(k_dot_ptr + (bh * N_K + part) * NC * L + t, mask=inside, other=0.0)
    X = tl.zeros([], tl.float32)
    for part in range(N_X):
        X += tl.load(x_ptr + (bh * N_X + part) * NC + chunk)
    i_grad = k_dot
    log_forget_grad = tl.cumsum(q_dot - k_dot, 0, reverse=True) + X
    if END:
        end, star = tl.load(end_ptr + bh), tl.load(star_ptr + bh)
        w = tl.load(w_ptr + bh * NC * L + t)
        largest = tl.load(mu_ptr + bh * NC * L + chunk * L + L - 1)
        at = tl.min(tl.where(w == largest, position, L), 0)
        here = chunk == star
        i_grad += tl.where(here & (position == at), end, 0.0)
        log_forget_grad += tl.where((chunk > star) | (here & (position > at)), end, 0.0)
    t64 = t.to(tl.int64)
    f_at = f_ptr + batch * f_sb + head * f_sh + t64 * f_st
    f = tl.load(f_at, mask=inside, other=0.0).to(tl.float32)
    f_grad = log_forget_grad / (1.0 + tl.exp(f))  # sigmoid(-f)
    tl.store(i_grad_ptr + bh * T + t, i_grad, mask=inside)
    tl.store(f_grad_ptr + bh * T + t, f_grad, mask=inside)
