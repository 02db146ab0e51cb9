"""Mixtures of normal or Student-t distributions: fitted to draws, marginalised, evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma

import numpy as np
import numpy.typing as npt

from allometry.errors import InputError

Array = npt.NDArray[np.float64]

CANDIDATES: tuple[tuple[int, float | None], ...] = (
    (1, None),
    (1, 15.0),
    (1, 5.0),
    (2, None),
    (2, 5.0),
    (3, None),
)
"""Numbers of components and degrees of freedom (None: normal), from plain to rich."""

EM_STEPS = 100
EM_TOLERANCE = 1e-6
"""Nats a draw: EM ends when a step gains less."""

RIDGE = 1e-6
"""Added to variances, in units of the draws' own: a component never collapses on a few draws."""

DRAWS_A_NUMBER = 4.0
"""Draws that a mixture wants for each of its free numbers; richer ones are not tried."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mixture:
    """A mixture of multivariate normal or Student-t distributions.

    Attributes
    ----------
    weights : ndarray, shape (m,)
        Sum to one.
    means : ndarray, shape (m, d)
    scales : ndarray, shape (m, d, d)
        Covariances; scale matrices of a Student-t (covariance is df / (df - 2) times that).
    df : float or None
        Degrees of freedom, above 2; None: normal.
    """

    weights: Array
    means: Array
    scales: Array
    df: float | None = None

    @property
    def size(self) -> int:
        """Number of quantities d."""
        return int(self.means.shape[1])

    @property
    def mean(self) -> Array:
        """Mean, shape (d,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Array:
        """Covariance over all components, shape (d, d)."""
        inflation = 1.0 if self.df is None else self.df / (self.df - 2.0)
        apart = self.means - self.mean
        within = np.einsum("m,mij->ij", self.weights, self.scales) * inflation
        return np.asarray(within + np.einsum("m,mi,mj->ij", self.weights, apart, apart))

    def marginal(self, index: Sequence[int]) -> "Mixture":
        """Joint distribution of some of the quantities, in the order asked for."""
        chosen = np.asarray(index, dtype=np.int64)
        return Mixture(
            weights=self.weights,
            means=self.means[:, chosen],
            scales=self.scales[:, chosen[:, None], chosen],
            df=self.df,
        )

    def log_density(self, x: Array) -> Array:
        """Log density of points, shape (n, d) to (n,)."""
        return np.asarray(np.logaddexp.reduce(_component_log_densities(self, x)[0], axis=1))

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws, shape (n, d)."""
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        factors = np.linalg.cholesky(self.scales)
        z = np.einsum("nij,nj->ni", factors[component], rng.normal(size=(n, self.size)))
        if self.df is not None:
            z *= np.sqrt(self.df / rng.chisquare(self.df, size=n))[:, None]
        return np.asarray(self.means[component] + z)


def inverse_factors(scales: Array, df: float | None) -> tuple[Array, Array]:
    """Inverse Cholesky factors of scale matrices, and the log densities at the centre."""
    factors = np.linalg.cholesky(scales)
    d = scales.shape[-1]
    inverse = np.linalg.solve(factors, np.broadcast_to(np.eye(d), scales.shape))
    log_det = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
    if df is None:
        peak = -0.5 * d * np.log(2 * np.pi)
    else:
        peak = lgamma((df + d) / 2) - lgamma(df / 2) - 0.5 * d * np.log(df * np.pi)
    return np.asarray(inverse), np.asarray(peak - log_det)


def _component_log_densities(mixture: Mixture, x: Array) -> tuple[Array, Array]:
    """Weighted log densities (n, m) and squared distances (n, m)."""
    inverse, peaks = inverse_factors(mixture.scales, mixture.df)
    pairs = zip(inverse, mixture.means, strict=True)
    distance = np.stack([(((x - mean) @ one.T) ** 2).sum(axis=1) for one, mean in pairs], axis=1)
    if mixture.df is None:
        fall = -0.5 * distance
    else:
        fall = -0.5 * (mixture.df + mixture.size) * np.log1p(distance / mixture.df)
    return np.log(mixture.weights) + peaks + fall, distance


def fit_mixture(draws: Array, components: int, df: float | None) -> Mixture:
    """Mixture of given make by expectation maximisation, shape (n, d) of draws.

    Starts at the draws cut into slices along their most skewed principal direction.
    """
    centre, unit = draws.mean(axis=0), draws.std(axis=0)
    x = (draws - centre) / unit
    n, d = x.shape
    mixture = _start(x, components, df)
    before = -np.inf
    for _ in range(EM_STEPS):
        joint, distance = _component_log_densities(mixture, x)
        total = np.logaddexp.reduce(joint, axis=1)
        score = float(total.mean())
        if score - before < EM_TOLERANCE:
            break
        before = score
        share = np.exp(joint - total[:, None])  # [n, m]
        pull = share if df is None else share * (df + d) / (df + distance)
        counts = share.sum(axis=0)
        means = np.einsum("nm,nd->md", pull, x) / pull.sum(axis=0)[:, None]
        apart = x[:, None, :] - means
        outer = [(pull[:, [j]] * apart[:, j]).T @ apart[:, j] for j in range(len(counts))]
        scales = np.stack(outer) / counts[:, None, None]
        scales = (scales + np.swapaxes(scales, 1, 2)) / 2 + RIDGE * np.eye(d)
        mixture = Mixture(weights=counts / n, means=means, scales=scales, df=df)
    return Mixture(
        weights=mixture.weights,
        means=centre + unit * mixture.means,
        scales=mixture.scales * np.outer(unit, unit),
        df=df,
    )


def _start(x: Array, components: int, df: float | None) -> Mixture:
    directions = np.linalg.eigh(np.cov(x.T).reshape(x.shape[1], x.shape[1]))[1]
    along = x @ directions
    skewness = np.abs((((along - along.mean(0)) / along.std(0)) ** 3).mean(axis=0))
    order = np.argsort(along[:, int(np.argmax(skewness))])
    parts = np.array_split(order, components)
    overall = np.cov(x.T).reshape(x.shape[1], x.shape[1])
    return Mixture(
        weights=np.full(components, 1.0 / components),
        means=np.stack([x[part].mean(axis=0) for part in parts]),
        scales=np.stack([overall / components + RIDGE * np.eye(x.shape[1])] * components),
        df=df,
    )


def free_numbers(components: int, size: int) -> int:
    """Numbers that a mixture of so many components over so many quantities has."""
    return components * (1 + size + size * (size + 1) // 2) - 1


def choose_mixture(draws: Array, *, seed: int = 0) -> tuple[Mixture, dict[str, float]]:
    """The mixture that predicts held-out draws best, and how well it does.

    Parameters
    ----------
    draws : ndarray, shape (n, d)
        Chains joined, in their order: blocks of them are held out.

    Returns
    -------
    mixture : Mixture
        Of all draws; the plainest whose held-out score is within two standard errors of the best.
    goodness : dict
        ``held_out_log_score`` and that of a single normal, in nats a draw; the largest error of a
        marginal quantile (5 to 95 %), in standard deviations.

    Raises
    ------
    InputError
        If the draws are not finite or do not vary.
    """
    if not np.isfinite(draws).all() or draws.ndim != 2 or len(draws) < 2 * draws.shape[1] + 20:
        what = f"{draws.shape[0]} finite draws of {draws.shape[1]} quantities are too few"
        raise InputError(what, where="prior", hint="Fit with more draws (--draws).")
    if not (draws.std(axis=0) > 0).all():
        raise InputError("a quantity does not vary between draws", where="prior")
    halves = np.arange(len(draws)) * 8 // len(draws) % 2  # eight blocks, alternating
    scores: dict[tuple[int, float | None], Array] = {}
    for components, df in CANDIDATES:
        wanted = DRAWS_A_NUMBER * free_numbers(components, draws.shape[1])
        if scores and len(draws) * draws.shape[1] < wanted:
            continue
        parts = np.empty(len(draws))
        for held in (0, 1):
            found = fit_mixture(draws[halves != held], components, df)
            parts[halves == held] = found.log_density(draws[halves == held])
        scores[components, df] = parts
    best = max(scores, key=lambda make: float(scores[make].mean()))
    for make, score in scores.items():
        lead = scores[best] - score
        # Draws are correlated: blocks of an eighth of them are taken for independent.
        blocks = np.asarray([part.mean() for part in np.array_split(lead, 8)])
        if blocks.mean() <= 2 * blocks.std(ddof=1) / np.sqrt(8):
            chosen = make
            break
    mixture = fit_mixture(draws, *chosen)
    goodness = {
        "held_out_log_score": float(scores[chosen].mean()),
        "held_out_log_score_normal": float(scores[1, None].mean()),
        "max_quantile_error_sd": quantile_error(draws, mixture, seed=seed),
    }
    return mixture, goodness


def quantile_error(draws: Array, mixture: Mixture, *, seed: int) -> float:
    """Largest error of a marginal quantile of the mixture, in standard deviations of the draws."""
    ends = [0.05, 0.25, 0.5, 0.75, 0.95]
    made = mixture.draw(20_000, np.random.default_rng([seed, 11]))
    apart = np.quantile(made, ends, axis=0) - np.quantile(draws, ends, axis=0)
    return float(np.abs(apart / draws.std(axis=0)).max())
