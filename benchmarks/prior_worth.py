"""What a prior is worth to a new study of a few runs, on runs that it has not seen.

    python benchmarks/prior_worth.py --work FOLDER [--studies chinchilla farseer ...] [--repeats 2]

Each public study is left out: the typical law is made of the others (posteriors as
``make_prior_library.py`` keeps them in FOLDER), a few runs (--sizes) of one of its groups with at
most a tenth of its largest compute are fitted with and without it, and the larger runs of the group
are predicted. Where a study has several groups, 8 runs import the prior of its *other* groups as
well ("same study"), unless --typical-only. Printed for each: width of the 90 % interval in percent
of the loss (of the law without its discrepancy, and of a new run with everything), of the exponent
of N*, and of log N* at the group's largest compute; coverage, CRPS, error of the median; then CRPS
over that without a prior, widths over those of 16 runs without one, and the exponent of each study.
Scores are kept in FOLDER/worth.jsonl, one line a fit: what is there is not fitted again.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from make_prior_library import STUDIES, UNITS, posterior_of, study_runs

from allometry.cli.runtime import prepare_jax
from allometry.criticism.scores import crps
from allometry.decisions.outlook import law_draws
from allometry.decisions.prediction import predict_draws
from allometry.inference import Posterior, Sampler, fit, group_runs
from allometry.inference.evaluate import log_loss_at
from allometry.priors import PriorFile, as_prior, typical_prior
from allometry.priors.studies import StudySummary, summarise_study

GROUPS = {
    "chinchilla": ["all"],
    "farseer": ["all"],
    "overtraining": ["c4_original", "rpj"],
    "xlstm": ["transformer/8192", "xlstm/8192"],
    "repetition": ["all"],
}
CUTOFF = 0.1
"""Runs to fit have at most this share of the group's largest compute."""

MOST_TEST = 40
FEW, MANY = 8, 16
"""Runs with a prior, and runs without one that its width is compared with."""

MOST_DESIGN = 64
"""Runs that designs are the beginnings of, so that a larger one goes on from a smaller one."""

