"""What a recommended size would have cost: its loss at a held-out budget over the best size's.

Three recommendations are scored at the same budgets: the posterior's, the parabola method's and
that of approach 3 (the additive law by L-BFGS, minimised along the same cost model). Of the first
and the last also whether their intervals of N* hold the best size.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.polynomial import Polynomial

from allometry.criticism.baseline import HuberFit, additive_log_loss
from allometry.criticism.cutoffs import Split
from allometry.criticism.parabola import parabola_growth_law
from allometry.criticism.scores import covered
from allometry.decisions.optimum import optimum
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.groups import group_runs

Array = npt.NDArray[np.float64]

BUDGET_WIDTH = 0.2
"""Decades of compute of the runs that stand for one held-out budget."""

MIN_BUDGET_RUNS = 5
MIN_SIZES = 4
MIN_SIZE_RANGE = 3.0
"""Runs, sizes, and largest over smallest size that a held-out budget has at least."""

MIN_CUBIC_SIZES = 7
"""Sizes from which a held-out valley may be a cubic."""

METHODS = ("posterior", "parabola", "approach_3")
LEVELS = (50, 80, 90)


def decision_scores(
    split: Split, posterior: Posterior, baselines: Mapping[str, HuberFit]
) -> pd.DataFrame:
    """Regret of each method's size at each held-out budget.

    Around a budget, log loss of the hidden runs is a polynomial in log N plus a slope in log C; the
    regret of a size is the polynomial's height there over its minimum. It is a parabola, or a cubic
    where that has the better information criterion: over wide ranges of sizes valleys are not
    symmetric, and the minimum of a parabola lies off theirs. Sizes beyond those of the hidden runs
    are moved to the nearest of them, so that nothing is extrapolated. The minimum is known up to a
    standard error, which is added to the intervals of N*.

    Returns
    -------
    DataFrame
        One row a group and budget with a minimum among its runs: ``group, flops, runs,
        best_params``; ``parabola_params``, the minimum of the parabola through the same hidden runs
        (NaN where it is not among them); for each of ``posterior, parabola, approach_3``:
        ``params_*`` recommended, ``regret_*`` in log loss, NaN where the method has no answer; and
        whether intervals of N* hold the best size, ``covered_50, covered_80, covered_90`` with
        `_posterior` or `_approach_3` behind. Empty for a law that needs more than a budget.
    """
    if posterior.law.columns:
        return pd.DataFrame()
    test = split.test
    groups = group_runs(test, posterior.record.by)
    known = posterior.groups.astype(str).agg("/".join, axis=1).tolist()
    growth = _parabolas(split, posterior.record.by)
    rows = []
    rng = np.random.default_rng([posterior.record.seed, 23])
    for g, name in enumerate(groups.names):
        index = known.index(name) if posterior.record.by else 0
        mine = test[groups.index == g]
        for flops, runs in _held_out_budgets(mine):
            valley = _valley(runs)
            if valley is None:
                continue
            ours = np.log(optimum(posterior, np.array([index]), np.array([flops]))[0][:, 0])
            fit = baselines[name]
            theirs = _additive_optimum(posterior, np.array([fit.theta]), index, flops)
            sizes = {
                "posterior": float(np.exp(np.median(ours))),
                "parabola": growth[name](flops) if name in growth else np.nan,
                "approach_3": float(np.exp(theirs[0])),
            }
            row: dict[str, object] = {"group": name, "flops": flops, "runs": len(runs)}
            row["best_params"] = float(np.exp(valley.log_best))
            row["parabola_params"] = float(np.exp(valley.log_parabola))
            for method, params in sizes.items():
                row |= {f"params_{method}": params, f"regret_{method}": valley.regret(params)}
            refits = _additive_optimum(posterior, fit.bootstrap, index, flops)
            for method, draws in (("posterior", ours), ("approach_3", refits)):
                row |= _covered(method, draws, valley, rng)
            rows.append(row)
    return pd.DataFrame(rows)


def _held_out_budgets(runs: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Windows of the hidden runs that are wide enough in size, from the smallest budget up."""
    ordered = runs.assign(_decades=np.log10(runs["_flops"])).sort_values("_decades")
    found, start = [], 0
    decades = ordered["_decades"].to_numpy(dtype=np.float64)
    while start < len(ordered):
        stop = int(np.searchsorted(decades, decades[start] + BUDGET_WIDTH, side="right"))
        part = ordered.iloc[start:stop]
        sizes = part["params"]
        wide = sizes.nunique() >= MIN_SIZES and sizes.max() >= MIN_SIZE_RANGE * sizes.min()
        if len(part) >= MIN_BUDGET_RUNS and wide:
            found.append((float(10 ** part["_decades"].mean()), part))
        start = stop
    return found


class _Valley:
    """Log loss against log N at one held-out budget: a polynomial with a minimum.

    Attributes
    ----------
    polynomial : Polynomial
        Of natural log N.
    log_best, log_sd : float
        Its minimum, and the standard error of that.
    log_parabola : float
        Minimum of the parabola through the same runs; NaN if that is not among them.
    low, high : float
        Log N of the smallest and the largest run.
    """

    def __init__(
        self,
        polynomial: Polynomial,
        *,
        log_best: float,
        log_sd: float,
        log_parabola: float,
        low: float,
        high: float,
    ) -> None:
        self.polynomial, self.log_best, self.log_sd = polynomial, log_best, log_sd
        self.log_parabola, self.low, self.high = log_parabola, low, high

    def regret(self, params: float) -> float:
        """Log loss of a size over that of the best one; NaN of NaN."""
        place = float(np.clip(np.log(params), self.low, self.high))
        return float(self.polynomial(place) - self.polynomial(self.log_best))


