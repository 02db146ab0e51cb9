"""From a latency table to the arrays of the latency model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.inference.latency_model import LatencyData, LatencyStructure, TimingArrays
from allometry.inference.latency_work import ARCHITECTURES
from allometry.laws.latency import LatencyLaw, Work

BUCKET = 256
"""Timings are padded to a multiple of this, so that refits of nearly equal tables compile once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyGrouping:
    """Which architecture, phase and cell every timing belongs to.

    Attributes
    ----------
    architectures, cells : tuple of str
        Names; a cell is ``architecture/params/quantity``.
    architecture, phase, cell : ndarray of int, shape (timing,)
    """

    architectures: tuple[str, ...]
    cells: tuple[str, ...]
    architecture: npt.NDArray[np.int64]
    phase: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]

    def structure(self, law: LatencyLaw, *, bounded: bool) -> LatencyStructure:
        """Sizes of the model's sites under a law."""
        active = tuple(
            (k, a)
            for k, coefficient in enumerate(law.coefficients)
            for a, name in enumerate(self.architectures)
            if ARCHITECTURES[name] in coefficient.mixers
        )
        return LatencyStructure(
            active=active,
            n_coefficients=len(law.coefficients),
            n_architectures=len(self.architectures),
            n_cells=len(self.cells),
            n_noises=2 * len(self.architectures),
            bounded=bounded,
        )


def cell_name(architecture: str, params: float, quantity: str) -> str:
    """Name of the cell of a shape in a phase."""
    return f"{architecture}/{params:.0f}/{quantity}"


def group_timings(table: pd.DataFrame) -> LatencyGrouping:
    """Architectures, phases and cells of a table, in order of appearance of their names sorted."""
    names = sorted(table["architecture"].unique())
    architecture = table["architecture"].map({name: a for a, name in enumerate(names)}).to_numpy()
    labels = [
        cell_name(str(a), float(n), str(q))
        for a, n, q in zip(table["architecture"], table["params"], table["quantity"], strict=True)
    ]
    cell, cells = pd.factorize(np.asarray(labels), sort=True)
    step = (table["quantity"] == "step_time").to_numpy()
    return LatencyGrouping(
        architectures=tuple(str(name) for name in names),
        cells=tuple(str(name) for name in cells),
        architecture=architecture.astype(np.int64),
        phase=(2 * architecture + step).astype(np.int64),
        cell=cell.astype(np.int64),
    )


def relative_error(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Known standard error of each timing over it, zero where the table has none."""
    if "seconds_std" not in table:
        return np.zeros(len(table))
    repeats = table["repeats"].fillna(1.0) if "repeats" in table else 1.0
    spread, seconds = (table[n].to_numpy(dtype=np.float64) for n in ("seconds_std", "seconds"))
    counts = np.maximum(np.asarray(repeats, dtype=np.float64), 1.0)
    return np.asarray(np.nan_to_num(spread / seconds / np.sqrt(counts)))


def latency_data(
    table: pd.DataFrame, work: Work, groups: LatencyGrouping, law: LatencyLaw, *, bounded: bool
) -> LatencyData:
    """Timings, padded, with the law's priors."""
    padding = -len(table) % BUCKET

    def padded(values: npt.NDArray[np.float64], fill: float = 0.0) -> jax.Array:
        return jnp.asarray(np.concatenate([values, np.full(padding, fill)]))

    def one_hot(index: npt.NDArray[np.int64], size: int) -> jax.Array:
        # A padding timing is of the first kind: of weight zero, but with a finite density.
        full = np.concatenate([index, np.zeros(padding, dtype=np.int64)])
        return jnp.asarray(np.eye(size)[:, full])

    timings = TimingArrays(
        work=jax.tree.map(lambda part: jnp.pad(part, (0, padding), constant_values=1.0), work),
        architecture=one_hot(groups.architecture, len(groups.architectures)),
        cell=one_hot(groups.cell, len(groups.cells)),
        noise=one_hot(groups.phase, 2 * len(groups.architectures)),
        log_seconds=padded(np.log(table["seconds"].to_numpy(dtype=np.float64))),
        relative_sd=padded(relative_error(table)),
        weight=padded(np.ones(len(table))),
    )
    loc, scale = zip(
        *(coefficient.prior(bounded=bounded) for coefficient in law.coefficients), strict=True
    )
    return LatencyData(
        timings=timings,
        loc=jnp.asarray(loc),
        scale=jnp.asarray(scale),
        between=jnp.asarray([coefficient.between for coefficient in law.coefficients]),
    )
