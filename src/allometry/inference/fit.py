"""`fit`: runs to a posterior, in one function."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import CostModel
from allometry.errors import InputError
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.convergence import (
    doubted_mode,
    fallen_through,
    judge_published,
    loose_published,
    worst_published,
)
from allometry.inference.coordinates import Data, Program, centring
from allometry.inference.costs import CostChoice, choose_cost
from allometry.inference.derive import derive, derive_prior, pointwise_step
from allometry.inference.drift import Drift, default_drift, draw_drift
from allometry.inference.groups import Grouping, group_runs
from allometry.inference.import_density import with_imported_density
from allometry.inference.import_report import outcomes
from allometry.inference.importing import (
    ImportablePrior,
    ImportingStudy,
    as_blocks,
    bind_all,
    fitted_ranges,
    imported_drift,
)
from allometry.inference.informative import irreducible_above_smallest, require_informative
from allometry.inference.loss_priors import LossPriors, default_priors
from allometry.inference.noise_level import is_thin, thin_advice
from allometry.inference.posterior import Posterior
from allometry.inference.range_report import with_ranges_told
from allometry.inference.recentring import centred_where_precise
from allometry.inference.record import Record
from allometry.inference.sampling import (
    DEFAULT_SAMPLER,
    Sampler,
    Stage,
    climb_and_draw,
    tell,
    verdict,
)
from allometry.inference.tree import build_tree
from allometry.laws import Law, get_law, register_law
from allometry.observations import Runs, read_runs
from allometry.observations.catalogue import TOKENS_REPEAT

PRIOR_DRAWS = 500
"""Draws of the prior, for prior predictive plots."""


def fit(
    runs: Runs | pd.DataFrame | str | Path,
    *,
    law: str | Law = "pnorm",
    by: Sequence[str] | None = None,
    priors: LossPriors | None = None,
    prior: Sequence[ImportablePrior] = (),
    library: bool = True,
    cost: CostChoice = "auto",
    drift: Drift | None = None,
    sampler: Sampler = DEFAULT_SAMPLER,
    seed: int = 0,
    progress: Stage | None = None,
) -> Posterior:
    """Fit a hierarchical loss law to a table of finished runs.

    Parameters
    ----------
    runs : Runs, DataFrame, path or str
        Checked runs, or anything `read_runs` takes.
    law : str or Law
        A registered law (``allometry.laws.law_names()``) or your own, which is then registered.
    by : sequence of str, optional
        Group columns. By default the table's own, else architecture and context_length, where
        present.
    priors : LossPriors, optional
        By default the law's weakly informative ones.
    prior : sequence of PriorFile or PriorUse
        Priors of other studies (`allometry.priors`), each mixed with `priors` so that runs that
        contradict it set it aside. The record's ``imported`` says what became of them.
    library : bool
        Let a study of few runs begin with the package's own prior of a typical language-model law
        where neither `priors` nor `prior` is given: see `allometry.priors.choose_library`. A
        `LibraryPriorWarning` and the record's ``imported`` say when it did. False turns it off.
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
    from allometry.priors import LibraryPriorWarning, choose_library, library_line

    began = time.perf_counter()
    if seed < 0:
        raise InputError(f"seed must be zero or positive, got {seed}")
    checked = runs if isinstance(runs, Runs) else read_runs(runs)
    law = register_law(law) if isinstance(law, Law) else get_law(law)
    groups = group_runs(checked.table, by if by is not None else (checked.by or None))
    notes = require_informative(checked.table, groups)
    if library and not prior and priors is None:
        prior, told = choose_library(checked, law)
        notes = (*notes, *told)
    chosen = priors or default_priors(law)
    chosen.require_of(law)
    scale = reference_scale(checked.table)
    cost_model, cost_notes = choose_cost(checked.table, groups, cost)
    with jax.enable_x64(True):
        structure = law_structure(law, groups)
        thin = is_thin(structure, len(checked.table))
        program = Program(law=law, structure=structure, thin=thin)
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
        centred = centring(law, program.structure, groups.runs_per_group)
        weak = replace(chosen.arrays(), imported=blocks)
        data = Data(runs=arrays, priors=weak, centred=centred)
        data = centred_where_precise(program, data, groups.runs_per_group, seed=seed)
        modes, (chains, method, k_hat) = climb_and_draw(program, data, sampler, seed, progress)
        tell(progress, "deriving quantities", 0, 0)
        n_runs = len(checked.table)
        flat = chains.x.reshape(-1, program.size)
        n_chains, n_draws, _ = chains.x.shape
        step = pointwise_step(n_draws, n_chains, n_runs)
        posterior = derive(flat, program, data, scale, n_runs, step=step)
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
    with jax.enable_x64(True):
        tree = with_imported_density(tree, blocks, law, posterior.sites)
    log_posteriors = np.asarray([mode.log_posterior for mode in modes])
    seconds = time.perf_counter() - began
    advice = (thin_advice(law, groups.runs_per_group),) if thin else ()
    weighed = chains.effective is not None  # draws in blocks, which are no chains
    worst = worst_published(
        posterior.published, groups.names, chains=1 if weighed else len(chains.diverging)
    )
    convergence = judge_published(
        verdict(chains, method, k_hat, log_posteriors, seconds, advice=advice), worst
    )
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
        fitted_ranges=fitted_ranges(
            bound,
            members,
            [(o.prior_weights, o.posterior_weights) for o in imported],
            runs=n_runs,
        ),
        convergence=convergence,
        source=Path(checked.source).name,
        sha256=checked.sha256,
        loss_unit=checked.loss_unit,
        excluded=tuple(asdict(row) for row in checked.excluded),
        warnings=(
            *_meant_for(law, checked.warnings),
            *notes,
            *cost_notes,
            *(o.words for o in imported if o.conflict and not o.by_default),
            *irreducible_above_smallest(posterior.published, checked.table, groups),
            *fallen_through(sampler.method, method, k_hat),
            *doubted_mode(convergence, log_posteriors),
            *loose_published(convergence, worst),
        ),
        seed=seed,
        versions={n: version(n) for n in ("allometry", "jax", "numpyro", "arviz-base", "numpy")},
        settings={
            **_asked(sampler),
            "cost": cost,
            "priors": "the law's own" if priors is None else "given",
            "library": library,
        },
    )
    found = with_ranges_told(Posterior(idata=tree, record=record))
    if line := library_line(found.record.imported):
        warnings.warn(line, LibraryPriorWarning, stacklevel=2)
    return found


def _asked(sampler: Sampler) -> dict[str, str | int | float]:
    """Settings of a sampler that draws depend on."""
    names = ("method", "chains", "warmup", "draws", "target", "starts")
    return {name: getattr(sampler, name) for name in names}


def _meant_for(law: Law, texts: Sequence[str]) -> tuple[str, ...]:
    """A table's warnings without the one that asks for a law such as this."""
    knows_repetition = {"epochs", "unique_tokens"} & set(law.columns)
    return tuple(text for text in texts if not (knows_repetition and text == TOKENS_REPEAT))


def _run_flops(table: pd.DataFrame, groups: Grouping, cost: CostModel) -> npt.NDArray[np.float64]:
    params, tokens = table["params"].to_numpy(), table["tokens"].to_numpy()
    modelled = np.asarray(cost.flops(groups.index, params, tokens))
    if "flops" not in table:
        return modelled
    own = table["flops"].to_numpy(dtype=np.float64)
    return np.where(np.isfinite(own), own, modelled)
