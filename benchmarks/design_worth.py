"""What a design promises against what the runs that it proposes give, on the study's real runs.

    python benchmarks/design_worth.py [--context 8192] [--cutoff 1.5e20] [--budget 3e21]

Both architectures at one context of the 640-run study, without the runs above the cutoff, are
fitted. For each decision a design chooses, within the budget, from the hidden runs: they were
really made, so the fit can be made again with how they ended. Printed beside the promise: the sd of
the quantity after that fit over the one before, the same for random choices of as many hidden runs
of no more than the same cost together, and how far each answer is from that of the fit to every
run, in the sd before.
"""

import argparse
import os
import time

import numpy as np
import pandas as pd

from allometry.cli.runtime import prepare_jax
from allometry.decisions import design_runs
from allometry.decisions.comparison import best_loss
from allometry.decisions.optimum import optimum
from allometry.inference import Posterior, Sampler, fit
from allometry.inference.discrepancy import study_scale
from allometry.observations import read_runs

SAMPLER = Sampler(method="laplace", draws=500, starts=2)
ARCHITECTURES = ("transformer", "xlstm")


def fitted(table: pd.DataFrame, words: str) -> Posterior:
    posterior = fit(table, sampler=SAMPLER, library=False, seed=1)
    scale = study_scale(posterior).scale
    print(f"  {words}: {len(table)} runs, scale of the discrepancy {scale:.4f}", flush=True)
    return posterior


def answer(posterior: Posterior, decision: str, at: float) -> float:
    """Median of what a decision hangs on: of xlstm, or of the difference."""
    index = np.array([list(posterior.groups["architecture"]).index(a) for a in ARCHITECTURES])
    budgets = np.full(2, at)
    if decision == "size":
        params, _, _ = optimum(posterior, index, budgets)
        return float(np.median(np.log(params[:, 1])))
    loss = np.exp(best_loss(posterior, index, budgets))
    return float(np.median(loss[:, 0] - loss[:, 1] if decision == "winner" else loss[:, 1]))


def design(
    posterior: Posterior, decision: str, budget: float, at: float, runs: pd.DataFrame, **more: float
) -> pd.DataFrame:
    one = {} if decision == "winner" else {"architecture": "xlstm"}
    return design_runs(posterior, budget, decision, at=at, candidates=runs, **one, **more)


def present_sd(posterior: Posterior, decision: str, at: float, runs: pd.DataFrame) -> float:
    found = design(posterior, decision, 1e30, at, runs, least_gain=1e-9)
    return float(found["sd_before"].iloc[0])


def rows_of(plan: pd.DataFrame, hidden: pd.DataFrame) -> list[int]:
    """The hidden runs that a plan chose."""
    keys = ["architecture", "params", "tokens"]
    place = {key: i for i, key in enumerate(hidden[keys].itertuples(index=False, name=None))}
    return [place[key] for key in plan[keys].itertuples(index=False, name=None)]


def at_random(hidden: pd.DataFrame, count: int, cost: float, rng: np.random.Generator) -> list[int]:
    rows: list[int] = []
    flops = hidden["flops"].to_numpy()
    while len(rows) < count:
        open_ = np.setdiff1d(np.flatnonzero(flops <= cost - flops[rows].sum()), rows)
        if not len(open_):
            break
        rows.append(int(rng.choice(open_)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--cutoff", type=float, default=1.5e20)
    parser.add_argument("--budget", type=float, default=3e21)
    parser.add_argument("--random", type=int, default=2)
    parser.add_argument("--decisions", nargs="+", default=["loss", "winner", "size"])
    ask = parser.parse_args()
    prepare_jax()
    table = read_runs("xlstm").table
    table = table[table["context_length"] == ask.context].reset_index(drop=True)
    above = table["flops"] > ask.cutoff
    known, hidden = table[~above], table[above].reset_index(drop=True)
    at = float(table["flops"].max())
    print(
        f"{len(known)} runs up to {ask.cutoff:.3g} FLOPs; {len(hidden)} hidden; asked at {at:.3g}"
    )
    before, every = fitted(known, "before"), fitted(table, "every run")
    rng = np.random.default_rng(0)
    rows = []
    for decision in ask.decisions:
        began = time.process_time()
        plan = design(before, decision, ask.budget, at, hidden)
        print(f"  {decision}: designed in {time.process_time() - began:.1f} CPU s")
        print(plan[["architecture", "params", "tokens", "flops", "gain", "sd_after"]].to_string())
        truth = answer(every, decision, at)
        chosen = rows_of(plan, hidden)
        cost = float(hidden["flops"].to_numpy()[chosen].sum())
        choices = {"proposed": chosen} | {
            f"random {i + 1}": at_random(hidden, len(chosen), cost, rng) for i in range(ask.random)
        }
        now, then = plan["sd_before"].iloc[0], plan["sd_after"].iloc[-1]
        error = (answer(before, decision, at) - truth) / now
        rows.append((decision, "before", 0, 0.0, np.nan, 1.0, error))
        for name, picked in choices.items():
            more = hidden.iloc[picked]
            after = fitted(pd.concat([known, more]), name)
            told = then / now if name == "proposed" else np.nan
            realised = present_sd(after, decision, at, hidden) / now
            error = (answer(after, decision, at) - truth) / now
            rows.append((decision, name, len(more), more["flops"].sum(), told, realised, error))
    names = ["decision", "choice", "runs", "flops", "promised", "realised", "error_in_sd"]
    shown = pd.DataFrame(rows, columns=names)
    shown["flops"] = [f"{f:.2g}" for f in shown["flops"]]
    print(shown.round(2).to_string(index=False))
    # Chains run in processes of their own.
    spent = os.times()
    print(f"{spent.user + spent.children_user:.0f} CPU s, all fits included")


if __name__ == "__main__":
    main()