def _valley(runs: pd.DataFrame) -> _Valley | None:
    """A parabola, or a cubic if it explains the runs better; None without a minimum among them."""
    log_params = np.log(runs["params"].to_numpy(dtype=np.float64))
    log_flops = np.log(runs["_flops"].to_numpy(dtype=np.float64))
    log_loss = np.log(runs["loss"].to_numpy(dtype=np.float64))
    middle = float(log_params.mean())
    x, c = log_params - middle, log_flops - log_flops.mean()
    beside = [c] if np.ptp(c) > 1e-9 else []
    degrees = (2, 3) if runs["params"].nunique() >= MIN_CUBIC_SIZES else (2,)
    designs = [np.stack([*(x**k for k in range(n + 1)), *beside], axis=1) for n in degrees]
    fits = [np.linalg.lstsq(design, log_loss, rcond=None)[0] for design in designs]
    pairs = zip(designs, fits, strict=True)
    better = int(np.argmin([_information(log_loss - d @ fit, d.shape[1]) for d, fit in pairs]))
    design, fitted, degree = designs[better], fits[better], degrees[better]
    centred = Polynomial(fitted[: degree + 1])
    best = _minimum(centred, x.min(), x.max())
    if best is None:
        return None
    log_sd = _minimum_sd(design, centred, best, log_loss - design @ fitted)
    vertex = _minimum(Polynomial(fits[0][:3]), x.min(), x.max())
    return _Valley(
        centred(Polynomial([-middle, 1.0])),
        log_best=best + middle,
        log_sd=log_sd,
        log_parabola=np.nan if vertex is None else vertex + middle,
        low=float(log_params.min()),
        high=float(log_params.max()),
    )


def _information(residuals: Array, coefficients: int) -> float:
    """Corrected information criterion of a least-squares fit (Hurvich and Tsai 1989)."""
    n, k = len(residuals), coefficients + 1
    if n - k - 1 < 1:
        return np.inf
    with np.errstate(divide="ignore"):  # an exact fit
        return float(n * np.log((residuals**2).mean()) + 2 * k * n / (n - k - 1))


def _minimum(polynomial: Polynomial, low: float, high: float) -> float | None:
    """Where the polynomial is lowest between two ends; None if that is at an end."""
    flat = np.asarray(polynomial.deriv().roots(), dtype=np.complex128)
    real = flat.real[np.abs(flat.imag) < 1e-9]
    inside = [float(place) for place in real if low <= place <= high]
    best = min([low, high, *inside], key=lambda place: float(polynomial(place)))
    return best if best in inside else None


def _minimum_sd(design: Array, polynomial: Polynomial, best: float, residuals: Array) -> float:
    """Standard error of a polynomial's minimum, to first order; zero where no residual is left."""
    spare = len(residuals) - design.shape[1]
    if spare < 1:
        return 0.0
    powers = np.arange(1, polynomial.degree() + 1)
    slopes = np.zeros(design.shape[1])
    slopes[powers] = -powers * best ** (powers - 1) / polynomial.deriv(2)(best)
    explained = slopes @ np.linalg.pinv(design.T @ design) @ slopes
    return float(np.sqrt(explained * (residuals**2).sum() / spare))


def _covered(
    method: str, log_params: Array, valley: _Valley, rng: np.random.Generator
) -> dict[str, bool | float]:
    """Whether intervals of log N* (draw,) hold the best size; NaN without draws."""
    names = [f"covered_{level}_{method}" for level in LEVELS]
    if not len(log_params):
        return dict.fromkeys(names, np.nan)
    draws = log_params[:, None] + valley.log_sd * rng.normal(size=(len(log_params), 1))
    best = np.array([valley.log_best])
    inside = [bool(covered(draws, best, level / 100)[0]) for level in LEVELS]
    return dict(zip(names, inside, strict=True))


def _additive_optimum(posterior: Posterior, theta: Array, index: int, flops: float) -> Array:
    """Optimum log N of additive laws (law, 5) along the group's cost model, (law,)."""
    log_params = np.linspace(-9.0, 9.0, 2001) + 0.5 * np.log(flops / 6)
    params = np.exp(log_params)
    tokens = np.asarray(posterior.record.cost.tokens_at(np.full(len(params), index), flops, params))
    log_loss = additive_log_loss(theta.T[:, :, None], log_params, np.log(tokens))
    return np.asarray(log_params[np.argmin(log_loss, axis=1)])


class _Growth:
    """N* = prefactor C^exponent."""

    def __init__(self, prefactor: float, exponent: float) -> None:
        self.prefactor, self.exponent = prefactor, exponent

    def __call__(self, flops: float) -> float:
        return float(self.prefactor * flops**self.exponent)


def _parabolas(split: Split, by: tuple[str, ...]) -> dict[str, _Growth]:
    """Growth law of each group that has two budgets with a minimum."""
    try:
        table = parabola_growth_law(split.train.table, by=by or None)
    except InputError:  # no isoflop budgets: the method has no answer
        return {}
    keys = table[list(by)].astype(str).agg("/".join, axis=1) if by else ["all"] * len(table)
    return {
        str(key): _Growth(prefactor, exponent)
        for key, prefactor, exponent in zip(
            keys, table["params_prefactor"], table["params_exponent"], strict=True
        )
    }
