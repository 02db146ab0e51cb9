"""What the library prior is worth to a new study of a few runs, on studies that it has not seen.

    python benchmarks/prior_worth.py --work FOLDER [--studies chinchilla farseer ...] [--repeats 3]

Each public study is left out: the typical law is made of the others (posteriors as
``make_prior_library.py`` keeps them in FOLDER), 8 runs of one of its groups with at most a tenth of
its largest compute are fitted with and without it, 16 and 32 without it, and the larger runs of the
group are predicted. Printed for each: width of the 90 % interval in percent of the loss (of the law
without its discrepancy, and of a new run with everything), coverage, CRPS, error of the median.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from make_prior_library import STUDIES

from allometry.cli.runtime import prepare_jax
from allometry.criticism.scores import crps
from allometry.decisions.outlook import law_draws
from allometry.decisions.prediction import predict_draws
from allometry.inference import Posterior, Sampler, fit, group_runs
from allometry.inference.evaluate import log_loss_at
from allometry.observations import read_runs
from allometry.priors import PriorFile, typical_prior
from allometry.priors.studies import StudySummary, summarise_study

GROUPS = {
    "chinchilla": ["all"],
    "farseer": ["all"],
    "overtraining": ["c4_original", "rpj"],
    "xlstm": ["transformer/8192", "xlstm/8192"],
}
CUTOFF = 0.1
"""Runs to fit have at most this share of the group's largest compute."""

MOST_TEST = 40
SIZES = (8, 16, 32)
SAMPLER = Sampler(method="laplace", starts=2, draws=250)
COLUMNS = ["params", "tokens", "loss"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Runs of one group: to choose from, and to predict."""

    name: str
    small: pd.DataFrame
    large: pd.DataFrame


def groups_of(name: str) -> list[Group]:
    """The groups of a public table, cut at a tenth of their largest compute."""
    runs = read_runs(name)
    grouping = group_runs(runs.table, runs.by or None)
    found = []
    for wanted in GROUPS[name]:
        own = [wanted in ("all", name) for name in grouping.names]
        table = runs.table[np.asarray(own)[grouping.index]][COLUMNS]
        flops = 6.0 * table["params"] * table["tokens"]
        small = table[flops <= CUTOFF * flops.max()].reset_index(drop=True)
        large = table[flops > CUTOFF * flops.max()].reset_index(drop=True)
        chosen = np.linspace(0, len(large) - 1, min(MOST_TEST, len(large))).astype(int)
        label = name if wanted == "all" else f"{name} {wanted}"
        found.append(Group(name=label, small=small, large=large.iloc[chosen]))
    return found


def design(table: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """So many runs spread over params and tokens: each is the farthest from those before it."""
    x = np.log(table[["params", "tokens"]].to_numpy(dtype=float))
    x = (x - x.mean(axis=0)) / x.std(axis=0) + 0.05 * rng.normal(size=x.shape)
    order = [int(rng.integers(len(x)))]
    while len(order) < min(n, len(x)):
        distance = np.min([((x - x[i]) ** 2).sum(axis=1) for i in order], axis=0)
        order.append(int(np.argmax(distance)))
    return table.iloc[order].reset_index(drop=True)


def score(posterior: Posterior, test: pd.DataFrame) -> dict[str, float]:
    """Width, coverage, CRPS and error of predictions of a group's larger runs."""
    _, run = predict_draws(posterior, test.assign(group="all"))
    loss = test["loss"].to_numpy(dtype=float)
    low, high = np.quantile(run, [0.05, 0.95], axis=0)
    inner_low, inner_high = np.quantile(run, [0.25, 0.75], axis=0)
    index = np.zeros(len(test), dtype=np.int64)
    points = (test[name].to_numpy(dtype=float) for name in ("params", "tokens"))
    own = np.quantile(log_loss_at(law_draws(posterior, index), *points)[0], [0.05, 0.95], axis=0)
    return {
        "law_width": 100 * float((own[1] - own[0]).mean()),
        "run_width": 100 * float(np.log(high / low).mean()),
        "covered_90": float(((low <= loss) & (loss <= high)).mean()),
        "covered_50": float(((inner_low <= loss) & (loss <= inner_high)).mean()),
        "crps": 100 * float(np.mean(crps(run / loss, np.ones_like(loss)))),
        "rmse": 100 * float(np.sqrt(np.mean(np.log(np.median(run, axis=0) / loss) ** 2))),
    }


def rows_of(group: Group, prior: PriorFile, repeats: int) -> list[dict[str, object]]:
    """Scores of a group's small studies with and without the prior."""
    rows: list[dict[str, object]] = []
    for repeat in range(repeats):
        rng = np.random.default_rng([17, repeat])
        chosen = design(group.small, max(SIZES), rng)
        for n, used in ((SIZES[0], True), *((n, False) for n in SIZES)):
            if n > len(chosen):
                continue
            began = time.process_time()
            used_prior = [prior] if used else []
            posterior = fit(chosen[:n], by=(), prior=used_prior, sampler=SAMPLER)
            record = posterior.record
            weight = record.imported[0].posterior_weights[0] if used else np.nan
            rows.append(
                {
                    "group": group.name,
                    "runs": n,
                    "prior": "typical" if used else "default",
                    "repeat": repeat,
                    **score(posterior, group.large),
                    "vague_weight": weight,
                    "worth_runs": record.imported[0].worth_runs if used else np.nan,
                    "method": record.method,
                    "k_hat": record.convergence.pareto_k,
                    "cpu": time.process_time() - began,
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Leave each study out, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--studies", nargs="*", default=STUDIES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--groups", type=int, default=3, help="groups of a study, at most")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    prepare_jax()
    posteriors = {name: Posterior.load(options.work / f"{name}.nc") for name in STUDIES}
    known: dict[str, StudySummary] = {n: summarise_study(p) for n, p in posteriors.items()}
    rows: list[dict[str, object]] = []
    for left_out in options.studies:
        others = [name for name in STUDIES if name != left_out]
        prior = typical_prior(
            [posteriors[name] for name in others], summaries=[known[name] for name in others]
        )
        for group in groups_of(left_out)[: options.groups]:
            rows += rows_of(group, prior, options.repeats)
    table = pd.DataFrame(rows)
    if options.out is not None:
        table.to_csv(options.out, index=False)
    numbers = ["law_width", "run_width", "covered_90", "covered_50", "crps", "rmse"]
    numbers += ["vague_weight", "worth_runs"]
    keys = ["prior", "runs"]
    by_group = table.groupby(["group", *keys], sort=False)[numbers].mean()
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(by_group.round(2).to_string())
        print(table.groupby(keys, sort=False)[numbers].mean().round(2).to_string())


if __name__ == "__main__":
    main()
