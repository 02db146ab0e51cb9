"""The ArviZ tree of a latency posterior."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_base import from_dict

from allometry.inference.latency_arrays import LatencyGrouping, active_names, phase_names
from allometry.inference.latency_field import (
    DIRECTIONS,
    FIELD_DRAWS,
    PARTS,
    Places,
    Residuals,
    learn_field,
    places,
)
from allometry.inference.latency_model import (
    KERNEL_SPREAD,
    LAUNCH_SPREAD,
    NOISE,
    WORK_SPREAD,
    WORK_SPREAD_LOG_SD,
    LatencyData,
    TimingLaw,
    by_architecture,
    timing_law,
)
from allometry.inference.latency_program import LatencyProgram
from allometry.inference.latency_settings import SettingDraws, draw_settings, new_settings
from allometry.inference.latency_work import ARCHITECTURES, WIDTHS
from allometry.inference.model import STUDENT_DF
from allometry.inference.nuts import ChainDraws
from allometry.laws.latency import natural_values, time_shares

PRIOR_DRAWS = 500
_BATCH = 200
_SITE_DIMS = {
    "theta": ["active"],
    "log_noise": ["architecture_phase"],
    "log_kernel_spread": ["architecture_phase"],
    "launch_effect": ["cell"],
    "work_effect": ["cell"],
    "law_log_seconds": ["timing"],
    "field_spread": ["architecture_phase", "part"],
    "field_common": ["architecture_phase", "part"],
    "field_length": ["architecture_phase", "direction"],
    "field_noise": ["architecture_phase"],
    "field_power": ["architecture_phase"],
    "coefficient": ["coefficient_name", "architecture"],
    "memory_factor": ["architecture"],
    "memory_spread": ["architecture"],
}
Draws = npt.NDArray[np.float64]
Arrays = dict[str, Draws]


def build_latency_tree(
    *,
    chains: ChainDraws,
    program: LatencyProgram,
    data: LatencyData,
    groups: LatencyGrouping,
    table: pd.DataFrame,
    memory: Arrays,
    seed: int,
) -> xr.DataTree:
    """Everything of a latency fit in the groups that ArviZ knows; timings in the table's order.

    ``log_likelihood`` is of each timing alone, as if it were the only one of its setting;
    ``posterior_predictive`` is of the fit's own model, which takes settings as independent.
    """
    shape, n = chains.diverging.shape, len(table)
    flat = chains.x.reshape(-1, program.size)
    where = (groups.setting, groups.slot)
    rng = np.random.default_rng([seed, 4])
    observed = np.asarray(data.timings.log_seconds)[where]
    sites = _sites(flat, program, data)
    law = _at_timings(sites, program, data)
    settings = draw_settings(
        np.asarray(data.timings.log_seconds) - law.center,
        np.asarray(law.own),
        np.asarray(data.timings.weight),
        np.asarray(law.shared),
        rng,
    )
    one = np.sqrt(law.own[:, *where] + law.shared[:, groups.setting])
    from scipy.stats import t  # half a second, which a fit of losses need not wait

    likelihood = t.logpdf(observed, STUDENT_DF, loc=law.center[:, *where], scale=one)
    prior = _prior_sites(program, data, seed)
    prior_law = _at_timings(prior, program, data)
    fresh = new_settings(np.asarray(prior_law.shared), rng)

    def split(values: Arrays) -> Arrays:
        return {name: part.reshape(*shape, *part.shape[1:]) for name, part in values.items()}

    def predictive(law: TimingLaw, drawn: SettingDraws) -> Arrays:
        own = np.sqrt(law.own[:, *where]) * drawn.scale[:, groups.setting]
        center = law.center[:, *where] + drawn.effect[:, groups.setting]
        noise = own * rng.normal(size=center.shape)
        return {"seconds": np.exp(center + noise).astype(np.float32)}

    bare = sites | {name: np.zeros_like(sites[name]) for name in ("launch_effect", "work_effect")}
    center = np.asarray(_at_timings(bare, program, data).center)[:, *where]
    timed = places(
        table, _shares(sites["theta"], program, data)[where], groups.cell[groups.setting]
    )
    known = np.broadcast_to(np.asarray(data.timings.relative_sd), data.timings.weight.shape)[where]
    of_timing = groups.cell[groups.setting]
    fields = _residual_fields(center, timed, known, observed, groups, rng)
    fields["law_log_seconds"] = center
    constant = [
        name
        for name in ("params", "batch_size", "prefill_length", "generation_length", *WIDTHS)
        if name in table
    ]
    content: dict[str, Mapping[str, npt.ArrayLike]] = {
        "posterior": split(_variables(sites, program) | fields | memory),
        "posterior_predictive": split(predictive(law, settings)),
        "log_likelihood": split({"seconds": likelihood.astype(np.float32)}),
        "sample_stats": {
            "diverging": chains.diverging,
            "n_steps": chains.steps,
            "acceptance_rate": chains.acceptance,
            "energy": chains.energy,
        },
        "prior": {k: v[None] for k, v in _variables(prior, program).items()},
        "prior_predictive": {k: v[None] for k, v in predictive(prior_law, fresh).items()},
        "observed_data": {"seconds": table["seconds"].to_numpy(dtype=np.float64)},
        "constant_data": {name: table[name].to_numpy(dtype=np.float64) for name in constant}
        | {"cell_index": of_timing, "relative_sd": known}
        | {"place": timed.at, "share": timed.share},
    }
    names = program.law.names
    return from_dict(
        content,
        coords={
            "coefficient_name": list(names),
            "architecture": list(groups.architectures),
            "active": list(active_names(names, groups.architectures, program.structure.active)),
            "architecture_phase": list(phase_names(groups.architectures)),
            "cell": list(groups.cells),
            "part": list(PARTS),
            "direction": list(DIRECTIONS),
            "timing": np.arange(n),
        },
        dims=_SITE_DIMS
        | {name: ["timing"] for name in ("seconds", "cell_index", "relative_sd", *constant)}
        | {"place": ["timing", "direction"], "share": ["timing", "part"]},
    )


def _residual_fields(
    center: Draws,
    timed: Places,
    known: Draws,
    observed: Draws,
    groups: LatencyGrouping,
    rng: np.random.Generator,
) -> Arrays:
    """Numbers of the field of each architecture and phase, one set a draw."""
    phase, drawn = groups.phase[groups.setting], []
    for index, (name, step) in enumerate(
        (name, step) for name in groups.architectures for step in (False, True)
    ):
        rows = np.flatnonzero(phase == index)
        residuals = Residuals(
            places=timed[rows],
            residual=observed[rows] - np.median(center[:, rows], axis=0),
            variance=known[rows] ** 2,
        )
        smooth = step or ARCHITECTURES[name] == "recurrent"
        drawn.append(learn_field(residuals, rng, step=step, smooth=smooth))
    turns = np.arange(len(center)) % FIELD_DRAWS
    return {
        f"field_{name}": np.stack(
            [np.array([getattr(field, name) for field in part])[turns] for part in drawn], axis=1
        )
        for name in ("spread", "common", "length", "noise", "power")
    }


def _shares(theta: Draws, program: LatencyProgram, data: LatencyData) -> Draws:
    """Shares of the parts of the time at the mean of the draws, (setting, slot, part)."""
    parts = program.parts(jnp.asarray(theta.mean(axis=0)), data)
    parts = jax.tree.map(lambda part: jnp.broadcast_to(part, data.timings.weight.shape), parts)
    return np.asarray(time_shares(parts))


def _variables(sites: Arrays, program: LatencyProgram) -> Arrays:
    table = by_architecture(jnp.asarray(sites["theta"].T), program.structure, fill=jnp.nan)
    natural = natural_values(program.law, table, bounded=program.structure.bounded)
    return sites | {"coefficient": np.asarray(jnp.moveaxis(natural, -1, 0))}


@partial(jax.jit, static_argnums=1)
def _sites_of(flat: Any, program: LatencyProgram, data: LatencyData) -> Any:
    return program.sites(flat, data)


@partial(jax.jit, static_argnums=1)
def _law_of(sites: Any, program: LatencyProgram, data: LatencyData) -> TimingLaw:
    found = timing_law(program.law, program.structure, data.timings, sites)
    return replace(found, own=jnp.broadcast_to(found.own, found.center.shape))


def _in_batches(
    evaluate: Callable[..., Any], draws: Any, program: LatencyProgram, data: LatencyData
) -> Any:
    """Numpy arrays of a function of draws, first axis of every array, so many at a time.

    The last batch is filled up with its first draw: another length would compile once more.
    """
    size = len(jax.tree.leaves(draws)[0])
    found = []
    for start in range(0, size, _BATCH):
        at = np.arange(start, start + _BATCH)
        at = np.where(at < size, at, start)
        part = jax.tree.map(lambda values, at=at: jnp.asarray(values[at]), draws)
        found.append(jax.tree.map(np.asarray, evaluate(part, program, data)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *found)


def _sites(flat: npt.NDArray[np.float64], program: LatencyProgram, data: LatencyData) -> Arrays:
    found: Arrays = _in_batches(_sites_of, flat, program, data)
    return found


def _at_timings(sites: Arrays, program: LatencyProgram, data: LatencyData) -> TimingLaw:
    """Center and variances as numpy arrays, draws first."""
    found: TimingLaw = _in_batches(_law_of, sites, program, data)
    return found


def _prior_sites(program: LatencyProgram, data: LatencyData, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 3])
    structure, size = program.structure, PRIOR_DRAWS
    loc, factor = np.asarray(data.loc), np.asarray(data.factor)
    spread = np.log(WORK_SPREAD) + WORK_SPREAD_LOG_SD * rng.normal(size=size)
    cells, phases = (size, structure.n_cells), (size, structure.n_noises)
    return {
        "log_work_spread": spread,
        "log_noise": NOISE[0] + NOISE[1] * rng.normal(size=phases),
        "log_kernel_spread": KERNEL_SPREAD[0] + KERNEL_SPREAD[1] * rng.normal(size=phases),
        "theta": loc + rng.normal(size=(size, len(loc))) @ factor.T,
        "launch_effect": LAUNCH_SPREAD * rng.normal(size=cells),
        "work_effect": np.exp(spread)[:, None] * rng.normal(size=cells),
    }
