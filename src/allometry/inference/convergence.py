"""Is a set of chains to be believed? Judged for the user, with reasons and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from allometry.errors import NotConvergedError
from allometry.inference.importance import MAX_PARETO_K
from allometry.inference.statistics import bulk_ess, rank_rhat, tail_ess

MAX_RHAT = 1.01
MIN_ESS = 400.0
TAIL = (0.05, 0.95)
AT_A_TIME = 200
LOOSE_RHAT = 1.05
"""A fit whose published coefficients are above did not converge; from `MAX_RHAT` on it is told.

They are functions of what is sampled, in units far from the runs: chains that agree in every
sampled parameter may agree less in a product of them, and a little above the limit is often chance.
"""
AGREEMENT_NATS = 0.05
"""Modes whose log posteriors differ by less are taken for the same one."""

RIVAL_NATS = 8.0
"""Another mode at most so far below the best could hold a share of the posterior."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence:
    """Diagnostics of a fit and the verdict on them.

    Attributes
    ----------
    converged : bool
        Whether decisions may be taken without ``force``.
    divergences, tree_depth_hits : int
        Diverging draws; draws that were cut off at the largest tree.
    max_rhat, min_ess_bulk, min_ess_tail : float
        Worst over all sampled parameters, of which published coefficients are functions;
        rank-normalised split R-hat, tail at 5 and 95 %.
    pareto_k : float
        Of the importance weights of a Laplace fit, tried or kept; None if there was none.
    starts_agree : int
        Starts that climbed to the best mode, of `starts`.
    starts : int
        Starts of the climb.
    seconds : float
        Wall time of the fit.
    reasons, advice : tuple of str
        Why it did not converge, and what to do; empty if it did.
    """

    converged: bool
    divergences: int
    max_rhat: float
    min_ess_bulk: float
    min_ess_tail: float
    tree_depth_hits: int
    starts_agree: int
    starts: int
    seconds: float
    pareto_k: float | None = None
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


class Statistics(NamedTuple):
    """Worst R-hat, bulk and tail effective sample size over the parameters of some chains."""

    rhat: float
    bulk: float
    tail: float

    @property
    def least(self) -> float:
        """The smaller of the effective draws."""
        return min(self.bulk, self.tail)

    @property
    def enough(self) -> bool:
        """Whether they meet the limits on R-hat and effective draws."""
        return self.rhat <= MAX_RHAT and min(self.bulk, self.tail) >= MIN_ESS


def chain_statistics(draws: npt.NDArray[np.float64]) -> Statistics:
    """Statistics of draws (chain, draw, parameter)."""
    # Some hundred at a time: the transforms of thousands would take gigabytes.
    parts = [draws[..., i : i + AT_A_TIME] for i in range(0, draws.shape[-1], AT_A_TIME)]
    return Statistics(
        float(np.max([rank_rhat(part).max() for part in parts])),
        float(np.min([bulk_ess(part).min() for part in parts])),
        float(np.min([tail_ess(part, low=TAIL[0], high=TAIL[1]).min() for part in parts])),
    )


class Worst(NamedTuple):
    """The published coefficient that chains agree least on."""

    name: str
    group: str
    rhat: float

    @property
    def words(self) -> str:
        """Its R-hat, and whose it is."""
        return f"R-hat {self.rhat:.3f} of {self.name} ({self.group})"


def worst_published(
    published: Mapping[str, npt.NDArray[np.float64]], groups: Sequence[str], *, chains: int
) -> Worst | None:
    """The largest R-hat of coefficients, each (draw, group) with the draws of a chain together.

    None of one chain, or where none moves.
    """
    if chains < 2:
        return None
    found = []
    for name, values in published.items():
        draws = np.asarray(values, dtype=np.float64).reshape(chains, -1, len(groups))
        parts = [draws[..., i : i + AT_A_TIME] for i in range(0, len(groups), AT_A_TIME)]
        rhats = np.concatenate([rank_rhat(part) for part in parts])
        if np.isfinite(rhats).any():
            at = int(np.nanargmax(rhats))
            found.append(Worst(name, groups[at], float(rhats[at])))
    return max(found, key=lambda worst: worst.rhat, default=None)


def judge_published(convergence: Convergence, worst: Worst | None) -> Convergence:
    """The verdict of a fit, or a no where its published coefficients are far from agreement."""
    if worst is None or worst.rhat <= LOOSE_RHAT or not convergence.converged:
        return convergence
    return replace(
        convergence,
        converged=False,
        reasons=(f"{worst.words} above {LOOSE_RHAT}",),
        advice=("run more draws (--draws)",),
    )


def loose_published(convergence: Convergence, worst: Worst | None) -> tuple[str, ...]:
    """A note where chains of a fit that converged agree less on a published coefficient."""
    if worst is None or worst.rhat <= MAX_RHAT or not convergence.converged:
        return ()
    return (
        f"{worst.words} is above {MAX_RHAT}: a fit is judged by what it samples (R-hat "
        f"{convergence.max_rhat:.3f}), of which this is a function; before it is quoted, run more "
        "draws (--draws)",
    )


