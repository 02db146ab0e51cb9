"""Tables of draws: medians, equal-tailed intervals, and diagnostics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.inference.convergence import Worst, chain_statistics, loose_published
from allometry.inference.record import Record

QUANTILES = {"median": 0.5, "q5": 0.05, "q25": 0.25, "q75": 0.75, "q95": 0.95}
"""Ends of the equal-tailed 50 and 90 % intervals, by the suffix of their column."""

UNPUBLISHED = ("theta", "drift", "noise_offset")
"""Variables by group that are told in other words, or not at all."""

COLUMNS = ("mean", "sd", *QUANTILES, "ess_bulk", "ess_tail", "r_hat")


def interval_columns(
    name: str, draws: npt.NDArray[np.float64], *, axis: int = 0
) -> dict[str, npt.NDArray[np.float64]]:
    """Columns ``name_median, name_q5, name_q25, name_q75, name_q95`` of draws along `axis`.

    Infinite draws are kept: where there are some, the ends are draws and not means of two.
    """
    ends = list(QUANTILES.values())
    if np.isfinite(draws).all():
        values = np.quantile(draws, ends, axis=axis)
    else:
        values = np.quantile(draws, ends, axis=axis, method="nearest")
    return {f"{name}_{suffix}": value for suffix, value in zip(QUANTILES, values, strict=True)}


def summary_table(tree: xr.DataTree, by: Sequence[str]) -> pd.DataFrame:
    """One row a published parameter and group, then one a parameter of the noise and the levels."""
    dataset = tree["posterior"].to_dataset()
    rows: list[dict[str, Any]] = []
    published = [n for n in ("E", "A", "B", "alpha", "beta", "gamma") if n in dataset]
    others = [str(n) for n in dataset.data_vars if "group" in dataset[n].dims]
    for name in [*published, *(n for n in others if n not in (*published, *UNPUBLISHED))]:
        for g in range(dataset.sizes["group"]):
            labels = {c: dataset[c].to_numpy()[g] for c in by}
            rows.append({"parameter": name} | labels | _row(dataset[name].isel(group=g)))
    for name in ("log_noise", "log_off_valley"):
        if name in dataset:
            short = name.removeprefix("log_")
            rows.append({"parameter": short} | _row(np.exp(dataset[name])))
    if "noise_offset" in dataset:
        log_noise = dataset["log_noise"] + dataset["noise_offset"]
        for g in range(dataset.sizes["group"]):
            labels = {c: dataset[c].to_numpy()[g] for c in by}
            rows.append({"parameter": "noise"} | labels | _row(np.exp(log_noise.isel(group=g))))
    for name in ("mean", "log_spread", "per_doubling"):
        if name in dataset:
            for k, coefficient in enumerate(dataset["coefficient"].to_numpy()):
                label = f"{name}[{coefficient}]"
                rows.append({"parameter": label} | _row(dataset[name].isel(coefficient=k)))
    table = pd.DataFrame(rows, columns=["parameter", *by, *COLUMNS])
    whole = [c for c in by if dataset[c].dtype.kind in "iu"]
    return table.astype(dict.fromkeys(whole, "Int64"))  # rows without a group have none of these


def doubtful_rows(table: pd.DataFrame, record: Record) -> tuple[str, ...]:
    """A note on the row of `summary_table` that chains of a converged fit agree least on.

    None of weighed draws, which have no chains: their R-hat is set to one.
    """
    if record.convergence.max_rhat == 1.0 or not table["r_hat"].notna().any():
        return ()
    row = table.iloc[int(np.nanargmax(table["r_hat"].to_numpy(dtype=np.float64)))]
    labels = "/".join(str(row[name]) for name in record.by if not pd.isna(row[name]))
    worst = Worst(str(row["parameter"]), labels or "all groups", float(row["r_hat"]))
    return loose_published(record.convergence, worst)


def _row(values: Any) -> dict[str, float]:
    draws = np.asarray(values)
    rhat, bulk, tail = chain_statistics(draws[..., None])
    quantiles = {k: float(np.quantile(draws, q)) for k, q in QUANTILES.items()}
    spread = {"mean": float(draws.mean()), "sd": float(draws.std(ddof=1))}
    return spread | quantiles | {"ess_bulk": bulk, "ess_tail": tail, "r_hat": rhat}
