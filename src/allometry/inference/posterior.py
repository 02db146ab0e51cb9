"""The posterior of a loss law: draws by group, with all that is needed to decide on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.errors import InputError
from allometry.inference.convergence import require_converged
from allometry.inference.intact import require_intact
from allometry.inference.record import Record
from allometry.inference.summary import summary_table
from allometry.inference.tree import load_tree, save_tree
from allometry.laws import Law, get_law

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Draws = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Posterior:
    """Posterior of a loss law, group by group.

    Attributes
    ----------
    idata : DataTree
        ArviZ tree: posterior, prior, predictives, log likelihood, data, sampler statistics. In its
        ``posterior``, E, A, B, alpha, beta (gamma) have N and D in units of one and the table's
        unit of loss.
    record : Record
        Law, cost model, priors, diagnostics and provenance.
    path : Path, optional
        The file that it was read from.
    """

    idata: xr.DataTree
    record: Record
    path: Path | None = None

    def __repr__(self) -> str:
        runs, groups = self.idata["constant_data"].sizes["run"], len(self.groups)
        verdict = "converged" if self.record.convergence.converged else "not converged"
        return (
            f"<Posterior of {self.record.law}: {runs} runs, {groups} group(s), {self.n_draws} "
            f"draws, {verdict}>"
        )

    @property
    def where(self) -> str:
        """What an error calls it: its file, or the runs that it was fitted to."""
        return str(self.path or f"fit of {self.record.source or 'a table'}")

    @property
    def law(self) -> Law:
        """The law that was fitted."""
        return get_law(self.record.law)

    @property
    def groups(self) -> pd.DataFrame:
        """Group columns, one row a group; a single column ``group`` if the table is one group."""
        dataset = self.idata["posterior"]
        names = self.record.by or ("group",)
        return pd.DataFrame({name: dataset[name].to_numpy() for name in names})

    @property
    def n_draws(self) -> int:
        """Draws over all chains."""
        sizes = self.idata["posterior"].sizes
        return int(sizes["chain"] * sizes["draw"])

    def draws(self, name: str) -> Draws:
        """Draws of a variable with chains joined, shape (draw, ...)."""
        values = self.idata["posterior"][name].to_numpy()
        return np.asarray(values.reshape(-1, *values.shape[2:]))

    def coefficients(self, group: "ArrayLike") -> dict[str, Draws]:
        """Sampler's coefficients of the law for given group indices, each (draw, *group)."""
        theta = self.draws("theta")[:, :, np.asarray(group)]
        return dict(zip(self.law.names, np.moveaxis(theta, 1, 0), strict=True))

    def log_noise(self, group: "ArrayLike") -> Draws:
        """Log scale of a run's noise near the valley for given group indices, (draw, *group)."""
        common = self.draws("log_noise")
        index = np.asarray(group)
        common = common.reshape(-1, *np.ones(index.ndim, dtype=int))
        if "noise_offset" not in self.idata["posterior"]:
            return np.broadcast_to(common, (len(common), *index.shape))
        return np.asarray(common + self.draws("noise_offset")[:, index])

    @property
    def unseen(self) -> npt.NDArray[np.bool_]:
        """Which groups were never run, shape (group,): those of `with_groups`."""
        data = self.idata["constant_data"]
        if "unseen" in data:
            return np.asarray(data["unseen"].to_numpy(), dtype=bool)
        return np.zeros(len(self.groups), dtype=bool)

    def alike(self) -> npt.NDArray[np.int64]:
        """The group whose runs say where the law of each group is known, shape (group,).

        Itself; of a group that was never run the least explored one of its architecture, or of all.
        """
        data = self.idata["constant_data"]
        if "alike" in data:
            return np.asarray(data["alike"].to_numpy(), dtype=np.int64)
        return np.arange(len(self.groups))

    def with_groups(self, labels: pd.DataFrame) -> "Posterior":
        """The posterior with groups that were never run, drawn from the population.

        Parameters
        ----------
        labels : DataFrame
            One row a new group, with all group columns. See `allometry.inference.unseen.extend`.

        Raises
        ------
        InputError
            If the runs were not grouped, a column is missing, or a group is there already.
        """
        from allometry.inference.unseen import extend

        return extend(self, labels)

    def thinned(self, draws: int) -> "Posterior":
        """The same posterior with about so many draws, evenly taken from every chain."""
        step = max(self.n_draws // draws, 1)
        tree = self.idata.copy()
        few = tree["posterior"].to_dataset().isel(draw=slice(None, None, step))
        tree["posterior"] = xr.DataTree(few)
        return replace(self, idata=tree)

    def largest_flops(self) -> Draws:
        """Training compute of the largest run of each group, shape (group,).

        Of a group that was never run: as far as every group of its architecture was, or every group
        if the architecture is new.
        """
        return self._flops("max")

    def smallest_flops(self) -> Draws:
        """Training compute of the smallest run of each group, or of its architecture's."""
        return self._flops("min")

    def _flops(self, end: str) -> Draws:
        data = self.idata["constant_data"]
        name = {"max": "largest_flops", "min": "smallest_flops"}[end]
        if name in data:
            return np.asarray(data[name].to_numpy(), dtype=np.float64)
        frame = pd.DataFrame({"g": data["group_index"].to_numpy(), "c": data["flops"].to_numpy()})
        return np.asarray(frame.groupby("g")["c"].agg(end).to_numpy(dtype=np.float64))

    def select(
        self, *, architecture: str | None = None, context_length: int | None = None
    ) -> list[int]:
        """Indices of the groups of an architecture, of a context length, or both.

        Raises
        ------
        InputError
            If no group is left, or the posterior is not grouped by that.
        """
        groups = self.groups
        keep = np.ones(len(groups), dtype=bool)
        wanted = {"architecture": architecture, "context_length": context_length}
        for name, value in wanted.items():
            if value is None:
                continue
            if name not in groups:
                raise self.not_grouped_by([name])
            keep &= (groups[name].astype(str) == str(value)).to_numpy()
        if not keep.any():
            known = "; ".join("/".join(map(str, row)) for row in groups.itertuples(index=False))
            asked = ", ".join(f"{name} {v}" for name, v in wanted.items() if v is not None)
            what = f"no group with {asked}"
            raise InputError(what, where=self.where, hint=f"The posterior has {known}.")
        return np.flatnonzero(keep).tolist()

    def not_grouped_by(self, names: Sequence[str]) -> InputError:
        """The error for a question about columns that the runs were not grouped by."""
        by = [*self.record.by, *names]
        first = [name for name in by if name == "architecture"]  # levels of the first one are kin
        ordered = " ".join([*first, *(name for name in by if name not in first)])
        known = f"They were grouped by {', '.join(self.record.by)}. " if self.record.by else ""
        hint = (
            f"{known}Fit again with --by {ordered} (by=[...]); the runs table needs "
            f"{'the column' if len(names) == 1 else 'the columns'} {', '.join(names)}."
        )
        what = f"the runs were not grouped by {', '.join(names)}"
        return InputError(what, where=self.where, hint=hint)

    def require_converged(self, *, force: bool = False) -> None:
        """Raise `NotConvergedError` unless the fit converged or `force` is set."""
        require_converged(self.record.convergence, force=force, where=self.where)

    def summary(self) -> pd.DataFrame:
        """One row a parameter and group: mean, sd, median, interval ends, ESS and R-hat."""
        return summary_table(self.idata, self.record.by)

    def predict(self, points: pd.DataFrame, **options: Any) -> pd.DataFrame:
        """Loss at (N, D) points: see `allometry.decisions.predict`."""
        from allometry import decisions

        return decisions.predict(self, points, **options)

    def allocate(self, flops: "ArrayLike", **options: Any) -> pd.DataFrame:
        """Compute-optimal N and D for budgets: see `allometry.decisions.allocate`."""
        from allometry import decisions

        return decisions.allocate(self, flops, **options)

    def growth_law(self, **options: Any) -> pd.DataFrame:
        """N* and D* as powers of compute: see `allometry.decisions.growth_law`."""
        from allometry import decisions

        return decisions.growth_law(self, **options)

    def compare(self, a: str, b: str, flops: "ArrayLike", **options: Any) -> pd.DataFrame:
        """Which architecture has less loss: see `allometry.decisions.compare`."""
        from allometry import decisions

        return decisions.compare(self, a, b, flops, **options)

    def effective_speedup(self, a: str, b: str, flops: "ArrayLike", **options: Any) -> pd.DataFrame:
        """Compute that b needs for a's loss, over a's: see `allometry.decisions`."""
        from allometry import decisions

        return decisions.effective_speedup(self, a, b, flops, **options)

    def save(self, path: str | Path) -> Path:
        """Write everything into one NetCDF file, whole or not at all."""
        target = Path(path)
        save_tree(self.idata, self.record, target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> "Posterior":
        """Read a posterior that `save` wrote; nothing in the file is executed.

        Raises
        ------
        InputError
            If the file is missing, damaged, foreign, or of a law this process does not know.
        """
        tree, record = load_tree(Path(path))
        require_intact(tree, record, get_law(record.law), where=str(path))
        return cls(idata=tree, record=record, path=Path(path))


def group_names(posterior: Posterior) -> Sequence[str]:
    """Names of the groups, such as ``xlstm/8192``."""
    return [str(name) for name in posterior.idata["posterior"]["group"].to_numpy()]