def judge_modes(log_posteriors: npt.NDArray[np.float64]) -> tuple[int, str]:
    """How many starts reached the best mode, and a reason to doubt it (empty if there is none)."""
    gaps = log_posteriors.max() - log_posteriors
    agree = int((gaps < AGREEMENT_NATS).sum())
    rivals = gaps[(gaps >= AGREEMENT_NATS) & (gaps < RIVAL_NATS)]
    if len(rivals) == 0:
        return agree, ""
    return (
        agree,
        f"{len(rivals)} of {len(gaps)} starts end in another mode {rivals.min():.1f} nats below",
    )


def judge(
    *,
    draws: npt.NDArray[np.float64],
    divergences: int,
    tree_depth_hits: int,
    log_posteriors: npt.NDArray[np.float64],
    seconds: float,
    pareto_k: float | None = None,
    statistics: Statistics | None = None,
) -> Convergence:
    """Verdict on NUTS chains; `draws` has shape (chain, draw, parameter).

    Their `statistics` are used where the caller has them: thousands of parameters take a while.
    """
    rhat, bulk, tail = statistics or chain_statistics(draws)
    agree, doubt = judge_modes(log_posteriors)
    reasons, advice = [], []
    if divergences:
        reasons.append(f"{divergences} divergences")
        advice.append("raise the target acceptance (--target 0.99), or tighten the priors")
    if not rhat <= MAX_RHAT:
        reasons.append(f"R-hat {rhat:.3f} above {MAX_RHAT}")
        advice.append("run more draws (--draws), or pool: fewer groups hold more runs each")
    if not min(bulk, tail) >= MIN_ESS:
        reasons.append(f"effective draws {min(bulk, tail):.0f} below {MIN_ESS:.0f}")
        if rhat <= MAX_RHAT:  # else it is said already
            advice.append("run more draws (--draws)")
    if tree_depth_hits > 0.01 * draws.shape[0] * draws.shape[1]:
        reasons.append(f"{tree_depth_hits} draws cut off at the largest tree")
        advice.append("the posterior is a ridge: use a law with fewer coefficients, or a prior")
    if doubt and not rhat <= MAX_RHAT:
        reasons.append(doubt)
        advice.append("too few budgets for this law: pool groups, give a prior, or add runs")
    return Convergence(
        converged=not reasons,
        divergences=divergences,
        max_rhat=rhat,
        min_ess_bulk=bulk,
        min_ess_tail=tail,
        tree_depth_hits=tree_depth_hits,
        starts_agree=agree,
        starts=len(log_posteriors),
        seconds=seconds,
        pareto_k=pareto_k,
        reasons=tuple(reasons),
        advice=tuple(dict.fromkeys(advice)),
    )


def doubted_mode(
    convergence: Convergence, log_posteriors: npt.NDArray[np.float64]
) -> tuple[str, ...]:
    """A note where one start alone reached the best mode of a converged fit, or it has a rival.

    The others ended far below, where no share of the posterior is, or in a mode that chains left:
    of that R-hat is the judge. A Laplace fit has no other judge than the starts.
    """
    found = convergence
    if not found.converged or found.starts < 2:
        return ()
    by_mode = found.pareto_k is not None and found.max_rhat == 1.0
    lonely = f"1 of {found.starts} starts reached the best mode, the others lower ones"
    if by_mode:
        _, rivals = judge_modes(log_posteriors)
        doubt = lonely if found.starts_agree < 2 else rivals
        judged = "draws are around the best one alone (laplace): --method nuts judges the others"
        return (f"{doubt}; {judged}",) if doubt else ()
    if found.starts_agree > 1:
        return ()
    agree = f"chains agree (R-hat {found.max_rhat:.3f})"
    return (f"{lonely}; {agree}: a fit with another seed (--seed) would confirm it",)


def fallen_through(asked: str, method: str, k_hat: float | None) -> tuple[str, ...]:
    """A note where another method answered than the one that was asked for."""
    if method == asked:
        return ()
    why = "too few of its draws carry the weight"
    if k_hat is None or not k_hat <= MAX_PARETO_K:
        why = "k-hat is unknown" if k_hat is None else f"k-hat {k_hat:.2g} above {MAX_PARETO_K}"
    return (f"{asked} does not stand for this posterior ({why}): {method} answered instead",)


def require_converged(convergence: Convergence, *, force: bool, where: str = "") -> None:
    """Raise unless the fit converged, or the caller insists."""
    if convergence.converged or force:
        return
    raise NotConvergedError(
        f"the fit did not converge: {'; '.join(convergence.reasons)}",
        where=where,
        hint=f"{'; '.join(convergence.advice)}. To decide all the same: force=True (--force).",
    )
