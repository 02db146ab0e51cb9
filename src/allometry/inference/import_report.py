"""What became of imported priors: their posterior weights, their worth in runs, and conflict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.derive import CHUNK, Arrays
from allometry.inference.imported import (
    ImportedBlock,
    ImportedSource,
    block_log_densities,
    law_of,
)
from allometry.inference.importing import BoundPrior
from allometry.inference.model import STUDENT_DF, RunArrays, expected_log_loss
from allometry.inference.worth import (
    MOST_RUNS,
    UNTOLD,
    location_information,
    prior_precision,
    run_information,
    runs_worth,
    worth_words,
)
from allometry.laws import Law, Point

Values = npt.NDArray[np.float64]

CONFLICT_WEIGHT = 0.5
"""Posterior weight of the default prior from which on the runs are said to contradict."""

NO_WEIGHT = 1e-100
"""Weight of a default prior that was asked to have none: its logarithm must be finite."""

CONFLICT_P = 0.01
PREDICTED_RUNS = 120
"""Runs that the prior predictive check looks at, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOutcome:
    """What became of the priors imported for the same quantities.

    Attributes
    ----------
    names : tuple of str
        Of the priors.
    about : str
        ``law``, ``noise`` or ``law and noise``.
    prior_weights, posterior_weights : tuple of float
        Of the default prior, then of each import.
    worth_runs : float or None
        Further runs like the study's that teach as much of a run at ten times the largest budget.
        None if no number of them does (runs of one budget, say), or the law was not imported.
    predictive_p : float or None
        Probability, under the imported prior, of losses at least as far from what it predicts.
    notes : tuple of str
        What was converted, dropped or matched.
    words : str
        All of it in a sentence.
    by_default : bool
        Whether it is the library's, which nobody asked for.
    left_discrepancy : tuple of float or None
        Standard deviation of what the law gets wrong at ten times the largest budget, as shares of
        loss: with what laws of studies leave of a discrepancy, and with all of it. None where
        nothing is left out of it.
    """

    names: tuple[str, ...]
    about: str
    prior_weights: tuple[float, ...]
    posterior_weights: tuple[float, ...]
    worth_runs: float | None
    predictive_p: float | None
    notes: tuple[str, ...]
    words: str
    by_default: bool = False
    left_discrepancy: tuple[float, float] | None = None

    @property
    def conflict(self) -> bool:
        """Whether the runs contradict the import."""
        p = self.predictive_p
        return self.posterior_weights[0] > CONFLICT_WEIGHT or (p is not None and p < CONFLICT_P)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "ImportOutcome":
        """The outcome from its fields as JSON types."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
        }
        return ImportOutcome(**values)


@partial(jax.jit, static_argnums=1)
def _weights(block: ImportedBlock, law: Law, sites: Any) -> Float[Array, " w"]:
    def one(draw: Any) -> Array:
        return jax.nn.softmax(block_log_densities(block, law, draw))

    return jax.vmap(one)(sites).mean(axis=0)


def outcomes(
    blocks: Sequence[ImportedBlock],
    members: Sequence[Sequence[int]],
    bound: Sequence[BoundPrior],
    *,
    law: Law,
    sites: Arrays,
    runs: RunArrays,
    seed: int,
) -> tuple[ImportOutcome, ...]:
    """Outcome of each block, from the posterior's sites (draw, ...)."""
    n_draws = len(sites["theta"])
    thin = np.linspace(0, n_draws - 1, CHUNK).astype(np.int64)
    kept = {name: jnp.asarray(value[thin]) for name, value in sites.items()}
    found = []
    for block, indices in zip(blocks, members, strict=True):
        own = [bound[i] for i in indices]
        posterior = np.asarray(_weights(block, law, kept))
        prior = np.exp(np.asarray(block.log_weights))
        with_law = [s for s in block.sources if s.law_part != "none"]
        best = with_law[0] if with_law else None
        worth = p = None
        if best is not None:
            worth = _worth(best, law, sites, runs)
            p = predictive_p(block.sources, law, sites, runs, seed=seed)
        parts = [
            word
            for word, there in (
                ("law", bool(with_law)),
                ("noise", any(s.noise for s in block.sources)),
            )
            if there
        ]
        about = " and ".join(parts)
        names = tuple(dict.fromkeys(one.name for one in own))
        found.append(
            ImportOutcome(
                names=tuple(one.name for one in own),
                about=about,
                prior_weights=_weights_told(prior),
                posterior_weights=_weights_told(posterior),
                worth_runs=None if worth is None or worth >= MOST_RUNS else worth,
                predictive_p=p,
                notes=tuple(note for one in own for note in one.notes),
                words=_words(names, about, prior[0], posterior, worth, p),
                by_default=any(one.by_default for one in own),
            )
        )
    return tuple(found)


