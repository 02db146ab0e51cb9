"""The Gaussian at the mode against NUTS, on the study's latency table.

Fits the whole table, and the table without one size, by both methods at default settings. Prints
what NUTS says of its convergence and CPU seconds, how far coefficients differ in units of their
posterior sd, and how far predictions of timings that were left out differ: medians and both ends of
90 % intervals, as ratios.

    python benchmarks/latency_methods.py [--size 1.4B] [--keep FOLDER]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from latency_law import DEVICE, LAW, sizes

from allometry.decisions.latency import predict_latency
from allometry.inference import LatencyPosterior, LatencySampler, fit_latency
from allometry.inference.latency_work import usable_rows
from allometry.observations import read_latency

ENDS = ("q5", "median", "q95")


def fitted(
    table: pd.DataFrame, method: str, keep: Path | None, near: LatencyPosterior | None
) -> tuple[LatencyPosterior, float]:
    """A fit at default settings and its CPU seconds (NaN if it was kept)."""
    if keep is not None and keep.exists():
        return LatencyPosterior.load(keep), float("nan")
    began = time.process_time()
    sampler = LatencySampler(method=method)
    found = fit_latency(table, law=LAW, device=DEVICE, sampler=sampler, near=near)
    spent = time.process_time() - began
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        found.save(keep)
    return found, spent


def coefficient_shifts(laplace: LatencyPosterior, nuts: LatencyPosterior) -> pd.DataFrame:
    """Median and interval ends of each coefficient: Laplace less NUTS, over the sd of NUTS."""
    rows = []
    for k, name in enumerate(nuts.law.names):
        for a, architecture in enumerate(nuts.record.architectures):
            one, other = (np.log(p.draws("coefficient")[:, k, a]) for p in (laplace, nuts))
            if np.isnan(other).any():
                continue
            found = [
                (np.quantile(one, q) - np.quantile(other, q)) / other.std()
                for q in (0.05, 0.5, 0.95)
            ]
            rows.append(
                {"architecture": architecture, "coefficient": name, "sd_log": other.std()}
                | dict(zip(ENDS, found, strict=True))
            )
    return pd.DataFrame(rows)


def prediction_ratios(
    laplace: LatencyPosterior, nuts: LatencyPosterior, points: pd.DataFrame
) -> pd.DataFrame:
    """Laplace over NUTS for points: median, and ends of the interval of one new timing."""
    one, other = (predict_latency(p, points, force=True) for p in (laplace, nuts))
    seconds = points["seconds"].to_numpy()
    table = points[["architecture", "quantity"]].assign(
        **{f"ratio_{e}": one[f"run_seconds_{e}"] / other[f"run_seconds_{e}"] for e in ENDS},
        **{
            f"covered_{name}": (p["run_seconds_q5"] <= seconds) & (seconds <= p["run_seconds_q95"])
            for name, p in (("laplace", one), ("nuts", other))
        },
        **{
            f"error_{name}": np.abs(p["seconds_median"] / seconds - 1)
            for name, p in (("laplace", one), ("nuts", other))
        },
    )
    named = {f"ratio_{e}": (f"ratio_{e}", "median") for e in ENDS}
    named |= {f"worst_{e}": (f"ratio_{e}", lambda r: np.exp(np.abs(np.log(r)).max())) for e in ENDS}
    for name in ("laplace", "nuts"):
        named[f"error_{name}"] = (f"error_{name}", "median")
        named[f"covered_{name}"] = (f"covered_{name}", "mean")
    return table.groupby(["architecture", "quantity"], as_index=False).agg(
        rows=("ratio_median", "size"), **named
    )


def markdown(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1.4B", help="nominal size to leave out and predict")
    parser.add_argument("--keep", type=Path, help="folder of fits: read, or written")
    options = parser.parse_args()
    table = usable_rows(read_latency("latency").table).table
    out = sizes(table) == options.size
    if not out.any():
        parser.error(f"no size {options.size}; there are {', '.join(sorted(set(sizes(table))))}")
    splits = {"all": table, f"without {options.size}": table[~out].reset_index(drop=True)}
    near = None
    for name, train in splits.items():
        fits = []
        for method in ("laplace", "nuts"):
            keep = options.keep and options.keep / f"{name.replace(' ', '_')}_{method}.nc"
            found, spent = fitted(train, method, keep, near)
            near = near or found
            fits.append(found)
            print(f"# {name}, {method}: {spent:.0f} CPU s; {found.record.convergence}", flush=True)
        shifts = coefficient_shifts(*fits)
        print(f"\n{markdown(shifts)}\n")
        points = table[out].reset_index(drop=True) if len(train) < len(table) else table
        print(f"{markdown(prediction_ratios(*fits, points))}\n", flush=True)


if __name__ == "__main__":
    main()
