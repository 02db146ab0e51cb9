r"""Triton: pairs of tokens inside a chunk, and the chunk's border state. One kernel, four uses.

    out_r = (sum over tokens x of the chunk, x <= r or x >= r, of
             2^(w - M) * (R_r . X_x + delta) * Y_x  +  2^.. (R_r . Z + n)) / denominator

| use | rows r   | R, X  | Y  | Z                      | x      | delta   |
|-----|----------|-------|----|------------------------|--------|---------|
| h   | queries  | q, k  | v  | C before the chunk     | <= r   | -       |
| dq  | queries  | dh, v | k  | C^T before the chunk   | <= r   | of r    |
| dk  | keys     | v, dh | q  | dC^T after the chunk   | >= r   | of x    |
| dv  | keys     | k, q  | dh | dC after the chunk     | >= r   | -       |

    one chunk, L x L pairs; a program owns BR rows and BY of the output's columns

            x ->  BX                                        x ->
          +----+----+----+----+                       +----+----+----+----+
        r | \  |    |    |    |                     r | \  | o  | o  | o  |
        | +----+----+----+----+                     | +----+----+----+----+
        v | o  | \  |    |    |  h, dq              v |    | \  | o  | o  |  dk, dv
          +----+----+----+----+                       +----+----+----+----+
          | o  | o  | \  |    |                       |    |    | \  | o  |
          +----+----+----+----+                       +----+----+----+----+
   o whole tile, \ masked tile, empty: never visited

Both products run on tensor cores and add up in float32; the weights between them are float32.
"""

import triton
import triton.language as tl


@triton.jit
def _tile(ptr, time, stride, column, mask):
    """[rows, columns] of a (time, width) matrix; int32 offsets: `ptr` is at the chunk's start."""
    return tl.load(ptr + time[:, None] * stride + column[None, :], mask=mask, other=0.0)


