"""From a program and its data to draws: the climb to the mode, the sampler, and its verdict."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import jax
import numpy as np
import numpy.typing as npt

from allometry.errors import InputError
from allometry.inference.allowance import most_leapfrogs
from allometry.inference.convergence import (
    Convergence,
    judge,
    judge_modes,
)
from allometry.inference.coordinates import Data, Density, Program
from allometry.inference.importance import Weighed
from allometry.inference.laplace import ADAPTED_SIZE, laplace_draws, log_posteriors
from allometry.inference.mode import DENSE_LIMIT, Mode, evaluator, every_nth, find_mode
from allometry.inference.nuts import (
    FEW_PARAMETERS,
    FEW_RUNS,
    LONGEST,
    LONGEST_OF_FEW,
    MAX_TREE_DEPTH,
    ChainDraws,
    sample,
)
from allometry.inference.spreads import held_levels
from allometry.inference.start import starts
from allometry.inference.surrogate import MANY_RUNS, surrogate_draws

Method = Literal["nuts", "laplace", "svi"]
CAREFUL_TARGET = 0.98
"""Acceptance of a second try after divergences: smaller steps get into narrower places."""

FIRST_CLIMB = 8192
"""Runs above which a thinned table is climbed first."""

ANOTHER_PLACE_NATS = 1.0
"""A mode so much higher than the sampled one is sampled instead; less is the same ridge."""

Stage = Callable[[str, int, int], None]
"""Called with what is being done, steps done, and steps in all (0: unknown)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How to sample.

    Attributes
    ----------
    method : {"nuts", "laplace", "svi"}
        ``laplace`` answers in a second where the posterior allows it, ``svi`` fits a Gaussian
        first; both are weighed by the posterior and fall through to NUTS, said in the record, where
        the weights say that they do not stand for it.
    chains, warmup, draws : int
        Of NUTS, which goes on for up to five times the draws (twenty times if it was asked for,
        of one group of at most 64 runs) while R-hat or the effective draws fall short; the others
        return as many draws in one block a chain.
    target : float
        Acceptance probability of NUTS; after divergences it is tried again with 0.98.
    starts : int
        Places that the mode is searched from.
    workers : int
        Chains at a time.
    """

    method: Method = "nuts"
    chains: int = 4
    warmup: int = 200
    draws: int = 400
    target: float = 0.9
    starts: int = 4
    workers: int = 2

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise InputError(f"method must be one of {known}, got {self.method!r}")
        low = {"chains": 1, "warmup": 50, "draws": 50, "starts": 1, "workers": 1}
        wrong = [
            f"{name} {getattr(self, name)} (at least {least})"
            for name, least in low.items()
            if getattr(self, name) < least
        ]
        if not 0.5 <= self.target < 1:
            wrong.append(f"target {self.target} (0.5 to below 1)")
        if wrong:
            raise InputError(f"out of range: {', '.join(wrong)}", where="sampler")


DEFAULT_SAMPLER = Sampler()


def tell(progress: Stage | None, what: str, done: int, total: int) -> None:
    """Report a stage to whoever listens."""
    if progress is not None:
        progress(what, done, total)


Drawn = tuple[ChainDraws, str, float | None]


def climb_and_draw(
    program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> tuple[list[Mode], Drawn]:
    """All modes and the draws: the other starts climb while the first mode is sampled.

    Should one of them end higher, the draws are made again from there.
    """
    count = sampler.starts if program.size <= DENSE_LIMIT else 1
    first, *others = starts(program, data, count=count, seed=seed)
    if len(data.runs.group) > FIRST_CLIMB:
        return _thinned_first([first, *others], program, data, sampler, seed, progress)
    _require_density([first, *others], program, data)

    held = held_levels(program)

    def climb(place: npt.NDArray[np.float64]) -> Mode:
        with jax.enable_x64(True):  # the switch is one of the thread's
            start = np.where(held, best.x, place)
            return find_mode(start, program, data, settle=False)

    tell(progress, "finding the mode", 0, 0)
    best = find_mode(first, program, data)
    with ThreadPoolExecutor(max_workers=1) as pool:
        climbing = [pool.submit(climb, place) for place in others]
        drawn = _draw(best, program, data, sampler, seed, progress)
        modes = [best, *(task.result() for task in climbing)]
    highest = max(modes, key=lambda mode: mode.log_posterior)
    if highest.log_posterior > best.log_posterior + ANOTHER_PLACE_NATS:
        drawn = _draw(highest, program, data, sampler, seed, progress)
    return modes, drawn


def _require_density(places: list[npt.NDArray[np.float64]], program: Program, data: Data) -> None:
    """Refuse a law that has no loss at any start, before minutes are spent on it."""
    values, _ = evaluator(program, data)(np.stack(places))
    if not np.isfinite(values).any():
        hint = (
            "Evaluate its log_loss (and imbalance) at the loc of its coefficients for the table's "
            "runs: each must be a finite number."
        )
        what = f"law {program.law.name} has no finite density at any of {len(places)} starts"
        raise InputError(what, where="law", hint=hint)


def _thinned_first(
    places: list[npt.NDArray[np.float64]],
    program: Program,
    data: Data,
    sampler: Sampler,
    seed: int,
    progress: Stage | None,
) -> tuple[list[Mode], Drawn]:
    """Climb a thinned table from every start, and all runs from the mode that suits them best."""
    few = every_nth(data, FIRST_CLIMB // 2)
    _require_density(places, program, few)
    modes = []
    for n, place in enumerate(places):
        tell(progress, "finding the mode of every n-th run", n, len(places))
        modes.append(find_mode(place, program, few))
    tell(progress, "finding the mode of all runs", 0, 0)
    over_all = log_posteriors(np.stack([mode.x for mode in modes]), program, data)
    best = modes[int(np.argmax(over_all))]
    mode = find_mode(best.x, program, data, settle=False)
    return modes, _draw(mode, program, data, sampler, seed, progress)


def _draw(
    mode: Mode, program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> Drawn:
    """Chains, the method that made them, and k-hat of a Laplace attempt."""
    k_hat: float | None = None
    if sampler.method != "nuts":
        weighed = _approximate(mode, program, data, sampler, seed, progress)
        k_hat = weighed.k_hat
        if weighed.believed:
            return _as_chains(weighed, sampler), sampler.method, k_hat
    # Who asked for an approximation wants an answer soon.
    small = len(data.runs.group) <= FEW_RUNS and program.size <= FEW_PARAMETERS
    longest = LONGEST_OF_FEW if small and sampler.method == "nuts" else LONGEST
    chains = sample_from(mode, program, data, sampler, seed, progress, longest=longest)
    if chains.diverging.any() and sampler.target < CAREFUL_TARGET and not chains.ended:
        careful = replace(sampler, target=CAREFUL_TARGET)
        again = sample_from(mode, program, data, careful, seed + 1, progress, longest=longest)
        if again.diverging.sum() < chains.diverging.sum() and not again.ended:
            chains = again
    return chains, "nuts", k_hat


def _approximate(
    mode: Mode, program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> Weighed:
    """Weighed draws of the approximation that was asked for."""
    total = sampler.chains * sampler.draws
    if sampler.method == "svi":
        from allometry.inference.svi import svi_draws  # imports NumPyro

        tell(progress, "fitting a Gaussian", 0, 0)
        return svi_draws(mode, program, data, draws=total, seed=seed)
    dense = program.size <= DENSE_LIMIT
    if dense and program.size > ADAPTED_SIZE and len(data.runs.group) > MANY_RUNS:
        tell(progress, "compiling the surrogate", 0, 0)
        return surrogate_draws(
            mode,
            program,
            data,
            draws=total,
            seed=seed,
            workers=sampler.workers,
            progress=lambda done, total: tell(progress, "sampling the surrogate", done, total),
        )
    tell(progress, "weighing Laplace draws", 0, 0)
    return laplace_draws(mode, program, data, draws=total, seed=seed)


class NutsSettings(Protocol):
    """What NUTS is told by any law's sampler."""

    @property
    def chains(self) -> int:
        """Chains."""

    @property
    def warmup(self) -> int:
        """Iterations of adaptation."""

    @property
    def draws(self) -> int:
        """Kept draws of a chain."""

    @property
    def target(self) -> float:
        """Acceptance probability."""

    @property
    def workers(self) -> int:
        """Chains at a time."""