SAMPLER = Sampler(method="laplace", starts=2, draws=250)
WIDTHS = ["law_width", "run_width", "exponent_width", "optimum_width"]
COLUMNS = ["params", "tokens", "loss"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Runs of one group: to choose from, and to predict."""

    study: str
    own: str
    name: str
    small: pd.DataFrame
    large: pd.DataFrame


def groups_of(name: str) -> list[Group]:
    """The groups of a public table, cut at a tenth of their largest compute."""
    runs = study_runs(name)
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
        test = large.iloc[chosen]
        found.append(Group(study=name, own=wanted, name=label, small=small, large=test))
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
    """Widths, coverage, CRPS and error of predictions of a group's larger runs."""
    _, run = predict_draws(posterior, test.assign(group="all"))
    loss = test["loss"].to_numpy(dtype=float)
    low, high = np.quantile(run, [0.05, 0.95], axis=0)
    inner_low, inner_high = np.quantile(run, [0.25, 0.75], axis=0)
    index = np.zeros(len(test), dtype=np.int64)
    points = (test[name].to_numpy(dtype=float) for name in ("params", "tokens"))
    own = np.quantile(log_loss_at(law_draws(posterior, index), *points)[0], [0.05, 0.95], axis=0)
    largest = float((6.0 * test["params"] * test["tokens"]).max())
    optimum = posterior.allocate([largest], force=True).iloc[0]
    growth = posterior.growth_law(force=True).iloc[0]
    return {
        "exponent_width": float(growth["params_exponent_q95"] - growth["params_exponent_q5"]),
        "optimum_width": float(np.log(optimum["params_q95"] / optimum["params_q5"])),
        "law_width": 100 * float((own[1] - own[0]).mean()),
        "run_width": 100 * float(np.log(high / low).mean()),
        "covered_90": float(((low <= loss) & (loss <= high)).mean()),
        "covered_50": float(((inner_low <= loss) & (loss <= inner_high)).mean()),
        "crps": 100 * float(np.mean(crps(run / loss, np.ones_like(loss)))),
        "rmse": 100 * float(np.sqrt(np.mean(np.log(np.median(run, axis=0) / loss) ** 2))),
    }


def prior_of_others(group: Group, work: Path) -> PriorFile:
    """The prediction that the other groups of its study make for a group."""
    name = f"{group.study} without {group.own.replace('/', ' ')}"
    path = work / f"{name}.nc"
    if not path.exists():
        runs = study_runs(group.study)
        grouping = group_runs(runs.table, runs.by or None)
        others = np.asarray(grouping.names)[grouping.index] != group.own
        fit(runs.table[others].reset_index(drop=True), by=runs.by, library=False).save(path)
    architecture = group.own.split("/")[0] if "/" in group.own else None
    return as_prior(
        Posterior.load(path),
        architecture=architecture,
        name=name,
        units=UNITS[group.study],
        force=True,
    )


def fitted(
    group: Group, n: int, prior: PriorFile | None, called: str, repeat: int
) -> dict[str, object] | None:
    """Scores of one small study; None if the group has too few runs for it."""
    chosen = design(group.small, MOST_DESIGN, np.random.default_rng([17, repeat]))
    if n > len(chosen):
        return None
    began = time.process_time()
    used = [] if prior is None else [prior]
    posterior = fit(chosen[:n], by=(), prior=used, library=False, sampler=SAMPLER)
    record = posterior.record
    return {
        "group": group.name,
        "runs": n,
        "prior": called,
        "repeat": repeat,
        **score(posterior, group.large),
        "vague_weight": record.imported[0].posterior_weights[0] if used else np.nan,
        "worth_runs": record.imported[0].worth_runs if used else np.nan,
        "method": record.method,
        "k_hat": record.convergence.pareto_k,
        "cpu": time.process_time() - began,
    }


def main() -> None:
    """Leave each study out, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--studies", nargs="*", default=STUDIES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", type=int, default=[6, 8, 10, 12, 16, 24, 32])
    parser.add_argument("--typical-only", action="store_true")
    options = parser.parse_args()
    prepare_jax()
    posteriors = {name: posterior_of(name, options.work) for name in STUDIES}
    known: dict[str, StudySummary] = {n: summarise_study(p) for n, p in posteriors.items()}
    kept = options.work / "worth.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["group"], row["prior"], row["runs"], row["repeat"]) for row in rows}
    for left_out in options.studies:
        others = [name for name in STUDIES if name != left_out]
        typical = typical_prior(
            [posteriors[name] for name in others], summaries=[known[name] for name in others]
        )
        for group in groups_of(left_out):
            cases: list[tuple[int, PriorFile | None, str]] = [
                (n, typical, "typical") for n in options.sizes
            ]
            if len(posteriors[left_out].groups) > 1 and not options.typical_only:
                cases.append((FEW, prior_of_others(group, options.work), "same study"))
            cases += [(n, None, "default") for n in options.sizes]
            for repeat in range(options.repeats):
                for n, prior, called in cases:
                    if (group.name, called, n, repeat) in done:
                        continue
                    row = fitted(group, n, prior, called, repeat)
                    if row is not None:
                        rows.append(row)
                        with kept.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    report(pd.DataFrame(rows))
    print("\nExponent of N* by study: what 16 runs would have to be told")
    for name, posterior in posteriors.items():
        growth = posterior.growth_law(force=True)["params_exponent_median"]
        print(f"{name}: {', '.join(f'{value:.2f}' for value in growth)}")


def report(table: pd.DataFrame) -> None:
    """Print the scores, and the widths over those of 16 runs without a prior."""
    numbers = [*WIDTHS, "covered_90", "covered_50", "crps", "rmse"]
    numbers += ["vague_weight", "worth_runs"]
    by_group = table.groupby(["group", "prior", "runs"], sort=False)[numbers].mean()
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(by_group.round(2).to_string())
    without = by_group.xs("default", level="prior")
    for called in [name for name in by_group.index.unique("prior") if name != "default"]:
        part = by_group.xs(called, level="prior")
        ratio = (part / without)["crps"].dropna().unstack("runs")
        print(f"\nCRPS with prior {called} over that without, by runs")
        print(ratio.round(2).to_string())
        print(f"geometric mean {np.exp(np.log(ratio).mean()).round(2).to_dict()}")
        for level in ("covered_50", "covered_90"):
            both = [
                table[level].unstack("runs").mean().round(2).to_dict() for table in (part, without)
            ]
            print(f"{level}: {both[0]}, without {both[1]}")
        columns = [*WIDTHS, "crps"]
        few, many = part.xs(FEW, level="runs"), without.xs(MANY, level="runs")
        ratio = (few / many)[columns].dropna()
        print(f"{FEW} runs with it over {MANY} without")
        print(ratio.round(2).to_string())
        print(f"median {ratio.median().round(2).to_dict()}")


if __name__ == "__main__":
    main()
