"""`fit`: runs to a posterior, in one function."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import CostModel
from allometry.errors import InputError
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.convergence import (
    AGREEMENT_NATS,
    Convergence,
    enough_draws,
    judge,
    judge_modes,
)
from allometry.inference.coordinates import MIN_CENTRED_RUNS, Data, Program
from allometry.inference.costs import CostChoice, choose_cost
from allometry.inference.derive import derive, derive_prior
from allometry.inference.drift import Drift, default_drift, draw_drift
from allometry.inference.groups import Grouping, group_runs
from allometry.inference.import_report import outcomes
from allometry.inference.importing import (
    ImportablePrior,
    ImportingStudy,
    as_blocks,
    bind_all,
    imported_drift,
)
from allometry.inference.laplace import MAX_PARETO_K, laplace_draws
from allometry.inference.loss_priors import LossPriors, default_priors
from allometry.inference.mode import DENSE_LIMIT, Mode, find_mode
from allometry.inference.nuts import MAX_TREE_DEPTH, ChainDraws, sample
from allometry.inference.posterior import Posterior
from allometry.inference.record import Record
from allometry.inference.start import starts
from allometry.inference.tree import build_tree
from allometry.laws import Law, get_law
from allometry.observations import Runs, read_runs

Method = Literal["nuts", "laplace"]
PRIOR_DRAWS = 500
CAREFUL_TARGET = 0.98
"""Acceptance of a second try after divergences: smaller steps get into narrower places."""

MIN_RUNS = 4
"""Fewer runs than this leave every coefficient to the prior; a fit would only repeat it."""

Stage = Callable[[str, int, int], None]
"""Called with what is being done, steps done, and steps in all (0: unknown)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How to sample.

    Attributes
    ----------
    method : {"nuts", "laplace"}
        ``laplace`` answers in a second where the posterior allows it, and falls through to NUTS,
        said in the record, where it does not.
    chains, warmup, draws : int
        Of NUTS, which goes on for up to three times the draws while R-hat or the effective draws
        fall short; `laplace` returns as many draws in one block a chain.
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
    draws: int = 500
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


