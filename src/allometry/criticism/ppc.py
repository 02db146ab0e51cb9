r"""Posterior predictive checks whose p-values are uniform when the model holds.

At a draw of the posterior the standardised residuals of the runs are, on average over the prior,
independent draws of the noise distribution, exactly (a pivotal quantity: Johnson 2007, Bayesian
Analysis 2:719). So their normal quantiles q are independent standard normals, and a contrast T(q),
such as the mean of a third of the runs times the root of their number, is standard normal. By the
law of total variance its posterior mean has covariance I - H, where H is the covariance of T over
the draws: the part that the fit can absorb. The p-value is that of

.. math:: \bar T^\top (I - H)^{-1} \bar T \sim \chi^2_k.

The common posterior predictive p-value leaves H out, which makes it huddle around one half.
Directions that the fit absorbs nearly whole (eigenvalues of I - H below `ABSORBED`) cannot speak
for or against the model and are left out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from allometry.criticism.fitted_runs import FittedRuns, noise_tail

Array = npt.NDArray[np.float64]

ABSORBED = 0.1
"""Share of a contrast's variance that must be left by the fit for the contrast to be used."""

FARTHEST = 8.0
"""Normal quantile at which an outlier is cut: p = 1e-15."""

OUTSIDE = float(2 * special.ndtr(-1.0))
"""Probability of a standard normal beyond one standard deviation: 0.317."""

FAR = 0.1
"""Probability of lying outside a run's 90 % interval."""

MAX_DRAWS = 500
"""Draws used, evenly spaced: means and covariances over draws need no more."""