def _weights_told(weights: Values) -> tuple[float, ...]:
    return tuple(float(w) if w > NO_WEIGHT else 0.0 for w in weights)


def _words(
    names: Sequence[str],
    about: str,
    vague: float,
    posterior: Values,
    worth: float | None,
    p: float | None,
) -> str:
    called = " and ".join(names) if len(names) < 4 else f"{len(names)} priors"
    text = f"prior of the {about} from {called}"
    weight = f"weight of the default prior {vague:.2g} before and {posterior[0]:.2g} after the runs"
    if vague < NO_WEIGHT:  # there is nothing that it could be set aside for
        weight = "no default prior beside it"
    if posterior[0] > CONFLICT_WEIGHT:  # then it is worth nothing to these runs
        return f"{text} is contradicted by the runs and was mostly set aside ({weight})"
    if worth is not None and worth >= MOST_RUNS:
        text += f": {UNTOLD}"
    elif worth is not None:
        text += (
            f" is worth {worth_words(worth)} more runs like these"
            if worth >= 1
            else " narrows a prediction at ten times the largest budget by less than one more run"
        )
    if p is not None and p < CONFLICT_P:
        told = f"losses this far from it have probability {p:.2g}"
        return f"{text}, but the runs are unlike what it predicts: {told} ({weight})"
    agrees = "the runs agree with it" if p is None else f"the runs agree with it, p = {p:.2g}"
    return f"{text}; {agrees} ({weight})"


def _point(runs: RunArrays, rows: npt.NDArray[np.int64]) -> Point:
    return Point(
        log_params=runs.log_params[rows],
        log_tokens=runs.log_tokens[rows],
        columns={name: values[rows] for name, values in runs.columns.items()},
        log_reference=(float(runs.log_reference[0]), float(runs.log_reference[1])),
    )


def _rows(source: ImportedSource, runs: RunArrays) -> npt.NDArray[np.int64]:
    """Runs that a source is about."""
    there = np.asarray(runs.weight) > 0
    group = np.asarray(runs.group)
    if source.target == "groups":
        there &= np.isin(group, source.columns)
    if source.target == "level":
        there &= np.isin(np.asarray(runs.parent)[group], source.columns)
    return np.flatnonzero(there)


def _worth(source: ImportedSource, law: Law, sites: Arrays, runs: RunArrays) -> float:
    """Further runs of the groups' design, the first group of several standing for all."""
    rows = _rows(source, runs)
    group = int(np.asarray(runs.group)[rows[0]])
    theta = sites["theta"].mean(axis=0)[:, group]
    k = len(law.names)
    mixture = source.mixture
    width = k if source.law_part == "full" else k - 1
    roots = np.linalg.inv(np.asarray(mixture.factors))
    known = location_information(
        np.exp(np.asarray(mixture.log_weights)),
        np.asarray(mixture.means)[:, :width],
        (roots @ np.swapaxes(roots, 1, 2))[:, :width, :width],
        float(mixture.df),
    )
    sds = 1.0 / np.asarray(source.factors)[:, :, 0, 0]
    default = 1.0 / (np.exp(np.asarray(_node_weights(source))) * sds**2).sum(axis=1)
    information, ahead = run_information(
        law,
        theta,
        _point(runs, rows),
        log_noise=float(sites["log_noise"].mean()),
        log_off_valley=float(sites["log_off_valley"].mean()),
    )
    precision = prior_precision(
        law,
        theta - np.asarray(source.offset),
        known,
        np.asarray(source.shift),
        law_part=source.law_part,
        level=np.asarray(source.level),
        default_precision=default,
    )
    own = int((np.asarray(runs.group)[rows] == group).sum())
    return runs_worth(np.diag(default), precision, information, ahead, runs=float(own))


