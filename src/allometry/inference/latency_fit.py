"""`fit_latency`: a table of timings to a `LatencyPosterior`."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from allometry.accounting import Device, find_number_type
from allometry.errors import InputError
from allometry.inference.convergence import Convergence, judge
from allometry.inference.latency_arrays import group_timings, latency_data
from allometry.inference.latency_memory import memory_draws
from allometry.inference.latency_model import LatencyData
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_program import LatencyProgram, as_timings_tell
from allometry.inference.latency_record import LatencyRecord
from allometry.inference.latency_start import start_vector
from allometry.inference.latency_tree import build_latency_tree
from allometry.inference.latency_work import (
    apparent_device,
    ceilings,
    device_units,
    shapes_of,
    table_work,
    usable_rows,
)
from allometry.inference.mode import Mode, find_mode
from allometry.inference.nuts import MAX_TREE_DEPTH, ChainDraws
from allometry.inference.sampling import CAREFUL_TARGET, Stage, sample_from
from allometry.laws.latency import latency_law, latency_law_names
from allometry.observations import LatencyTable, read_latency


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySampler:
    """How a latency posterior is explored.

    Attributes
    ----------
    method : str
        ``laplace``, the Gaussian at the mode; or ``nuts``.
    chains, warmup, draws : int
        Chains; iterations of adaptation and kept draws of each. NUTS chains go on for up to three
        times as many draws while R-hat or the effective draws fall short.
    target : float
        Acceptance that the step size aims at; after divergences it is tried again with 0.98.
    workers : int
        Chains that run at the same time.
    """

    method: str = "laplace"
    chains: int = 4
    warmup: int = 150
    draws: int = 300
    target: float = 0.9
    workers: int = 2

    def __post_init__(self) -> None:
        if self.method not in ("nuts", "laplace"):
            raise InputError(f"method must be nuts or laplace, got {self.method!r}")
        low = {"chains": 1, "warmup": 25, "draws": 10, "workers": 1}
        wrong = [
            f"{name} {getattr(self, name)} (at least {least})"
            for name, least in low.items()
            if getattr(self, name) < least
        ]
        if not 0.5 <= self.target < 1:
            wrong.append(f"target {self.target} (0.5 to below 1)")
        if wrong:
            raise InputError(f"out of range: {', '.join(wrong)}", where="latency sampler")


DEFAULT_LATENCY_SAMPLER = LatencySampler()
NUTS_ADVICE = (
    "take the Gaussian at the mode (--method laplace)",
    "name the device (--device), time more batches and prompts, or draw more (--draws)",
)
"""Terms of the law that no timing tells apart are what stops the chains."""


def fit_latency(
    timings: LatencyTable | pd.DataFrame | str,
    *,
    law: str = "auto",
    device: Device | None = None,
    sampler: LatencySampler = DEFAULT_LATENCY_SAMPLER,
    near: LatencyPosterior | None = None,
    seed: int = 0,
    progress: Stage | None = None,
) -> LatencyPosterior:
    """Fit one latency law to all sizes, both phases and all architectures of a table.

    Parameters
    ----------
    timings : LatencyTable, DataFrame or str
        Checked timings of one device, or anything `read_latency` takes.
    law : str
        A latency law, or ``auto``: the one of larger evidence (Laplace, at the mode).
    device : Device, optional
        Its data sheet: effective rates are then shares below one. By default that of the device
        the table names; where none is known, the largest rates in the table stand in and shares
        may pass one.
    sampler : LatencySampler
        Method, chains and draws.
    near : LatencyPosterior, optional
        Of a similar table: the climb to the mode starts there. The mode is the same, found sooner.
    seed : int
        Seed of everything random.
    progress : callable, optional
        See `Stage`.

    Raises
    ------
    InputError
        If no row can be used, or the table mixes devices.
    """
    began = time.perf_counter()
    checked = timings if isinstance(timings, LatencyTable) else read_latency(timings)
    used = usable_rows(checked.table)
    _require_one_device(used.table, checked.source)
    shapes = shapes_of(used.table, source=checked.source)
    known = ceilings(used.table, device)
    units = device_units(used.table)
    sheet = known or apparent_device(used.table, units=units)
    out_of_memory = checked.out_of_memory
    notes = _notes(used.table, len(out_of_memory), known=known is not None, units=units)
    groups = group_timings(used.table)
    candidates = latency_law_names() if law == "auto" else (law,)
    with jax.enable_x64(True):
        work = table_work(used.table, sheet, shapes)
        found: list[tuple[LatencyProgram, LatencyData, Mode]] = []
        for index, name in enumerate(candidates):
            if progress is not None:
                progress("finding the mode", index, len(candidates))
            chosen = latency_law(name)
            program = LatencyProgram(
                law=chosen,
                structure=groups.structure(chosen, bounded=known is not None),
                linear=sampler.method == "nuts",
            )
            data = latency_data(used.table, work, groups, chosen, bounded=known is not None)
            start = start_vector(program, data, groups, near)
            found.append((program, data, find_mode(start, program, data)))
        evidences = [_log_evidence(mode, program.size) for program, _, mode in found]
        program, data, mode = found[int(np.argmax(evidences))]
        if sampler.method == "nuts":
            there, data = as_timings_tell(mode.x, program, data)
            mode = find_mode(np.asarray(there), program, data)
        chains = _draw(mode, program, data, sampler, seed, progress)
        memory = memory_draws(
            used.table,
            out_of_memory,
            capacity=sheet.memory_bytes,
            architectures=groups.architectures,
            draws=chains.diverging.size,
            seed=seed,
        )
        tree = build_latency_tree(
            chains=chains,
            program=program,
            data=data,
            groups=groups,
            table=used.table,
            memory=memory,
            seed=seed,
        )
    notes += _little_told(used.table, len(program.structure.active))
    convergence = _verdict(chains, sampler.method, mode, time.perf_counter() - began)
    record = LatencyRecord(
        law=program.law.name,
        method=sampler.method,
        architectures=groups.architectures,
        device=sheet,
        bounded=known is not None,
        law_evidence=dict(zip(candidates, evidences, strict=True)) if law == "auto" else {},
        convergence=convergence,
        source=Path(checked.source).name,
        sha256=checked.sha256,
        excluded=(*used.excluded, *_counted(checked)),
        warnings=(*checked.warnings, *notes),
        seed=seed,
        versions={n: version(n) for n in ("allometry", "jax", "numpyro", "arviz-base", "numpy")},
    )
    return LatencyPosterior(idata=tree, record=record)


def _notes(table: pd.DataFrame, out_of_memory: int, *, known: bool, units: int) -> list[str]:
    """What a table and its device do not tell."""
    notes = []
    if not out_of_memory:
        notes.append("no point ran out of memory: the largest batch that fits follows the prior")
    elif not known:
        notes.append(
            f"{out_of_memory} point(s) ran out of memory, whose size is not known: they say nothing"
        )
    if not known:
        notes.append(
            f"no data sheet of the device is known: shares are of the largest rates in the table, "
            f"and {units} block(s) of work are taken to run at a time (device=, --device)"
        )
    types = sorted(set(table["dtype"].dropna().astype(str))) if "dtype" in table else []
    if unknown := [name for name in types if find_number_type(name) is None]:
        notes.append(
            f"no dtype {', '.join(unknown)} is known: weights and caches are counted in numbers of "
            f"two bytes, so effective bandwidths are off by the ratio to the true width"
        )
    return notes


def _little_told(table: pd.DataFrame, coefficients: int) -> list[str]:
    """What a fit of few, or of restless, timings owes to the prior and to chance."""
    notes = []
    if len(table) < coefficients:
        notes.append(
            f"{len(table)} timing(s) for {coefficients} coefficients: most of them are the "
            f"prior's; time more sizes, prompts and batches"
        )
    if "settled" in table:
        restless = table["settled"].astype(str).str.strip().str.lower().isin(("false", "0", "0.0"))
        if restless.mean() > 0.5:
            notes.append(
                f"{int(restless.sum())} of {len(table)} timings are not settled (their repeats "
                f"still vary): time them for longer (latency bench --seconds-per-point)"
            )
    return notes


def _log_evidence(mode: Mode, size: int) -> float:
    # Laplace: the Gaussian's volume is that of the whitening map.
    volume = np.linalg.slogdet(np.asarray(mode.whitening.hyper))[1]
    return float(mode.log_posterior + volume + 0.5 * size * np.log(2 * np.pi))


def _draw(
    mode: Mode,
    program: LatencyProgram,
    data: LatencyData,
    sampler: LatencySampler,
    seed: int,
    progress: Stage | None,
) -> ChainDraws:
    if sampler.method == "laplace":
        shape = (sampler.chains, sampler.draws)
        z = np.random.default_rng([seed, 7]).normal(size=(*shape, program.size))
        return ChainDraws(
            x=mode.whitening.apply(z),
            diverging=np.zeros(shape, dtype=bool),
            steps=np.zeros(shape, dtype=np.int64),
            acceptance=np.ones(shape),
            energy=np.zeros(shape),
            step_size=np.zeros(sampler.chains),
        )
    chains = sample_from(mode, program, data, sampler, seed, progress)
    if chains.diverging.any() and sampler.target < CAREFUL_TARGET:
        careful = replace(sampler, target=CAREFUL_TARGET)
        again = sample_from(mode, program, data, careful, seed + 1, progress)
        if again.diverging.sum() < chains.diverging.sum():
            return again
    return chains


def _verdict(chains: ChainDraws, method: str, mode: Mode, seconds: float) -> Convergence:
    if method == "nuts":
        found = judge(
            draws=chains.x,
            divergences=int(chains.diverging.sum()),
            tree_depth_hits=int((chains.steps >= 2**MAX_TREE_DEPTH - 1).sum()),
            log_posteriors=np.asarray([mode.log_posterior]),
            seconds=seconds,
        )
        return replace(found, advice=() if found.converged else NUTS_ADVICE)
    n = float(chains.x.shape[0] * chains.x.shape[1])
    reached = mode.gradient < 1e-2
    return Convergence(
        converged=reached,
        divergences=0,
        max_rhat=1.0,
        min_ess_bulk=n,
        min_ess_tail=n,
        tree_depth_hits=0,
        starts_agree=1,
        starts=1,
        seconds=seconds,
        reasons=() if reached else (f"the climb stopped at whitened gradient {mode.gradient:.2g}",),
        advice=() if reached else ("look for timings that no kernel of this law explains",),
    )


def _require_one_device(table: pd.DataFrame, source: str) -> None:
    names = sorted(set(table["device"].dropna().astype(str))) if "device" in table else []
    if len(names) > 1:
        what = f"timings of {len(names)} devices: {', '.join(names[:5])}"
        raise InputError(what, where=source, hint="Fit one device at a time.")


def _counted(checked: LatencyTable) -> list[tuple[int, str]]:
    counts = Counter(row.reason for row in checked.excluded)
    return [(count, reason) for reason, count in counts.most_common()]