THIRDS = ("smallest", "middle", "largest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """One posterior predictive check.

    Attributes
    ----------
    name : str
        What was looked at.
    p : float
        Probability of so large a misfit if the model holds; NaN where the fit absorbs it all.
    where : str
        The part of the runs, or the run, with the largest deviation.
    effect : float
        How large it is: mean residual of the part over the noise of a run; for spreads and the
        skew, runs outside the middle 68 % (above less below it) over what they should be, less 1.
    percent : float
        Median residual of the part or run, in percent of loss; NaN for spreads.
    """

    name: str
    p: float
    where: str
    effect: float
    percent: float = float("nan")


def posterior_predictive_checks(fitted: FittedRuns) -> list[Statistic]:
    """Every check of the runs against their posterior.

    Means of the residuals over thirds (within each group) of params, tokens, tokens per param and
    compute, and over the groups; their spread over the groups; and of all runs the share outside
    90 % intervals (``spread``), more of the far ones above than below (``skew``), and the farthest.
    """
    q = normal_quantiles(fitted)
    percent = 100 * (fitted.log_loss - np.median(fitted.log_mean, axis=0))
    found = [
        _of_means(name, q, parts, percent, labels)
        for name, (parts, labels) in _partitions(fitted).items()
    ]
    by_group, names = _group_parts(fitted)
    if len(names) > 1:
        found.append(_spread_by_group(q, by_group, names))
    return [*found, *_overall(q, percent, fitted.table["run"])]


def normal_quantiles(fitted: FittedRuns) -> Array:
    """Normal quantile of each residual under each draw, (draw, run)."""
    z = fitted.z[:: max(len(fitted.z) // MAX_DRAWS, 1)]
    size = -special.ndtri(np.maximum(noise_tail(z), special.ndtr(-FARTHEST)))
    return np.asarray(np.sign(z) * size)


def thirds(values: Array, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Third of its group that each run belongs to by a value: 0, 1 or 2; equal values together."""
    grouped = pd.Series(values).groupby(group)
    middle = (grouped.rank(method="average") - 0.5) / grouped.transform("size")
    return np.asarray((3 * middle).to_numpy().astype(np.int64))


def _partitions(fitted: FittedRuns) -> dict[str, tuple[Array, tuple[str, ...]]]:
    table = fitted.table
    values = {
        "params": table["params"],
        "tokens": table["tokens"],
        "tokens_per_param": table["tokens"] / table["params"],
        "flops": table["flops"],
    }
    found: dict[str, tuple[Array, tuple[str, ...]]] = {}
    for name, value in values.items():
        part = thirds(value.to_numpy(dtype=np.float64), fitted.group)
        found[name] = (_members(part, 3), THIRDS)
    by_group, names = _group_parts(fitted)
    if len(names) > 1:
        found["group"] = (by_group, names)
    return found


def _group_parts(fitted: FittedRuns) -> tuple[Array, tuple[str, ...]]:
    present, index = np.unique(fitted.group, return_inverse=True)
    names = tuple(
        fitted.table["group"].iloc[np.flatnonzero(index == i)[0]] for i in range(len(present))
    )
    return _members(index, len(present)), names


def _members(part: npt.NDArray[np.int64], count: int) -> Array:
    """One row a part, one for its runs and zero elsewhere."""
    return np.asarray(part == np.arange(count)[:, None], dtype=np.float64)


def _of_means(
    name: str, q: Array, parts: Array, percent: Array, labels: tuple[str, ...]
) -> Statistic:
    size = np.maximum(parts.sum(axis=1), 1.0)
    contrasts = q @ (parts / np.sqrt(size)[:, None]).T  # (draw, part)
    mean = contrasts.mean(axis=0)
    worst = int(np.argmax(np.abs(mean)))
    return Statistic(
        name=name,
        p=calibrated_p(contrasts),
        where=labels[worst],
        effect=float(mean[worst] / np.sqrt(size[worst])),
        percent=float(np.median(percent[parts[worst] > 0])),
    )


def _spread_by_group(q: Array, parts: Array, names: tuple[str, ...]) -> Statistic:
    # Counts and not squares: one gross outlier is another check's finding.
    size = parts.sum(axis=1)
    surplus = (np.abs(q) > 1) @ parts.T - OUTSIDE * size  # (draw, group)
    contrasts = surplus / np.sqrt(OUTSIDE * (1 - OUTSIDE) * size)
    effect = surplus.mean(axis=0) / (OUTSIDE * size)
    worst = int(np.argmax(np.abs(contrasts.mean(axis=0))))
    return Statistic(
        name="group_spread",
        p=calibrated_p(contrasts),
        where=names[worst],
        effect=float(effect[worst]),
    )


def _overall(q: Array, percent: Array, runs: pd.Series) -> list[Statistic]:
    n = q.shape[1]
    surplus = (np.abs(q) > -special.ndtri(FAR / 2)).sum(axis=1) - FAR * n
    spread = surplus / np.sqrt(FAR * (1 - FAR) * n)
    excess = (q > 1).sum(axis=1) - (q < -1).sum(axis=1)
    skew = _far_more_than_near(q).sum(axis=1) / np.sqrt(n)
    farthest = np.abs(q).max(axis=1)
    worst = -special.ndtri(-np.expm1(n * np.log1p(-2 * special.ndtr(-farthest))))
    place = int(np.argmax(np.abs(q).mean(axis=0)))
    return [
        Statistic(
            name="spread",
            p=calibrated_p(spread[:, None]),
            where="wider" if spread.mean() > 0 else "narrower",
            effect=float(surplus.mean() / (FAR * n)),
        ),
        Statistic(
            name="skew",
            p=calibrated_p(skew[:, None]),
            where="above" if skew.mean() > 0 else "below",
            effect=float(excess.mean() / (OUTSIDE * n)),
        ),
        Statistic(
            name="worst_residual",
            p=calibrated_p(worst[:, None], one_sided=True),
            where=str(runs.iloc[place]),
            effect=float(q[:, place].mean()),
            percent=float(percent[place]),
        ),
    ]


def _far_more_than_near(q: Array) -> Array:
    """An odd function of q, of variance one, that rises with far runs and falls with near ones.

    Smooth and without a part along q, so that a small shift of the law leaves its sum alone.
    """
    a = 1.5
    along = a * np.exp(-(a**2) / 2)  # E q sin(a q)
    variance = (1 - np.exp(-2 * a**2)) / 2 - along**2
    return np.asarray((along * q - np.sin(a * q)) / np.sqrt(variance))


def calibrated_p(contrasts: Array, *, one_sided: bool = False) -> float:
    """P-value of contrasts (draw, k) that are standard normals at each draw if the model holds.

    NaN if the fit absorbs all of them. `one_sided` takes one contrast, for which only large counts.
    """
    mean = contrasts.mean(axis=0)
    absorbed = np.atleast_2d(np.cov(contrasts, rowvar=False))
    values, vectors = np.linalg.eigh(np.eye(len(mean)) - absorbed)
    used = values > ABSORBED
    if not used.any():
        return float("nan")
    scaled = (vectors.T @ mean)[used] / np.sqrt(values[used])
    if one_sided:
        return float(stats.norm.sf(mean[0] / np.sqrt(values[0])))
    return float(stats.chi2.sf((scaled**2).sum(), used.sum()))
