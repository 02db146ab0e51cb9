"""The ArviZ tree of a latency posterior."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
import xarray as xr
from arviz_base import from_dict

from allometry.inference.latency_arrays import LatencyGrouping
from allometry.inference.latency_model import (
    LAUNCH_SPREAD,
    NOISE,
    WORK_SPREAD,
    WORK_SPREAD_LOG_SD,
    LatencyData,
    LatencyProgram,
    by_architecture,
    latency_site_shapes,
    point_values,
)
from allometry.inference.model import STUDENT_DF
from allometry.inference.nuts import ChainDraws
from allometry.laws.latency import log_seconds, natural_values

PRIOR_DRAWS = 500
_BATCH = 200
_SITE_DIMS = {
    "mean": ["coefficient_name"],
    "theta": ["active"],
    "log_noise": ["architecture_phase"],
    "launch_effect": ["cell"],
    "work_effect": ["cell"],
    "coefficient": ["coefficient_name", "architecture"],
    "memory_factor": ["architecture"],
    "memory_spread": ["architecture"],
}
Arrays = dict[str, npt.NDArray[np.float64]]


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
    """Everything of a latency fit in the groups that ArviZ knows; timings in the table's order."""
    shape, n = chains.diverging.shape, len(table)
    flat = chains.x.reshape(-1, program.size)
    center, sd = _at_timings(flat, program, data, n)
    observed = np.log(table["seconds"].to_numpy(dtype=np.float64))
    likelihood = scipy.stats.t.logpdf(observed, STUDENT_DF, loc=center, scale=sd)
    prior = _prior_draws(program, data, seed)
    prior_center, prior_sd = _at_timings(prior, program, data, n)
    rng = np.random.default_rng([seed, 4])

    def split(values: Arrays) -> Arrays:
        return {name: part.reshape(*shape, *part.shape[1:]) for name, part in values.items()}

    def predictive(center: npt.NDArray[np.float64], sd: npt.NDArray[np.float64]) -> Arrays:
        noise = rng.standard_t(STUDENT_DF, size=center.shape)
        return {"seconds": np.exp(center + sd * noise).astype(np.float32)}

    constant = [
        name
        for name in ("params", "batch_size", "prefill_length", "generation_length")
        if name in table
    ]
    content: dict[str, Mapping[str, npt.ArrayLike]] = {
        "posterior": split(_variables(flat, program) | memory),
        "posterior_predictive": split(predictive(center, sd)),
        "log_likelihood": split({"seconds": likelihood.astype(np.float32)}),
        "sample_stats": {
            "diverging": chains.diverging,
            "n_steps": chains.steps,
            "acceptance_rate": chains.acceptance,
            "energy": chains.energy,
        },
        "prior": {k: v[None] for k, v in _variables(prior, program).items()},
        "prior_predictive": {k: v[None] for k, v in predictive(prior_center, prior_sd).items()},
        "observed_data": {"seconds": table["seconds"].to_numpy(dtype=np.float64)},
        "constant_data": {name: table[name].to_numpy(dtype=np.float64) for name in constant}
        | {"cell_index": groups.cell},
    }
    names = program.law.names
    return from_dict(
        content,
        coords={
            "coefficient_name": list(names),
            "architecture": list(groups.architectures),
            "active": [
                f"{names[k]}/{groups.architectures[a]}" for k, a in program.structure.active
            ],
            "architecture_phase": [
                f"{name}/{q}" for name in groups.architectures for q in ("ttft", "step_time")
            ],
            "cell": list(groups.cells),
            "timing": np.arange(n),
        },
        dims=_SITE_DIMS | {name: ["timing"] for name in ("seconds", "cell_index", *constant)},
    )


def _variables(flat: npt.NDArray[np.float64], program: LatencyProgram) -> Arrays:
    sites = program.split(jnp.asarray(flat))
    table = by_architecture(sites["theta"].T, program.structure, fill=jnp.nan)
    natural = natural_values(program.law, table, bounded=program.structure.bounded)
    return {name: np.asarray(value) for name, value in sites.items()} | {
        "coefficient": np.asarray(jnp.moveaxis(natural, -1, 0))
    }


def _at_timings(
    flat: npt.NDArray[np.float64], program: LatencyProgram, data: LatencyData, n: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log seconds of the law and the scale of the noise, each (draw, timing)."""
    structure, timings = program.structure, data.timings

    @jax.jit
    def center(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        sites = program.split(x)
        table = natural_values(
            program.law, by_architecture(sites["theta"].T, structure), bounded=structure.bounded
        )
        parts = program.law.parts(
            point_values(program.law, table, timings.architecture), timings.work
        )
        mean = log_seconds(
            parts, sites["launch_effect"] @ timings.cell, sites["work_effect"] @ timings.cell
        )
        variance = jnp.exp(2 * sites["log_noise"]) @ timings.noise + timings.relative_sd**2
        return mean[:, :n], jnp.sqrt(variance)[:, :n]

    found = [
        center(jnp.asarray(flat[start : start + _BATCH])) for start in range(0, len(flat), _BATCH)
    ]
    means, scales = zip(*found, strict=True)
    return np.concatenate(means), np.concatenate(scales)


def _prior_draws(program: LatencyProgram, data: LatencyData, seed: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng([seed, 3])
    structure, size = program.structure, PRIOR_DRAWS
    loc, scale, between = (np.asarray(x) for x in (data.loc, data.scale, data.between))
    k = np.asarray([coefficient for coefficient, _ in structure.active])
    spread = np.log(WORK_SPREAD) + WORK_SPREAD_LOG_SD * rng.normal(size=size)
    mean = loc + scale * rng.normal(size=(size, len(loc)))
    cells = (size, structure.n_cells)
    drawn = {
        "log_work_spread": spread[:, None],
        "log_noise": NOISE[0] + NOISE[1] * rng.normal(size=(size, structure.n_noises)),
        "mean": mean,
        "theta": mean[:, k] + between[k] * rng.normal(size=(size, len(k))),
        "launch_effect": LAUNCH_SPREAD * rng.normal(size=cells),
        "work_effect": np.exp(spread)[:, None] * rng.normal(size=cells),
    }
    return np.concatenate([drawn[name] for name in latency_site_shapes(structure)], axis=1)
