"""NUTS in whitened coordinates: chains in threads, progress between segments."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from allometry.inference.convergence import MIN_ESS, Statistics, chain_statistics
from allometry.inference.coordinates import Density
from allometry.inference.mode import evaluator
from allometry.inference.whitening import Whitening

SEGMENT = 25
"""Iterations between two looks at the clock and the keyboard."""

GROWTH = 0.5
LONGEST = 5
"""Chains that fall short go on for half as long again, up to five times the wanted draws."""

FEW_RUNS, FEW_PARAMETERS, LONGEST_OF_FEW = 64, 16, 20
"""Of one small group draws are cheap and tails heavy, so that its chains go on to twenty times."""

HOPELESS_CUT, HOPELESS = 0.1, MIN_ESS / 2
"""Chains do not go on if more than a tenth of their draws are cut off at the largest tree and, at
this rate, not half of the wanted effective draws will be there at the longest."""

APART, FAR_FROM = 1.2, MIN_ESS / 4
"""Nor if R-hat is above 1.2 and not a quarter of them will be there: chains in places apart."""

LOOK = 2
"""Kept segments after which it is foreseen whether an allowance of leapfrogs lasts."""

MAX_TREE_DEPTH = 10
START_SPREAD = 0.8
"""Chains start at the mode plus this many Laplace standard deviations of jitter."""

Progress = Callable[[int, int], None]
"""Called with iterations done by all chains, and their total."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainDraws:
    """Draws in sampling coordinates with what the sampler said of itself.

    Attributes
    ----------
    x : ndarray, shape (chain, draw, d)
    diverging : ndarray of bool, shape (chain, draw)
    steps : ndarray of int, shape (chain, draw)
        Leapfrog steps of each draw.
    acceptance, energy : ndarray, shape (chain, draw)
    step_size : ndarray, shape (chain,)
    effective : float, optional
        Of weighed draws, which have no chains but in their layout.
    statistics : Statistics, optional
        Of x, where they have been computed.
    ended : bool
        Whether an allowance of leapfrogs ended the chains before they were done.
    """

    x: npt.NDArray[np.float64]
    diverging: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.int64]
    acceptance: npt.NDArray[np.float64]
    energy: npt.NDArray[np.float64]
    step_size: npt.NDArray[np.float64]
    effective: float | None = None
    statistics: Statistics | None = None
    ended: bool = False


def lasts(steps: Sequence[int], *, warm: int, wanted: int, allowance: float) -> bool:
    """Whether a chain's allowance of leapfrogs lasts for so many segments after warm-up.

    `steps` are the leapfrogs of its segments so far, of which the first `warm` are warm-up. What
    others will take is foreseen once there are `LOOK` that are none of it.
    """
    kept = steps[warm:]
    foreseen = (wanted - len(kept)) * sum(kept) / len(kept) if len(kept) >= LOOK else 0.0
    return sum(steps) + foreseen <= allowance


def hopeless(steps: npt.NDArray[np.int64], statistics: Statistics, *, longest: int) -> bool:
    """Whether chains of these leapfrog steps (chain, draw) would still fall short when longest."""
    cut = float((steps >= 2**MAX_TREE_DEPTH - 1).mean())
    at_longest = statistics.least * longest / steps.shape[1]
    ridge = cut > HOPELESS_CUT and at_longest < HOPELESS
    return ridge or (statistics.rhat > APART and at_longest < FAR_FROM)


@lru_cache(maxsize=16)
def _kernel(program: Density, warmup: int, target: float) -> tuple[Any, Any]:
    """Jitted (start, advance) of one chain."""
    # A third of a second, which only NUTS takes.
    from numpyro.infer.hmc import ParamInfo, hmc

    def potential(data: Any, whitening: Whitening) -> Callable[[Any], Any]:
        return lambda z: -program.log_density(whitening.apply_traced(z), data)

    init, transition = hmc(potential_fn_gen=potential, algo="NUTS")

    @jax.jit
    def start(z: Any, energy: Any, gradient: Any, key: Any) -> Any:
        return init(
            ParamInfo(z, energy, gradient),  # known, so that the density is not traced here
            num_warmup=warmup,
            step_size=0.3,  # about right for a unit Gaussian of 50-100 dimensions
            adapt_mass_matrix=True,
            dense_mass=False,  # whitened already: only scales are left to learn
            target_accept_prob=target,
            max_tree_depth=MAX_TREE_DEPTH,
            model_args=(None, None),
            rng_key=key,
        )

    @jax.jit
    def advance(state: Any, data: Any, whitening: Whitening) -> Any:
        def step(state: Any, _: None) -> Any:
            state = transition(state, model_args=(data, whitening))
            x = whitening.apply_traced(state.z)
            kept = (x, state.diverging, state.num_steps, state.accept_prob, state.energy)
            return state, kept

        return jax.lax.scan(step, state, None, length=SEGMENT)

    return start, advance


