"""From a latency table to the arrays of the latency model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import SIXTEEN
from allometry.inference.latency_model import LatencyData, LatencyStructure, TimingArrays
from allometry.inference.latency_work import ARCHITECTURES, row_type
from allometry.laws.latency import LatencyLaw
from allometry.laws.latency_parts import Work

SETTING_BUCKET, SLOT_BUCKET = 32, 3
"""Settings and slots are padded to multiples: refits of nearly equal tables compile once."""
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyGrouping:
    """Which architecture, phase, cell and setting every timing belongs to.

    Attributes
    ----------
    architectures, cells, settings : tuple of str
        Names as `cell_name` and `setting_name` have them.
    architecture, phase, cell : ndarray of int, shape (setting,)
        Of each setting.
    setting, slot : ndarray of int, shape (timing,)
        Where each timing is.
    """

    architectures: tuple[str, ...]
    cells: tuple[str, ...]
    settings: tuple[str, ...]
    architecture: Index
    phase: Index
    cell: Index
    setting: Index
    slot: Index

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


def cell_name(row: pd.Series) -> str:
    """Name of the cell of a row: ``architecture/params/quantity``, and ``/dtype`` but of 16 bits.

    Weights of another type run other kernels.
    """
    kind = row_type(row)
    typed = "" if kind == SIXTEEN else f"/{kind.name}"
    return f"{row['architecture']}/{float(row['params']):.0f}/{row['quantity']}{typed}"


def setting_name(cell: str, batch_size: float) -> str:
    """Name of a cell at a batch."""
    return f"{cell}/{batch_size:.0f}"


def phase_names(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the phases of architectures, in the order of their index."""
    return tuple(f"{name}/{q}" for name in architectures for q in ("ttft", "step_time"))


def active_names(
    coefficients: tuple[str, ...],
    architectures: tuple[str, ...],
    active: tuple[tuple[int, int], ...],
) -> tuple[str, ...]:
    """Names of the entries of ``theta``."""
    return tuple(f"{coefficients[k]}/{architectures[a]}" for k, a in active)


def group_timings(table: pd.DataFrame) -> LatencyGrouping:
    """Architectures, cells and settings of a table, each in the order of their sorted names."""
    architectures = sorted(table["architecture"].astype(str).unique())
    labels = [cell_name(row) for _, row in table.iterrows()]
    names = [setting_name(c, float(b)) for c, b in zip(labels, table["batch_size"], strict=True)]
    setting, settings = pd.factorize(np.asarray(names), sort=True)
    first = pd.DataFrame({"setting": setting, "cell": labels}).groupby("setting").first()["cell"]
    cell, cells = pd.factorize(first.to_numpy(), sort=True)
    of_cell = [name.split("/") for name in first]
    architecture = np.asarray([architectures.index(name[0]) for name in of_cell], dtype=np.int64)
    step = np.asarray([name[2] == "step_time" for name in of_cell])
    return LatencyGrouping(
        architectures=tuple(architectures),
        cells=tuple(str(name) for name in cells),
        settings=tuple(str(name) for name in settings),
        architecture=architecture,
        phase=2 * architecture + step,
        cell=cell.astype(np.int64),
        setting=setting.astype(np.int64),
        slot=pd.Series(setting).groupby(setting).cumcount().to_numpy().astype(np.int64),
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
    """Timings by setting, padded, with the law's priors."""
    settings = len(groups.settings)
    settings += -settings % SETTING_BUCKET
    slots = int(groups.slot.max()) + 1
    slots += -slots % SLOT_BUCKET

    def placed(values: npt.ArrayLike, fill: float = 0.0) -> jax.Array:
        full = np.full((settings, slots), fill)
        full[groups.setting, groups.slot] = values
        return jnp.asarray(full)

    def placed_once(values: npt.ArrayLike, fill: float = 0.0) -> jax.Array:
        full = np.asarray(placed(values, fill))
        same = (full == full[:, :1]) | (np.asarray(weight) == 0)
        return jnp.asarray(full[:, :1] if same.all() else full)

    weight = placed(np.ones(len(table)))

    def one_hot(index: Index, size: int) -> jax.Array:
        # A padding setting is of the first kind: of weight zero, but with a finite density.
        full = np.concatenate([index, np.zeros(settings - len(index), dtype=np.int64)])
        return jnp.asarray(np.eye(size)[:, full])

    timings = TimingArrays(
        work=jax.tree.map(lambda part: placed_once(np.asarray(part), fill=1.0), work),
        architecture=one_hot(groups.architecture, len(groups.architectures)),
        cell=one_hot(groups.cell, len(groups.cells)),
        noise=one_hot(groups.phase, 2 * len(groups.architectures)),
        log_seconds=placed(np.log(table["seconds"].to_numpy(dtype=np.float64))),
        relative_sd=placed_once(relative_error(table)),
        weight=weight,
    )
    loc, factor = prior_of_theta(law, groups.structure(law, bounded=bounded))
    return LatencyData(
        timings=timings,
        loc=jnp.asarray(loc),
        factor=jnp.asarray(factor),
        told=jnp.zeros((2, settings, slots)),
        resolved=jnp.zeros(len(loc)),
    )


def prior_of_theta(
    law: LatencyLaw, structure: LatencyStructure
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and Cholesky factor of the active coefficients' prior, their common means left out."""
    priors = [c.prior(bounded=structure.bounded) for c in law.coefficients]
    k = np.asarray([coefficient for coefficient, _ in structure.active])
    loc, scale = (np.asarray(part)[k] for part in zip(*priors, strict=True))
    between = np.asarray([c.between for c in law.coefficients])[k]
    covariance = (k[:, None] == k) * scale[:, None] * scale + np.diag(between**2)
    return loc, np.linalg.cholesky(covariance)
