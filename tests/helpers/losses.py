"""Losses of a posterior at given params and tokens, the long way."""

import numpy as np

from allometry.decisions.optimum import off_optimum
from allometry.decisions.outlook import law_draws
from allometry.inference.evaluate import log_loss_at


def loss_at(posterior, labels, params, tokens):
    """Median loss, (point,), of a group with the discrepancy of the run's budget, C = 6 N D."""
    params, tokens = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(params, tokens))
    groups = posterior.groups
    mine = np.all([groups[name] == value for name, value in labels.items()], axis=0)
    many = np.full(len(params), int(np.flatnonzero(mine)[0]))
    log_loss, _ = log_loss_at(law_draws(posterior, many), params, tokens)
    drifted = off_optimum(posterior, many, 6 * params * tokens, params, log_loss)
    return np.exp(np.median(drifted, axis=0))
