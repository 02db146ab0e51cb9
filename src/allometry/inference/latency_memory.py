r"""The memory law: which batch still fits, from points that ran and points that ran out.

.. math:: P(\text{fits}) = \Phi\bigl(\log(\text{capacity} / \text{needed}) / \sigma\bigr),\qquad
   \text{needed} = \text{weights} + \text{cache} + f\,\text{tokens}\,(d_{model} + d_{ff})\,b

Out of memory is a censored observation: it says that more than the capacity was needed, not how
much. Two numbers an architecture (f, sigma) have their posterior on a grid, so nothing is sampled
but the grid itself.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.special

from allometry.accounting import Shape, cache_bytes, count_params
from allometry.inference.latency_work import row_type, shapes_of

FACTOR_PRIOR = (np.log(10.0), 1.2)
"""Normal prior of log f: live activations of about ten times the widths of a block."""
SPREAD_PRIOR = (np.log(0.1), 0.7)
"""Normal prior of log sigma: allocators and padding move the limit by a tenth."""
_SIZE = 121

Draws = npt.NDArray[np.float64]


def needed_bytes(shapes: list[Shape], table: pd.DataFrame, factor: Draws) -> Draws:
    """Bytes that each point needs with its dtype, for draws of the factor: shape (draw, point)."""
    fixed, variable = np.zeros(len(table)), np.zeros(len(table))
    generated = table["generation_length"].fillna(1) if "generation_length" in table else 1
    longest = (table["prefill_length"] + generated).to_numpy(dtype=np.int64)
    batches = table["batch_size"].to_numpy(dtype=np.int64)
    prompts = table["prefill_length"].to_numpy(dtype=np.int64)
    types = [row_type(row) for _, row in table.iterrows()]
    for i, (shape, length, batch) in enumerate(zip(shapes, longest, batches, strict=True)):
        numbers = types[i].numbers
        cache = cache_bytes(shape, int(length), batch_size=int(batch), numbers=numbers)
        fixed[i] = numbers.weight * count_params(shape).total + cache
        widths = shape.d_model + shape.d_ff
        variable[i] = float(batch) * prompts[i] * widths * numbers.activation
    return np.asarray(fixed + np.asarray(factor)[..., None] * variable)


def memory_draws(
    fitted: pd.DataFrame,
    failed: pd.DataFrame,
    *,
    capacity: float,
    architectures: tuple[str, ...],
    draws: int,
    seed: int,
) -> dict[str, Draws]:
    """Draws of f and sigma by architecture, shape (draw, architecture).

    Parameters
    ----------
    fitted, failed : DataFrame
        Points that ran, and points that ran out of memory, as in `LatencyTable`.
    capacity : float
        Memory of the device in bytes; without a finite one, the draws are of the prior.
    architectures : tuple of str
        In the order of their index.
    draws, seed : int
        Draws wanted, and the seed of drawing from the grid.
    """
    rng = np.random.default_rng([seed, 13])
    log_f = FACTOR_PRIOR[0] + FACTOR_PRIOR[1] * np.linspace(-4, 4, _SIZE)
    log_sd = SPREAD_PRIOR[0] + SPREAD_PRIOR[1] * np.linspace(-4, 4, _SIZE)
    prior = -0.5 * (np.linspace(-4, 4, _SIZE)[:, None] ** 2 + np.linspace(-4, 4, _SIZE) ** 2)
    factors, spreads = (np.empty((draws, len(architectures))) for _ in range(2))
    for a, architecture in enumerate(architectures):
        log_posterior = prior.copy()
        for table, sign in ((fitted, 1.0), (failed, -1.0)):
            rows = table[table["architecture"] == architecture].reset_index(drop=True)
            if len(rows) and np.isfinite(capacity):
                needed = needed_bytes(shapes_of(rows), rows, np.exp(log_f))
                margin = sign * np.log(capacity / needed)  # [f, point]
                for s, value in enumerate(log_sd):
                    log_fits = scipy.special.log_ndtr(margin / np.exp(value))
                    log_posterior[:, s] += log_fits.sum(axis=1)
        weights = np.exp(log_posterior - log_posterior.max()).ravel()
        chosen = rng.choice(weights.size, size=draws, p=weights / weights.sum())
        cell = (log_f[1] - log_f[0], log_sd[1] - log_sd[0])
        jitter = rng.uniform(-0.5, 0.5, size=(2, draws))  # the grid's cells are uniform inside
        factors[:, a] = np.exp(log_f[chosen // _SIZE] + cell[0] * jitter[0])
        spreads[:, a] = np.exp(log_sd[chosen % _SIZE] + cell[1] * jitter[1])
    return {"memory_factor": factors, "memory_spread": spreads}