def fit(
    runs: Runs | pd.DataFrame | str,
    *,
    law: str | Law = "pnorm",
    by: Sequence[str] | None = None,
    priors: LossPriors | None = None,
    prior: Sequence[ImportablePrior] = (),
    cost: CostChoice = "auto",
    drift: Drift | None = None,
    sampler: Sampler = DEFAULT_SAMPLER,
    seed: int = 0,
    progress: Stage | None = None,
) -> Posterior:
    """Fit a hierarchical loss law to a table of finished runs.

    Parameters
    ----------
    runs : Runs, DataFrame or str
        Checked runs, or anything `read_runs` takes.
    law : str or Law
        A registered law (``allometry.laws.law_names()``) or your own.
    by : sequence of str, optional
        Group columns. By default the table's own, else architecture and context_length, where
        present.
    priors : LossPriors, optional
        By default the law's weakly informative ones.
    prior : sequence of PriorFile or PriorUse
        Priors of other studies (`allometry.priors`), each mixed with `priors` so that runs that
        contradict it set it aside. The record's ``imported`` says what became of them.
    cost : {"auto", "accounting", "table", "6nd"}
        Where training FLOPs of unseen runs come from. ``auto``: shapes, where they reproduce the
        table's FLOPs or it has none; else the table's own; 6 N D, with a warning, if neither is
        there.
    drift : Drift, optional
        Discrepancy beyond the data; else an imported one, else `default_drift`.
    sampler : Sampler
        Method, chains and draws.
    seed : int
        Seed of everything random.
    progress : callable, optional
        See `Stage`.

    Returns
    -------
    Posterior
        Also when it did not converge: its record says so and decisions refuse it.

    Raises
    ------
    InputError
        If the runs cannot inform the law, lack a column that it needs, or a prior is of another
        law, of other groups, or in units that do not convert.
    """
    began = time.perf_counter()
    checked = runs if isinstance(runs, Runs) else read_runs(runs)
    law = get_law(law)
    groups = group_runs(checked.table, by if by is not None else (checked.by or None))
    notes = _require_informative(checked.table, groups)
    chosen = priors or default_priors(law)
    scale = reference_scale(checked.table)
    cost_model, cost_notes = choose_cost(checked.table, groups, cost)
    with jax.enable_x64(True):
        program = Program(law=law, structure=law_structure(law, groups))
        study = ImportingStudy(
            law=law,
            structure=program.structure,
            groups=groups,
            scale=scale,
            priors=chosen,
            table=checked.table,
            loss_unit=checked.loss_unit,
        )
        bound = bind_all(prior, study)
        blocks, members = as_blocks(bound)
        arrays = run_arrays(checked.table, groups, law, scale)
        enough = groups.runs_per_group >= MIN_CENTRED_RUNS
        # One group alone has no population to move with: its few runs still fix its centre.
        centred = jnp.asarray(enough | (not program.structure.pooled))
        weak = replace(chosen.arrays(), imported=blocks)
        data = Data(runs=arrays, priors=weak, centred=centred)
        modes, (chains, method, k_hat) = _climb_and_draw(program, data, sampler, seed, progress)
        _tell(progress, "deriving quantities", 0, 0)
        n_runs = len(checked.table)
        flat = chains.x.reshape(-1, program.size)
        posterior = derive(flat, program, data, scale, n_runs)
        before = derive_prior(program, data, scale, n_runs, draws=PRIOR_DRAWS, seed=seed)
        imported = outcomes(
            blocks, members, bound, law=law, sites=posterior.sites, runs=arrays, seed=seed
        )
    drift = drift or imported_drift(bound) or default_drift(groups.n_groups)
    etas = draw_drift(drift, draws=len(flat), n_groups=groups.n_groups, seed=seed)
    flops = _run_flops(checked.table, groups, cost_model)
    tree = build_tree(
        posterior=posterior,
        prior=before,
        chains=chains,
        drift=etas,
        table=checked.table,
        flops=flops,
        groups=groups,
        coefficient_names=law.names,
        law_columns=law.columns,
        loss_scale=scale.loss,
        seed=seed,
    )
    log_posteriors = np.asarray([mode.log_posterior for mode in modes])
    seconds = time.perf_counter() - began
    convergence = _verdict(chains, method, k_hat, log_posteriors, seconds)
    record = Record(
        law=law.name,
        method=method,
        by=groups.columns,
        parents=groups.parents,
        context_reference=groups.context_reference,
        scale=scale,
        cost=cost_model,
        drift=drift,
        priors=chosen,
        imported=imported,
        convergence=convergence,
        source=checked.source,
        sha256=checked.sha256,
        loss_unit=checked.loss_unit,
        excluded=tuple(asdict(row) for row in checked.excluded),
        warnings=(
            *checked.warnings,
            *notes,
            *cost_notes,
            *(outcome.words for outcome in imported if outcome.conflict),
            *_irreducible_above_smallest(posterior.published, checked.table, groups),
        ),
        seed=seed,
        versions={n: version(n) for n in ("allometry", "jax", "numpyro", "arviz-base", "numpy")},
    )
    return Posterior(idata=tree, record=record)


def _tell(progress: Stage | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)


_Drawn = tuple[ChainDraws, str, float | None]