def _node_weights(source: ImportedSource) -> Values:
    """Logs of the weights of the spreads' nodes, (k, node), from what `log_norms` holds."""
    factors, log_norms = np.asarray(source.factors), np.asarray(source.log_norms)
    log_det = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
    g = factors.shape[-1]
    return np.asarray(log_norms - log_det + 0.5 * g * np.log(2 * np.pi))


@partial(jax.jit, static_argnums=1)
def _predicted(source: ImportedSource, law: Law, x: Array, runs: RunArrays) -> tuple[Array, Array]:
    def one(point: Array) -> tuple[Array, Array]:
        theta = law_of(source, law, point)
        index = jnp.zeros_like(runs.group)
        if source.target == "groups":
            index = jnp.argmax(runs.group[:, None] == jnp.asarray(source.columns), axis=1)
        own = replace(runs, group=jnp.arange(runs.group.shape[0]))
        return expected_log_loss(law, theta[:, index], own)

    return jax.vmap(one)(x)


def predictive_p(
    sources: Sequence[ImportedSource],
    law: Law,
    sites: Arrays,
    runs: RunArrays,
    *,
    seed: int,
    draws: int = 400,
) -> float | None:
    """Prior predictive p: how often imported priors predict losses this far from their mean.

    Losses are drawn from the priors of the law with the posterior's noise; their distance is that
    of Mahalanobis. Where the level of loss is not imported, the groups' mean losses are taken out.
    """
    with_law = [source for source in sources if source.law_part != "none"]
    rows = np.unique(np.concatenate([_rows(source, runs) for source in with_law]))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), PREDICTED_RUNS)).astype(np.int64)]
    if len(rows) < 3:
        return None
    rng = np.random.default_rng([seed, 13])
    parts = []
    for source in with_law:
        x = _draw(source, draws // len(with_law), rng)
        mean, imbalance = (np.asarray(a) for a in _predicted(source, law, jnp.asarray(x), runs))
        pick = rng.integers(len(sites["log_noise"]), size=len(x))
        log_noise = sites["log_noise"][pick][:, None]
        if "noise_offset" in sites:
            log_noise = log_noise + sites["noise_offset"][pick][:, np.asarray(runs.group)]
        off = sites["log_off_valley"][pick][:, None]
        sd = np.sqrt(
            np.exp(2 * log_noise)
            + np.exp(2 * off) * imbalance**4
            + np.asarray(runs.relative_stderr) ** 2
        )
        parts.append((mean + sd * rng.standard_t(STUDENT_DF, size=mean.shape))[:, rows])
    replicated = np.concatenate(parts)
    observed = np.asarray(runs.log_loss)[rows]
    group = np.asarray(runs.group)[rows]
    if any(source.law_part == "shape" for source in with_law):
        replicated, observed = (_centred(a, group) for a in (replicated, observed[None]))
        observed = observed[0]
    half = len(replicated) // 2  # one half says what is usual, the other how far others are
    centre = replicated[:half].mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(replicated[:half].T))
    good = values > values[-1] * 1e-8
    root = vectors[:, good] / np.sqrt(values[good] + values[good].mean() * 1e-3)
    far = (((replicated[half:] - centre) @ root) ** 2).sum(axis=1)
    own = float((((observed - centre) @ root) ** 2).sum())
    return float((1 + (far >= own).sum()) / (1 + len(far)))


def _centred(values: Values, group: npt.NDArray[np.int64]) -> Values:
    out = values.copy()
    for g in np.unique(group):
        out[:, group == g] -= values[:, group == g].mean(axis=1, keepdims=True)
    return out


def _draw(source: ImportedSource, n: int, rng: np.random.Generator) -> Values:
    mixture = source.mixture
    weights = np.exp(np.asarray(mixture.log_weights))
    component = rng.choice(len(weights), size=n, p=weights / weights.sum())
    roots = np.linalg.inv(np.asarray(mixture.factors))
    means = np.asarray(mixture.means)
    z = np.einsum("nij,nj->ni", roots[component], rng.normal(size=(n, means.shape[1])))
    df = float(mixture.df)
    z *= np.sqrt(df / rng.chisquare(df, size=n))[:, None]
    return np.asarray(means[component] + z)
