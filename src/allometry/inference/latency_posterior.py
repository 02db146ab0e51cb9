"""The posterior of a latency law: draws by architecture, with all that is needed to predict."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.accounting import SIXTEEN
from allometry.errors import InputError
from allometry.inference.checksums import require_as_written
from allometry.inference.convergence import require_converged
from allometry.inference.latency_field import FIELD_DRAWS, MOST, Field, Places
from allometry.inference.latency_record import LatencyRecord
from allometry.inference.latency_work import WIDTHS
from allometry.inference.summary import interval_columns
from allometry.inference.tree import read_tree, save_tree
from allometry.laws.latency import LatencyLaw, latency_law

Draws = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyPosterior:
    """Posterior of a latency law for one device, architecture by architecture.

    Attributes
    ----------
    idata : DataTree
        ArviZ tree. Its ``posterior`` has ``coefficient`` (natural units) by name and architecture,
        the sampler's sites, effects by cell, and the field of what the law misses by
        architecture and quantity.
    record : LatencyRecord
        Law, device, diagnostics and provenance.
    """

    idata: xr.DataTree
    record: LatencyRecord

    @property
    def law(self) -> LatencyLaw:
        """The law that was fitted."""
        return latency_law(self.record.law)

    @property
    def n_draws(self) -> int:
        """Draws over all chains."""
        sizes = self.idata["posterior"].sizes
        return int(sizes["chain"] * sizes["draw"])

    def draws(self, name: str) -> Draws:
        """Draws of a variable with chains joined, shape (draw, ...)."""
        values = self.idata["posterior"][name].to_numpy()
        return np.asarray(values.reshape(-1, *values.shape[2:]), dtype=np.float64)

    def values(self, architecture: str) -> dict[str, Draws]:
        """Coefficients of an architecture in their natural units, each (draw, 1).

        Raises
        ------
        InputError
            If that architecture was not timed.
        """
        a = self.architecture_index(architecture)
        table = self.draws("coefficient")[:, :, a]
        # What does not concern an architecture multiplies work that it does not have.
        filled = np.where(np.isnan(table), 1.0, table)
        return {name: filled[:, k, None] for k, name in enumerate(self.law.names)}

    def architecture_index(self, architecture: str) -> int:
        """Index of an architecture, or one InputError that lists those that were timed."""
        known = self.record.architectures
        if architecture not in known:
            what = f"no timings of architecture {architecture!r}; timed: {', '.join(known)}"
            raise InputError(what, where=f"fit of {self.record.source}")
        return known.index(architecture)

    def noise(self, architecture: str, quantity: str) -> Draws:
        """Sd of a log timing's own noise, shape (draw,)."""
        return self.draws("field_noise")[:, self._phase(architecture, quantity)]

    def fields(self, architecture: str, quantity: str) -> list[tuple[Field, Index]]:
        """Fields of what the law misses, each with the draws that take it."""
        phase = self._phase(architecture, quantity)
        spread, common, length, noise, power = (
            self.draws(f"field_{name}")[:, phase]
            for name in ("spread", "common", "length", "noise", "power")
        )
        found = []
        for turn in range(min(FIELD_DRAWS, self.n_draws)):
            own = np.arange(turn, self.n_draws, FIELD_DRAWS)
            field = Field(
                step=quantity == "step_time",
                spread=spread[turn],
                common=common[turn],
                length=length[turn],
                noise=float(noise[turn]),
                power=float(power[turn]),
            )
            found.append((field, own))
        return found

    def residuals(
        self, architecture: str, quantity: str, first: Index
    ) -> tuple[Places, Draws, Draws]:
        """Timings of a phase: places, residuals of log seconds (draw, timing), known variances.

        Where there are more than can be reckoned with, those of the cells `first` come first.
        """
        known = self.idata["constant_data"]
        cells = known["cell_index"].to_numpy()
        names = [str(name).split("/") for name in self.idata["posterior"]["cell"].to_numpy()]
        own = [name[0] == architecture and name[2] == quantity for name in names]
        rows = np.flatnonzero(np.asarray(own)[cells])
        rows = np.sort(rows[np.argsort(~np.isin(cells[rows], first), kind="stable")][:MOST])
        at, share, sd = (known[n].to_numpy()[rows] for n in ("place", "share", "relative_sd"))
        seconds = self.idata["observed_data"]["seconds"].to_numpy()[rows]
        residual = np.log(seconds) - self.draws("law_log_seconds")[:, rows]
        return Places(at=at, share=share, shape=cells[rows]), residual, sd**2

    def timings(self) -> pd.DataFrame:
        """Timings of the fit, one a row: what a prediction asks, widths known, and seconds.

        ``dtype`` is the short name of `allometry.accounting.NumberType`.
        """
        known = self.idata["constant_data"]
        cells = self.idata["posterior"]["cell"].to_numpy()[known["cell_index"].to_numpy()]
        labels = [str(cell).split("/") for cell in cells]
        names = ("params", "batch_size", "prefill_length", "generation_length", *WIDTHS)
        return pd.DataFrame(
            {"architecture": [label[0] for label in labels]}
            | {"quantity": [label[2] for label in labels]}
            | {"dtype": [label[3] if len(label) > 3 else SIXTEEN.name for label in labels]}
            | {name: known[name].to_numpy() for name in names if name in known}
            | {"seconds": self.idata["observed_data"]["seconds"].to_numpy()}
        )

    def timed_models(self) -> pd.DataFrame:
        """Models that were timed, each once: architecture, params and the widths of the table."""
        table = self.timings().drop_duplicates(["architecture", "params"], ignore_index=True)
        names = ("architecture", "params", *WIDTHS)
        return table[[name for name in names if name in table]]

    def _phase(self, architecture: str, quantity: str) -> int:
        return 2 * self.architecture_index(architecture) + (quantity == "step_time")

    def require_converged(self, *, force: bool = False) -> None:
        """Raise `NotConvergedError` unless the fit converged or `force` is set."""
        require_converged(
            self.record.convergence, force=force, where=f"fit of {self.record.source}"
        )

    def summary(self) -> pd.DataFrame:
        """One row a coefficient and architecture, in natural units and in FLOP/s or bytes/s."""
        device = self.record.device
        peak = {"flops": device.flops, "bandwidth": device.bandwidth}
        unit = {"flops": "FLOP/s", "bandwidth": "bytes/s"}
        rows = []
        table = self.draws("coefficient")
        for k, coefficient in enumerate(self.law.coefficients):
            for a, architecture in enumerate(self.record.architectures):
                if np.isnan(table[:, k, a]).any():
                    continue
                ceiling = coefficient.kind in peak
                share = table[:, k, a] if ceiling else np.full(len(table), np.nan)
                absolute = table[:, k, a] * peak.get(coefficient.kind, 1.0)
                rows.append(
                    {
                        "architecture": architecture,
                        "coefficient": coefficient.name,
                        "unit": unit.get(coefficient.kind) or ("s" if coefficient.timed else "1"),
                        "share_of_peak": float(np.median(share)),
                    }
                    | {n: float(v) for n, v in interval_columns("value", absolute).items()}
                )
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> Path:
        """Write everything into one NetCDF file, whole or not at all."""
        target = Path(path)
        save_tree(self.idata, self.record, target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> "LatencyPosterior":
        """Read a posterior that `save` wrote; nothing in the file is executed.

        Raises
        ------
        InputError
            If the file is missing, damaged or foreign.
        """
        tree = read_tree(Path(path), hint="Give a file that allometry latency fit wrote.")
        attributes = {str(k): v for k, v in tree.attrs.items()}
        record = LatencyRecord.from_attributes(attributes, source=str(path))
        latency_law(record.law)
        require_as_written(tree, where=str(path))
        return cls(idata=tree, record=record)
