r"""Triton: the states at chunk borders, forward in time, and their gradients, backward in time.

One program owns a tile of one head's state and walks over the sequence, `BT` tokens a step:

            d_v
         +---+---+---+        C [BA, BC] stays in float32 registers; n rides with the first
    d_qk | 0 | 1 | 2 |        column of tiles; m, one float64 a chunk, with every program
         +---+---+---+
         | 3 | 4 | 5 |   step:  C <- 2^(m - M) C + (2^(w - M) K)^T V     K^T [BA, BT], V [BT, BC]
         +---+---+---+

M = max(largest w, m) is known before the chunk is read (triton_gates), so there is no rescaling.
States at chunk borders are stored in the type that the next product takes them in: bfloat16 for
bfloat16 inputs (half the traffic, the same result), else float32.
"""

import triton
import triton.language as tl

from allometry.kernels.triton_gates import LOG2E, masked_if


@triton.jit(do_not_specialize=["H", "T", "NC"])
def states_kernel(
    k_ptr, k_sb, k_sh, k_st, v_ptr, v_sb, v_sh, v_st,
    w_ptr, w_lo_ptr, top_ptr, decay_ptr,
    C0_ptr, n0_ptr, m0_ptr, states_ptr, norms_ptr, m_ptr, C_ptr, n_ptr, mT_ptr, star_ptr,
    H, T, NC,
    D_QK: tl.constexpr, D_V: tl.constexpr, L: tl.constexpr,
    BA: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """States before every chunk and after the last: [BH, NC + 1, d_qk, d_v], norms, m (base 2)."""
    NA: tl.constexpr = (D_QK + BA - 1) // BA
    NV: tl.constexpr = (D_V + BC - 1) // BC
    STEPS: tl.constexpr = L // BT
    pid = tl.program_id(0)
    v_tile, a_tile, bh = pid % NV, (pid // NV) % NA, pid // (NV * NA)
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    bh = bh.to(tl.int64)
    a = a_tile * BA + tl.arange(0, BA)
    c = v_tile * BC + tl.arange(0, BC)
    in_a, in_c = a < D_QK, c < D_V
    in_state = in_a[:, None] & in_c[None, :]
    state_at = a[:, None] * D_V + c[None, :]
    first_v = v_tile == 0
    first = first_v & (a_tile == 0)
    k_ptr += batch * k_sb + head * k_sh
    v_ptr += batch * v_sb + head * v_sh

    C = tl.load(C0_ptr + bh * D_QK * D_V + state_at, mask=in_state, other=0.0)  # [BA, BC]
    n = tl.load(n0_ptr + bh * D_QK + a, mask=in_a, other=0.0)  # [BA]
    m = tl.load(m0_ptr + bh).to(tl.float64) * LOG2E
    star = tl.full([], -1, tl.int32)
    for step in range(0, NC * STEPS):
        chunk = step // STEPS
        part = step % STEPS
        top = tl.load(top_ptr + bh * NC + chunk)
        M = tl.maximum(top, m)
        decay = tl.where(part == 0, tl.exp2((m - M).to(tl.float32)), 1.0)
        border = bh * (NC + 1) + chunk
        starts = part == 0
        to = states_ptr + border * D_QK * D_V + state_at
        tl.store(to, C.to(states_ptr.dtype.element_ty), mask=masked_if(in_state, starts))
        tl.store(norms_ptr + border * D_QK + a, n, mask=masked_if(in_a, starts & first_v))
        tl.store(m_ptr + border, m, mask=starts & first)
        star = tl.where(starts & (top >= m), chunk, star)
        at = part * BT + tl.arange(0, BT)  # inside the chunk
        t = chunk * L + at
        inside = t < T
        t64 = t.to(tl.int64)
        kT = tl.load(  # [BA, BT]
            k_ptr + t64[None, :] * k_st + a[:, None],
            mask=in_a[:, None] & inside[None, :],
            other=0.0,
        )
        v = tl.load(  # [BT, BC]
            v_ptr + t64[:, None] * v_st + c[None, :],
            mask=inside[:, None] & in_c[None, :],
            other=0.0,
        ).to(OPERAND)
        vector_at = bh * NC * L + t
        M_hi = M.to(tl.float32)
        log_weight = tl.load(w_ptr + vector_at) - M_hi
        if SPLIT:
            log_weight += tl.load(w_lo_ptr + vector_at) - (M - M_hi.to(tl.float64)).to(tl.float32)
        kT = kT.to(tl.float32) * tl.exp2(log_weight)[None, :]
        C = tl.dot(kT.to(WIDE), v.to(WIDE), C * decay, input_precision=PRECISION)
        if first_v:
            n = n * decay + tl.sum(kT, 1)
        if part == STEPS - 1:
            m = M + tl.load(decay_ptr + bh * NC + chunk)
    border = bh * (NC + 1) + NC
    to = states_ptr + border * D_QK * D_V + state_at
    tl.store(to, C.to(states_ptr.dtype.element_ty), mask=in_state)
    tl.store(norms_ptr + border * D_QK + a, n, mask=masked_if(in_a, first_v))
    tl.store(m_ptr + border, m, mask=first)
    tl.store(star_ptr + bh, star, mask=first)
    m_out = (m / LOG2E).to(tl.float32)
    rounding = tl.exp2((m - m_out.to(tl.float64) * LOG2E).to(tl.float32))  # so e^m C is exact
    tl.store(C_ptr + bh * D_QK * D_V + state_at, C * rounding, mask=in_state)
    tl.store(n_ptr + bh * D_QK + a, n * rounding, mask=masked_if(in_a, first_v))
    tl.store(mT_ptr + bh, m_out, mask=first)


@triton.jit(do_not_specialize=["H", "T", "NC"])
def state_gradients_kernel(
    q_ptr, q_sb, q_sh, q_st, g_ptr, g_sb, g_sh, g_st,
    M_ptr, M_lo_ptr, delta_ptr, top_ptr, m_ptr, states_ptr, norms_ptr,
    dCT_ptr, dnT_ptr, grads_ptr, norm_grads_ptr, x_ptr, dC0_ptr, dn0_ptr,
    H, T, NC,
    D_QK: tl.constexpr, D_V: tl.constexpr, L: tl.constexpr,
    BA: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
    NORM: tl.constexpr, END: tl.constexpr,
):  # fmt: skip
    """Gradients of the states after every chunk [BH, NC, d_qk, d_v], and X, a part for each tile.

    From the last chunk to the first: dC <- 2^(m - M) dC + (2^(m - M') Q)^T dH, with M' of
    `rows_kernel`; dn <- 2^(m - M) dn + sum 2^(m - M') delta q. X = <C, dC> + n . dn after a chunk.
    """
    NA: tl.constexpr = (D_QK + BA - 1) // BA
    NV: tl.constexpr = (D_V + BC - 1) // BC
    STEPS: tl.constexpr = L // BT
    pid = tl.program_id(0)
    v_tile, a_tile, bh = pid % NV, (pid // NV) % NA, pid // (NV * NA)
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    bh = bh.to(tl.int64)
    a = a_tile * BA + tl.arange(0, BA)
    c = v_tile * BC + tl.arange(0, BC)
    in_a, in_c = a < D_QK, c < D_V
    in_state = in_a[:, None] & in_c[None, :]
    state_at = a[:, None] * D_V + c[None, :]
    first_v = v_tile == 0
    q_ptr += batch * q_sb + head * q_sh
    g_ptr += batch * g_sb + head * g_sh
    x_ptr += (bh * (NA * NV) + a_tile * NV + v_tile) * NC

    dC = tl.zeros([BA, BC], tl.float32)
    dn = tl.zeros([BA], tl.float32)
    if END:
        dC += tl.load(dCT_ptr + bh * D_QK * D_V + state_at, mask=in_state, other=0.0)
        dn += tl.load(dnT_ptr + bh * D_QK + a, mask=in_a, other=0.0)
    for step in range(0, NC * STEPS):
        chunk = NC - 1 - step // STEPS
        part = STEPS - 1 - step % STEPS
        ends = part == STEPS - 1
        after = bh * NC + chunk
        border = bh * (NC + 1) + chunk
        to = grads_ptr + after * D_QK * D_V + state_at
        tl.store(to, dC.to(grads_ptr.dtype.element_ty), mask=masked_if(in_state, ends))
        tl.store(norm_grads_ptr + after * D_QK + a, dn, mask=masked_if(in_a, ends & first_v))
        if ends:
            from_ = states_ptr + (border + 1) * D_QK * D_V + state_at
            C = tl.load(from_, mask=in_state, other=0.0).to(tl.float32)
            X = tl.sum(tl.sum(C * dC, 1), 0)
            if first_v:
                n = tl.load(norms_ptr + (border + 1) * D_QK + a, mask=in_a, other=0.0)
                X += tl.sum(n * dn, 0)
            tl.store(x_ptr + chunk, X)
        m = tl.load(m_ptr + border)
        M = tl.maximum(tl.load(top_ptr + after), m)
        decay = tl.where(ends, tl.exp2((m - M).to(tl.float32)), 1.0)
        t = chunk * L + part * BT + tl.arange(0, BT)
        inside = t < T
        t64 = t.to(tl.int64)
        qT = tl.load(  # [BA, BT]
            q_ptr + t64[None, :] * q_st + a[:, None],
            mask=in_a[:, None] & inside[None, :],
            other=0.0,
        )
        g = tl.load(  # [BT, BC]
            g_ptr + t64[:, None] * g_st + c[None, :],
            mask=inside[:, None] & in_c[None, :],
            other=0.0,
        ).to(OPERAND)
        vector_at = bh * NC * L + t
        log_keep = (m - tl.load(M_ptr + vector_at).to(tl.float64)).to(tl.float32)
        if SPLIT:
            log_keep -= tl.load(M_lo_ptr + vector_at)
        qT = qT.to(tl.float32) * tl.exp2(log_keep)[None, :]
        dC = tl.dot(qT.to(WIDE), g.to(WIDE), dC * decay, input_precision=PRECISION)
        dn = dn * decay
        if NORM:
            if first_v:
                dn += tl.sum(qT * tl.load(delta_ptr + vector_at)[None, :], 1)
    tl.store(dC0_ptr + bh * D_QK * D_V + state_at, dC, mask=in_state)
    tl.store(dn0_ptr + bh * D_QK + a, dn, mask=masked_if(in_a, first_v))