@triton.jit(do_not_specialize=["H", "T", "NC"])
def pairs_kernel(
    r_ptr, r_sb, r_sh, r_st, x_ptr, x_sb, x_sh, x_st, y_ptr, y_sb, y_sh, y_st,
    own_ptr, own_sb, own_sh, own_st, out_ptr, out_sb, out_sh, out_st,
    z_ptr, n_ptr, w_ptr, w_lo_ptr, M_ptr, M_lo_ptr, delta_ptr, b_ptr, b_lo_ptr, mu_ptr, top_ptr,
    m_ptr, dot_ptr,
    H, T, NC, scale, eps,
    USE: tl.constexpr, W: tl.constexpr, Y: tl.constexpr, L: tl.constexpr,
    BR: tl.constexpr, BX: tl.constexpr, BW: tl.constexpr, BY: tl.constexpr,
    OPERAND: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
    NORM: tl.constexpr,
):  # fmt: skip
    """One BR x BY tile of h, dq, dk or dv (USE); picture and table at the top of the file.

    `dot` gets l = s q . n [BH, NC * L] for h, and q . dq or k . dk from the float32 sums for dq and
    dk, a part for each tile of the width: [BH, tiles, NC * L].
    """
    NY: tl.constexpr = (Y + BY - 1) // BY
    NR: tl.constexpr = L // BR
    WHOLE: tl.constexpr = BW >= W
    LATER: tl.constexpr = USE == "k" or USE == "v"
    BIAS: tl.constexpr = NORM and (USE == "q" or USE == "k")
    pid = tl.program_id(0)
    y_tile, r_tile = pid % NY, (pid // NY) % NR
    chunk, bh = (pid // (NY * NR)) % NC, pid // (NY * NR * NC)
    batch, head = (bh // H).to(tl.int64), (bh % H).to(tl.int64)
    bh, start = bh.to(tl.int64), (chunk * L).to(tl.int64)
    length = tl.minimum(L, T - chunk * L)  # of this chunk
    r_ptr += batch * r_sb + head * r_sh + start * r_st
    x_ptr += batch * x_sb + head * x_sh + start * x_st
    y_ptr += batch * y_sb + head * y_sh + start * y_st
    vector = bh * NC * L + start  # of this chunk in [BH, NC * L]

    row = r_tile * BR + tl.arange(0, BR)
    y = y_tile * BY + tl.arange(0, BY)
    in_row, in_y = row < length, y < Y
    m_start = tl.load(m_ptr + bh * (NC + 1) + chunk)  # float64
    if USE == "h":
        M_row = tl.maximum(tl.load(mu_ptr + vector + row), m_start.to(tl.float32))
        log_border = m_start - M_row.to(tl.float64)
    elif USE == "q":
        M_row = tl.load(M_ptr + vector + row)
        log_border = m_start - M_row.to(tl.float64)
    else:
        M_row = tl.load(w_ptr + vector + row)  # here the row's w
        top = tl.load(top_ptr + bh * NC + chunk)
        log_border = M_row.to(tl.float64) - tl.maximum(top, m_start)
    if SPLIT:
        if USE == "q":
            row_lo = tl.load(M_lo_ptr + vector + row)
            log_border -= row_lo
        elif LATER:
            row_lo = tl.load(w_lo_ptr + vector + row)
            log_border += row_lo
    if BIAS and USE == "q":
        row_delta = tl.load(delta_ptr + vector + row)

    # The border state's share: R Z, weighed by row.
    acc = tl.zeros([BR, BY], tl.float32)
    row_sum = tl.zeros([BR], tl.float32)  # l, for h
    border = bh * (NC + 1) + chunk  # state before the chunk; gradients are stored after each
    if LATER:
        border = bh * NC + chunk
    z_ptr += border * W * Y
    if USE == "h":
        n_ptr += border * W
    elif USE != "v":
        n_ptr += border * Y
    for w0 in range(0, W, BW):
        w = w0 + tl.arange(0, BW)
        in_w = w < W
        r = _tile(r_ptr, row, r_st, w, in_row[:, None] & in_w[None, :]).to(OPERAND)  # [BR, BW]
        if USE == "q" or USE == "k":  # the state is [d_qk, d_v] = [Y, W]: read transposed
            z_at = z_ptr + y[None, :] * W + w[:, None]
        else:
            z_at = z_ptr + w[:, None] * Y + y[None, :]
        z = tl.load(z_at, mask=in_w[:, None] & in_y[None, :], other=0.0)  # [BW, BY]
        acc = tl.dot(r.to(WIDE), z.to(WIDE), acc, input_precision=PRECISION)
        if USE == "h":
            n = tl.load(n_ptr + w, mask=in_w, other=0.0)
            row_sum += tl.sum(r.to(tl.float32) * n[None, :], 1)
    if USE == "k":
        acc += tl.load(n_ptr + y, mask=in_y, other=0.0)[None, :]
    elif BIAS:
        acc += row_delta[:, None] * tl.load(n_ptr + y, mask=in_y, other=0.0)[None, :]
    log_border = log_border.to(tl.float32)
    weight = tl.exp2(log_border)
    acc *= weight[:, None]
    row_sum *= weight

    if WHOLE:
        w = tl.arange(0, BW)
        in_w = w < W
        r = _tile(r_ptr, row, r_st, w, in_row[:, None] & in_w[None, :]).to(OPERAND)
    if LATER:
        x_from = (r_tile * BR // BX) * BX
        x_to = length
    else:
        x_from = 0
        x_to = tl.minimum((r_tile + 1) * BR, length)
    for x0 in range(x_from, x_to, BX):
        column = x0 + tl.arange(0, BX)
        in_column = column < length
        if WHOLE:
            x = _tile(x_ptr, column, x_st, w, in_column[:, None] & in_w[None, :]).to(OPERAND)
            score = tl.dot(r, tl.trans(x), input_precision=PRECISION)  # [BR, BX]
        else:
            score = tl.zeros([BR, BX], tl.float32)
            for w0 in range(0, W, BW):
                w = w0 + tl.arange(0, BW)
                in_w = w < W
                r = _tile(r_ptr, row, r_st, w, in_row[:, None] & in_w[None, :]).to(OPERAND)
                x = _tile(x_ptr, column, x_st, w, in_column[:, None] & in_w[None, :]).to(OPERAND)
                score = tl.dot(r, tl.trans(x), score, input_precision=PRECISION)
        if LATER:
            M_column = tl.load(M_ptr + vector + column)
            log_weight = M_row[:, None] - M_column[None, :]
            allowed = (column[None, :] >= row[:, None]) & in_column[None, :]
        else:
            M_column = tl.load(w_ptr + vector + column)
            log_weight = M_column[None, :] - M_row[:, None]
            allowed = (column[None, :] <= row[:, None]) & in_column[None, :]
        if SPLIT:
            if LATER:
                log_weight += row_lo[:, None] - tl.load(M_lo_ptr + vector + column)[None, :]
            elif USE == "q":
                log_weight += tl.load(w_lo_ptr + vector + column)[None, :] - row_lo[:, None]
            else:
                log_weight += tl.load(w_lo_ptr + vector + column)[None, :]
        if BIAS:
            if USE == "q":
                score += row_delta[:, None]
            else:
                score += tl.load(delta_ptr + vector + column)[None, :]
        # Masked before exp2: weights of the wrong side overflow.
        score *= tl.exp2(tl.where(allowed, log_weight, -float("inf")))
        if USE == "h":
            row_sum += tl.sum(score, 1)
        values = _tile(y_ptr, column, y_st, y, in_column[:, None] & in_y[None, :])  # [BX, BY]
        acc = tl.dot(score.to(WIDE), values.to(WIDE), acc, input_precision=PRECISION)

    out_at = out_ptr + batch * out_sb + head * out_sh + start * out_st
    in_out = in_row[:, None] & in_y[None, :]
    if USE == "h":
        log_n = M_row + tl.load(b_ptr + vector + row)
        if SPLIT:
            log_n += tl.load(b_lo_ptr + vector + row)
        row_sum *= scale
        denominator = tl.maximum(tl.abs(row_sum), tl.exp2(-log_n)) + eps
        acc *= (scale / denominator)[:, None]
        if y_tile == 0:
            tl.store(dot_ptr + vector + row, tl.where(in_row, row_sum, 0.0))
    elif USE == "q" or USE == "k":
        own_ptr += batch * own_sb + head * own_sh + start * own_st
        own = _tile(own_ptr, row, own_st, y, in_out).to(tl.float32)
        to = dot_ptr + (bh * NY + y_tile) * NC * L + start + row
        tl.store(to, tl.sum(acc * own, 1))  # 0 behind the last token
    tl.store(
        out_at + row[:, None] * out_st + y[None, :], acc.to(out_ptr.dtype.element_ty), mask=in_out
    )
