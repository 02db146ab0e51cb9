"""R-hat and effective draws of many parameters at once.

The numbers of ArviZ, to which tests hold these: its package takes as long to import as a small fit
takes to run, and its functions go through parameters one by one.

References
----------
Vehtari et al. 2021, arXiv:1903.08008.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def rank_rhat(draws: Values) -> Values:
    """Rank-normalised split R-hat, of bulk or tails, whichever is worse: (parameter,).

    `draws` has shape (chain, draw, parameter); NaN for one chain.
    """
    if draws.shape[0] < 2:
        return np.full(draws.shape[2], np.nan)
    split = _split(draws)
    folded = np.abs(split - np.median(split, axis=(0, 1)))
    return np.maximum(_rhat(_normal_scores(split)), _rhat(_normal_scores(folded)))


def bulk_ess(draws: Values) -> Values:
    """Effective draws for the middle of each parameter, from draws (chain, draw, parameter)."""
    return _ess(_normal_scores(_split(draws)))


def tail_ess(draws: Values, *, low: float, high: float) -> Values:
    """Effective draws for two quantiles of each parameter, the smaller of both."""
    ends = np.quantile(draws, [low, high], axis=(0, 1))
    below = [_ess(_split((draws <= end).astype(np.float64))) for end in ends]
    return np.minimum(*below)


def _split(draws: Values) -> Values:
    """Halves of each chain as chains of their own; the middle draw of an odd number is left out."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: Values) -> Values:
    """Normal quantiles of the ranks over all chains; equal draws share their mean rank."""
    from scipy.special import ndtri  # a tenth of a second, which a Laplace fit need not wait

    flat = draws.reshape(-1, draws.shape[2])
    n = len(flat)
    order = np.argsort(flat, axis=0)
    ordered = np.take_along_axis(flat, order, axis=0)
    differs = ordered[1:] != ordered[:-1]
    edge = np.ones((1, flat.shape[1]), dtype=bool)
    place = np.arange(n)[:, None]
    first = np.maximum.accumulate(np.where(np.concatenate([edge, differs]), place, 0))
    last = np.where(np.concatenate([differs, edge]), place, n)
    last = np.minimum.accumulate(last[::-1])[::-1]
    ranks = np.empty(flat.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return np.asarray(ndtri((ranks - 0.375) / (n + 0.25))).reshape(draws.shape)


def _rhat(chains: Values) -> Values:
    n = chains.shape[1]
    between = n * chains.mean(axis=1).var(axis=0, ddof=1)
    within = chains.var(axis=1, ddof=1).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a parameter that never moves has none
        return np.asarray(np.sqrt((between / within + n - 1) / n))


def _ess(chains: Values) -> Values:
    """Effective draws by Geyer's initial monotone sequence of autocorrelations."""
    m, n, p = chains.shape
    covariance = _autocovariance(chains).mean(axis=0)
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + (chains.mean(axis=1).var(axis=0, ddof=1) if m > 1 else 0.0)
    constant = np.ptp(chains, axis=(0, 1)) < np.finfo(float).resolution
    rho = 1 - (within - covariance) / np.where(constant, 1.0, total)
    rho[0] = 1.0
    pairs = rho[0 : n - 1 : 2] + rho[1:n:2]
    pairs = pairs[: n // 2 - 1]  # lags beyond have too few products
    ended = pairs <= 0
    ended[-1] = True
    stop = np.argmax(ended, axis=0)  # the first pair that is left out
    before = np.arange(len(pairs))[:, None] < stop
    monotone = np.where(before, np.minimum.accumulate(pairs), 0.0).sum(axis=0)
    last = np.maximum(rho[2 * stop, np.arange(p)], 0.0)
    tau = np.maximum(2 * monotone - 1 + last, 1 / np.log10(m * n))
    return np.where(constant, float(m * n), m * n / tau)


def _autocovariance(chains: Values) -> Values:
    n = chains.shape[1]
    spectrum = np.fft.rfft(chains - chains.mean(axis=1, keepdims=True), n=2 * n, axis=1)
    return np.asarray(np.fft.irfft(np.abs(spectrum) ** 2, n=2 * n, axis=1)[:, :n] / n)
