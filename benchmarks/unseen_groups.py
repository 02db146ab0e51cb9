"""Leave a context, or one architecture at one context, out of the study and predict all its runs.

    python benchmarks/unseen_groups.py [--out FOLDER]

The fit never sees a run of the groups left out; each of their runs is then predicted for an unseen
group from the population, and scored: coverage of 50 and 90 % intervals of a new run, their width
and the error, in percent of loss. Beside it: the sibling, which is the prediction of the same
architecture's nearest context that was fitted (what a planner does without a population), with that
group's own interval. Fits are kept in FOLDER as posteriors and not made again. A fit takes about
20-50 CPU seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.cli.runtime import prepare_jax
from allometry.decisions import predict_draws
from allometry.inference import Posterior, Sampler, fit
from allometry.inference.holdout import leave_out
from allometry.observations import Runs, read_runs

CASES = (
    {"context_length": 2048},
    {"context_length": 8192},
    {"context_length": 16384},
    {"architecture": "transformer", "context_length": 2048},
    {"architecture": "xlstm", "context_length": 8192},
    {"architecture": "transformer", "context_length": 16384},
    {"architecture": "xlstm"},
)
"""What is left out: each context, three cells, and an architecture."""

SAMPLER = Sampler(draws=300, starts=2)


def fitted_without(runs: Runs, case: dict[str, object], folder: Path) -> Posterior:
    """The posterior of the other groups, from its file where there is one."""
    name = "-".join(str(value) for value in case.values())
    path = folder / f"without-{name}.nc"
    if path.exists():
        return Posterior.load(path)
    hidden = pd.Series(np.all([runs.table[k] == v for k, v in case.items()], axis=0))
    began = time.process_time()
    posterior = fit(leave_out(runs, hidden, "left out"), library=False, sampler=SAMPLER)
    print(f"  fitted without {name}: {time.process_time() - began:.0f} CPU s", flush=True)
    posterior.save(path)
    return posterior


def scored(posterior: Posterior, hidden: pd.DataFrame) -> pd.DataFrame:
    """Each hidden run with whether its intervals hold it, their width and its error, percent."""
    labels = hidden[["architecture", "context_length"]].drop_duplicates()
    extended = posterior.with_groups(labels)
    _, run = predict_draws(extended, hidden)
    return _score(hidden, run).assign(
        factor=hidden["flops"].to_numpy() / _largest(extended, hidden),
    )


def sibling(posterior: Posterior, hidden: pd.DataFrame) -> pd.DataFrame:
    """The same from the nearest fitted context of the same architecture, if there is one."""
    groups = posterior.groups
    parts = []
    for (architecture, context), part in hidden.groupby(["architecture", "context_length"]):
        own = groups[groups["architecture"] == architecture]
        if own.empty:
            continue
        distance = np.abs(np.log(own["context_length"] / context))
        nearest = own["context_length"].iloc[int(distance.to_numpy().argmin())]
        _, run = predict_draws(posterior, part.assign(context_length=nearest))
        parts.append(_score(part, run))
    return pd.concat(parts) if parts else pd.DataFrame()


def _score(hidden: pd.DataFrame, run: np.ndarray) -> pd.DataFrame:
    loss = hidden["loss"].to_numpy()
    q5, q25, q50, q75, q95 = np.quantile(run, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    return pd.DataFrame(
        {
            "coverage_50": (q25 <= loss) & (loss <= q75),
            "coverage_90": (q5 <= loss) & (loss <= q95),
            "width_90": 100 * np.log(q95 / q5),
            "error": 100 * np.log(q50 / loss),
        },
        index=hidden.index,
    )


def _largest(posterior: Posterior, hidden: pd.DataFrame) -> np.ndarray:
    groups = posterior.groups.assign(_largest=posterior.largest_flops())
    names = ["architecture", "context_length"]
    return np.asarray(hidden[names].merge(groups, how="left", on=names)["_largest"].to_numpy())


def report(parts: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """One row a case and distance."""
    rows = []
    for name, (ours, theirs) in parts.items():
        for label, keep in (
            ("within 3.5x", ours["factor"] <= 3.5),
            ("beyond 3.5x", ours["factor"] > 3.5),
        ):
            if not keep.any():
                continue
            inside = ours[keep]
            row = {"left_out": name, "distance": label, "runs": len(inside)}
            row |= _summary(inside, "")
            if len(theirs):
                row |= _summary(theirs.loc[inside.index], "sibling_")
            rows.append(row)
    return pd.DataFrame(rows)


def _summary(part: pd.DataFrame, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}cover_50": part["coverage_50"].mean(),
        f"{prefix}cover_90": part["coverage_90"].mean(),
        f"{prefix}width_90": part["width_90"].mean(),
        f"{prefix}rmse": float(np.sqrt((part["error"] ** 2).mean())),
    }


def main() -> None:
    """Parse, fit what is not there, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("output/unseen"))
    options = parser.parse_args()
    prepare_jax()
    runs = read_runs("xlstm")
    parts = {}
    for case in CASES:
        name = " ".join(f"{value}" for value in case.values())
        posterior = fitted_without(runs, case, options.out)
        keep = np.all([runs.table[k] == v for k, v in case.items()], axis=0)
        hidden = runs.table[keep].reset_index(drop=True)
        parts[name] = (scored(posterior, hidden), sibling(posterior, hidden))
    table = report(parts)
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(table.round(2).to_string(index=False))
    everything = pd.concat([ours for ours, _ in parts.values()])
    print({k: round(v, 2) for k, v in _summary(everything, "").items()}, len(everything))


if __name__ == "__main__":
    main()