def _climb_and_draw(
    program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> tuple[list[Mode], _Drawn]:
    """All modes and the draws: the other starts climb while the first mode is sampled.

    Should one of them end higher, the draws are made again from there.
    """
    count = sampler.starts if program.size <= DENSE_LIMIT else 1
    first, *others = starts(program, data, count=count, seed=seed)

    def climb(place: npt.NDArray[np.float64]) -> Mode:
        with jax.enable_x64(True):  # the switch is one of the thread's
            return find_mode(place, program, data)

    _tell(progress, "finding the mode", 0, 0)
    best = climb(first)
    with ThreadPoolExecutor(max_workers=1) as pool:
        climbing = [pool.submit(climb, place) for place in others]
        drawn = _draw(best, program, data, sampler, seed, progress)
        modes = [best, *(task.result() for task in climbing)]
    highest = max(modes, key=lambda mode: mode.log_posterior)
    if highest.log_posterior > best.log_posterior + AGREEMENT_NATS:
        drawn = _draw(highest, program, data, sampler, seed, progress)
    return modes, drawn


def _draw(
    mode: Mode, program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> _Drawn:
    """Chains, the method that made them, and k-hat of a Laplace attempt."""
    k_hat: float | None = None
    if sampler.method == "laplace":
        _tell(progress, "weighing Laplace draws", 0, 0)
        total = sampler.chains * sampler.draws
        x, k_hat = laplace_draws(mode, program, data, draws=total, seed=seed)
        if k_hat <= MAX_PARETO_K:
            return _as_chains(x, sampler), "laplace", k_hat
    chains = _sample(mode, program, data, sampler, seed, progress)
    if chains.diverging.any() and sampler.target < CAREFUL_TARGET:
        careful = replace(sampler, target=CAREFUL_TARGET)
        again = _sample(mode, program, data, careful, seed + 1, progress)
        if again.diverging.sum() < chains.diverging.sum():
            chains = again
    return chains, "nuts", k_hat


def _sample(
    mode: Mode, program: Program, data: Data, sampler: Sampler, seed: int, progress: Stage | None
) -> ChainDraws:
    _tell(progress, "compiling the sampler", 0, 0)
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
        enough=enough_draws,
        progress=lambda done, total: _tell(progress, "sampling", done, total),
    )


def _as_chains(x: npt.NDArray[np.float64], sampler: Sampler) -> ChainDraws:
    shape = (sampler.chains, sampler.draws)
    return ChainDraws(
        x=x.reshape(*shape, -1),
        diverging=np.zeros(shape, dtype=bool),
        steps=np.zeros(shape, dtype=np.int64),
        acceptance=np.ones(shape),
        energy=np.zeros(shape),
        step_size=np.zeros(sampler.chains),
    )


def _verdict(
    chains: ChainDraws,
    method: str,
    k_hat: float | None,
    log_posteriors: npt.NDArray[np.float64],
    seconds: float,
) -> Convergence:
    if method == "laplace":
        # Independent draws up to the weights: k-hat is the diagnostic, chains are only a layout.
        n = chains.x.shape[0] * chains.x.shape[1]
        return Convergence(
            converged=True,
            divergences=0,
            max_rhat=1.0,
            min_ess_bulk=float(n),
            min_ess_tail=float(n),
            tree_depth_hits=0,
            starts_agree=judge_modes(log_posteriors)[0],
            starts=len(log_posteriors),
            seconds=seconds,
            pareto_k=k_hat,
        )
    return judge(
        draws=chains.x,
        divergences=int(chains.diverging.sum()),
        tree_depth_hits=int((chains.steps >= 2**MAX_TREE_DEPTH - 1).sum()),
        log_posteriors=log_posteriors,
        seconds=seconds,
        pareto_k=k_hat,
    )


def _require_informative(table: pd.DataFrame, groups: Grouping) -> tuple[str, ...]:
    """Refuse tables that cannot inform a law; say what a thin table leaves to the prior."""
    if len(table) < MIN_RUNS:
        what = f"{len(table)} runs, at least {MIN_RUNS} are needed"
        raise InputError(what, where="runs", hint="Add runs, or predict from a prior alone.")
    notes = []
    for name, word in (("params", "size"), ("tokens", "token count")):
        if table[name].nunique() == 1:
            what = f"all runs have one {word} ({table[name].iloc[0]:.4g} {name})"
            hint = f"The law cannot tell what {name} do: add runs with other {name}."
            raise InputError(what, where="runs", hint=hint)
    thin = [n for n, c in zip(groups.names, groups.runs_per_group, strict=True) if c < 6]
    if thin:
        shown = ", ".join(thin[:5]) + (f" and {len(thin) - 5} more" if len(thin) > 5 else "")
        notes.append(f"fewer than 6 runs in {shown}: their coefficients come from the other groups")
    budgets = np.log10(table["params"] * table["tokens"])
    if float(np.ptp(budgets)) < 0.5:
        ratio = 10 ** float(np.ptp(budgets))
        notes.append(
            f"all budgets lie within a factor {ratio:.2g}: E and the exponents come from the prior"
        )
    return tuple(notes)


def _run_flops(table: pd.DataFrame, groups: Grouping, cost: CostModel) -> npt.NDArray[np.float64]:
    params, tokens = table["params"].to_numpy(), table["tokens"].to_numpy()
    modelled = np.asarray(cost.flops(groups.index, params, tokens))
    if "flops" not in table:
        return modelled
    own = table["flops"].to_numpy(dtype=np.float64)
    return np.where(np.isfinite(own), own, modelled)


def _irreducible_above_smallest(
    published: dict[str, npt.NDArray[np.float64]], table: pd.DataFrame, groups: Grouping
) -> tuple[str, ...]:
    if "E" not in published:
        return ()
    medians = np.median(published["E"], axis=0)
    smallest = table.groupby(groups.index)["loss"].min().to_numpy()
    found = [
        f"E of {name} is {e:.3f}, above its smallest loss {s:.3f}: outliers, or another law"
        for name, e, s in zip(groups.names, medians, smallest, strict=True)
        if e > s
    ]
    return tuple(found)