def sample_from(
    mode: Mode,
    program: Density,
    data: Any,
    sampler: NutsSettings,
    seed: int,
    progress: Stage | None,
    *,
    longest: int = LONGEST,
) -> ChainDraws:
    """NUTS chains around a mode, which go on while they fall short; see `sample`."""
    tell(progress, "compiling the sampler", 0, 0)
    return sample(
        program,
        data,
        mode.whitening,
        chains=sampler.chains,
        warmup=sampler.warmup,
        draws=sampler.draws,
        seed=seed,
        target=sampler.target,
        workers=sampler.workers,
        until_enough=True,
        longest=longest,
        most_leapfrogs=most_leapfrogs(program, data),
        progress=lambda done, total: tell(progress, "sampling", done, total),
    )


def _as_chains(weighed: Weighed, sampler: Sampler) -> ChainDraws:
    shape = (sampler.chains, sampler.draws)
    return ChainDraws(
        x=weighed.x.reshape(*shape, -1),
        diverging=np.zeros(shape, dtype=bool),
        steps=np.zeros(shape, dtype=np.int64),
        acceptance=np.ones(shape),
        energy=np.zeros(shape),
        step_size=np.zeros(sampler.chains),
        effective=weighed.effective,
    )


def verdict(
    chains: ChainDraws,
    method: str,
    k_hat: float | None,
    log_posteriors: npt.NDArray[np.float64],
    seconds: float,
    *,
    advice: tuple[str, ...] = (),
) -> Convergence:
    """What a fit says of its own convergence; `advice` comes first if it did not."""
    if chains.effective is not None:
        # Independent draws up to the weights: k-hat is the diagnostic, chains are only a layout.
        n = min(chains.effective, float(chains.x.shape[0] * chains.x.shape[1]))
        return Convergence(
            converged=True,
            divergences=0,
            max_rhat=1.0,
            min_ess_bulk=n,
            min_ess_tail=n,
            tree_depth_hits=0,
            starts_agree=judge_modes(log_posteriors)[0],
            starts=len(log_posteriors),
            seconds=seconds,
            pareto_k=k_hat,
        )
    found = judge(
        draws=chains.x,
        statistics=chains.statistics,
        divergences=int(chains.diverging.sum()),
        tree_depth_hits=int((chains.steps >= 2**MAX_TREE_DEPTH - 1).sum()),
        log_posteriors=log_posteriors,
        seconds=seconds,
        pareto_k=k_hat,
    )
    if chains.ended:
        words = (
            f"chains ended after {chains.x.shape[1]} draws each, at {chains.steps.mean():.0f} "
            "leapfrogs a draw: more work than many thin groups are given"
        )
        # More draws or smaller steps, which `judge` advises, would end as well.
        return replace(found, converged=False, reasons=(words, *found.reasons), advice=advice)
    return found if found.converged else replace(found, advice=(*advice, *found.advice))
