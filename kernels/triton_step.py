"""Triton: one token of the cell, the state read and written once."""

import triton
import triton.language as tl

from allometry.kernels.triton_gates import masked_if


@triton.jit(do_not_specialize=["H", "BH"])
def step_kernel(
    q_ptr, q_sb, q_sh, k_ptr, k_sb, k_sh, v_ptr, v_sb, v_sh, i_ptr, i_sb, i_sh, f_ptr, f_sb, f_sh,
    C_ptr, n_ptr, m_ptr, h_ptr, C_out_ptr, n_out_ptr, m_out_ptr,
    H, BH, scale, eps,
    D_QK: tl.constexpr, D_V: tl.constexpr, BA: tl.constexpr, BC: tl.constexpr,
    FORGET_MIN: tl.constexpr,
):  # fmt: skip
    """BC columns of one head's state and of its h.

         BC
    +---+--+---+     for each block of BA rows: load, C <- F C + I k v^T, store, h += q C
    |   |BA|   |     n and m are computed by every program of a head, stored by the first
    |   +--+   |
    |   |BA|   |     no product is large enough for tensor cores: memory decides
    +---+--+---+
    """
    NV: tl.constexpr = (D_V + BC - 1) // BC
    pid = tl.program_id(0)
    v_tile, bh = pid % NV, pid // NV
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    bh = bh.to(tl.int64)
    first = v_tile == 0
    # float64 scalars: an error of 6e-8 in log sigmoid(f) would add up over 10,000 steps.
    i = tl.load(i_ptr + batch * i_sb + head * i_sh).to(tl.float32).to(tl.float64)
    f = tl.load(f_ptr + batch * f_sb + head * f_sh).to(tl.float32).to(tl.float64)
    log_forget = tl.minimum(f, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(f)))
    decayed = tl.maximum(log_forget, FORGET_MIN) + tl.load(m_ptr + bh).to(tl.float64)
    m = tl.maximum(decayed, i).to(tl.float32)  # as stored: the weights below are relative to it
    keep = tl.exp(decayed - m.to(tl.float64)).to(tl.float32)
    write = tl.exp(i - m.to(tl.float64)).to(tl.float32)
    c = v_tile * BC + tl.arange(0, BC)
    in_c = c < D_V
    v = tl.load(v_ptr + batch * v_sb + head * v_sh + c, mask=in_c, other=0.0).to(tl.float32)  # [BC]
    numerator = tl.zeros([BC], tl.float32)
    dot = tl.zeros([], tl.float32)
    for a0 in range(0, D_QK, BA):
        a = a0 + tl.arange(0, BA)
        in_a = a < D_QK
        q = tl.load(q_ptr + batch * q_sb + head * q_sh + a, mask=in_a, other=0.0)
        k = tl.load(k_ptr + batch * k_sb + head * k_sh + a, mask=in_a, other=0.0)
        q, k = q.to(tl.float32) * scale, k.to(tl.float32) * write  # [BA]
        mask = in_a[:, None] & in_c[None, :]
        at = bh * D_QK * D_V + a[:, None] * D_V + c[None, :]
        C = tl.load(C_ptr + at, mask=mask, other=0.0)  # [BA, BC]
        C = keep * C + k[:, None] * v[None, :]
        tl.store(C_out_ptr + at, C, mask=mask)
        numerator += tl.sum(q[:, None] * C, 0)
        n = keep * tl.load(n_ptr + bh * D_QK + a, mask=in_a, other=0.0) + k
        tl.store(n_out_ptr + bh * D_QK + a, n, mask=masked_if(in_a, first))
        dot += tl.sum(q * n, 0)
    h = numerator / (tl.maximum(tl.abs(dot), tl.exp(-m)) + eps)
    tl.store(h_ptr + bh * D_V + c, h.to(h_ptr.dtype.element_ty), mask=in_c)
    tl.store(m_out_ptr + bh, m, mask=first)