@lru_cache(maxsize=16)
def _compiled(
    program: Density,
    warmup: int,
    target: float,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    tree: jax.tree_util.PyTreeDef,
) -> Callable[..., Any]:
    """Machine code of a segment, once for all fits of one shape.

    Compiled ahead: chains that start together in threads would each compile it.
    """
    _, advance = _kernel(program, warmup, target)
    compiled: Callable[..., Any] = advance.lower(*jax.tree.unflatten(tree, shapes)).compile()
    return compiled


def sample(
    program: Density,
    data: Any,
    whitening: Whitening,
    *,
    chains: int,
    warmup: int,
    draws: int,
    seed: int,
    target: float = 0.9,
    workers: int = 2,
    until_enough: bool = False,
    longest: int = LONGEST,
    most_leapfrogs: float = math.inf,
    progress: Progress | None = None,
) -> ChainDraws:
    """Run NUTS chains from the mode.

    Parameters
    ----------
    program, data, whitening
        The density and its standardising map.
    chains, warmup, draws : int
        Chains; iterations of adaptation and kept draws of each, rounded up to whole segments.
    seed : int
        Seed of the jitter and of every chain's key.
    target : float
        Acceptance probability that the step size aims at.
    workers : int
        Chains that run at the same time, each in a thread (XLA releases the interpreter).
    until_enough : bool
        While the `draws` of every chain do not meet the limits on R-hat and effective draws, the
        chains go on (`GROWTH`).
    longest : int
        Most draws of a chain over the wanted ones.
    most_leapfrogs : float
        Allowance of all chains together, an equal part of which is each chain's. They end where one
        has taken its part or is foreseen to (`lasts`), all with as many draws as that one has.
    progress : callable, optional
        See `Progress`.
    """
    warm_segments, kept_segments = -(-warmup // SEGMENT), -(-draws // SEGMENT)
    start, _ = _kernel(program, warm_segments * SEGMENT, target)
    rng = np.random.default_rng([seed, 2])
    z = START_SPREAD * rng.normal(size=(chains, program.size))
    keys = rng.integers(2**32, size=(chains, 2), dtype=np.uint32)
    energies, gradients = evaluator(program, data)(whitening.apply(z))
    states = [
        start(z[i], energies[i], whitening.transpose_times(gradients[i]), keys[i])
        for i in range(chains)
    ]
    leaves, tree = jax.tree.flatten((states[0], data, whitening))
    shapes = tuple(
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # type: ignore[no-untyped-call]
        for leaf in leaves
    )
    compiled = _compiled(program, warm_segments * SEGMENT, target, shapes, tree)
    kept: list[list[list[npt.NDArray[Any]]]] = [[] for _ in range(chains)]
    steps: list[list[int]] = [[] for _ in range(chains)]
    allowance, ends = most_leapfrogs / chains, [math.inf] * chains
    done = np.zeros(chains, dtype=np.int64)
    total = chains * (warm_segments + kept_segments) * SEGMENT

    def within(chain: int, segments: int) -> bool:
        return lasts(steps[chain], warm=warm_segments, wanted=segments, allowance=allowance)

    def run(chain: int, segments: int) -> None:
        """Go on until so many segments are kept, or the allowance ends."""
        with jax.enable_x64(True):  # the switch is one of the thread's
            while len(kept[chain]) < min(segments, *ends):
                if not within(chain, segments):
                    ends[chain] = len(kept[chain])  # others need no more than that
                    break
                states[chain], parts = compiled(states[chain], data, whitening)
                steps[chain].append(int(np.asarray(parts[2]).sum()))
                # A warm-up that takes the whole allowance leaves its last segment.
                if len(steps[chain]) > warm_segments or not within(chain, segments):
                    kept[chain].append([np.asarray(part) for part in parts])
                done[chain] += SEGMENT
                if progress is not None:
                    progress(int(done.sum()), total)

    def stacked(part: int) -> npt.NDArray[Any]:
        shortest = min(map(len, kept))
        return np.stack([np.concatenate([s[part] for s in own[:shortest]]) for own in kept])

    with ThreadPoolExecutor(max_workers=workers) as pool:
        list(pool.map(partial(run, segments=kept_segments), range(chains)))
        x = stacked(0)
        ended = x.shape[1] < kept_segments * SEGMENT
        statistics = chain_statistics(x) if until_enough else None
        while statistics and not (ended or statistics.enough) and x.shape[1] < longest * draws:
            if hopeless(stacked(2), statistics, longest=longest * draws):
                break  # minutes more would change nothing: the verdict says why
            more = math.ceil(GROWTH * x.shape[1] / SEGMENT)
            total += chains * more * SEGMENT
            wanted = len(kept[0]) + more
            list(pool.map(partial(run, segments=wanted), range(chains)))
            x = stacked(0)
            statistics = chain_statistics(x)
            ended = x.shape[1] < wanted * SEGMENT and not statistics.enough
    return ChainDraws(
        x=x,
        diverging=stacked(1).astype(bool),
        steps=stacked(2).astype(np.int64),
        acceptance=stacked(3),
        energy=stacked(4),
        step_size=np.asarray([float(state.adapt_state.step_size) for state in states]),
        statistics=statistics,
        ended=ended,
    )
