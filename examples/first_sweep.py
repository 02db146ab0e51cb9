# %% [markdown]
# # From nothing to a posterior in five minutes
#
# A corpus of real text, a sweep of 30 tiny models (both architectures, five sizes at each of three
# budgets), and a loss law fitted to them: every step is a command that you could type. Needs the
# extra `train`. On two cores the sweep takes two and a half minutes and all of it four and a half,
# less on more cores; the time of each step is printed.
#
# Models of 10,000 to 130,000 params say nothing about large ones. What they show is the way, from
# the plan to `valleys.png`: the least loss lies inside the grid at every budget, and the intervals
# are as wide as 30 noisy runs make them. `data/measured/` has the same for some hours of training.
#
# Two choices make so small a sweep work. A vocabulary of 512: with bytes, whether a Transformer of
# this size comes to use its context is a matter of luck, and two seeds can end far apart. And sizes
# that end at 8 channels, so that there are some on the left side of the smallest valley.
#
# Run it: `python examples/first_sweep.py`; everything lands in `output/first_sweep/`. Stopped and
# given again, it goes on where it was.


# %%
import os
import subprocess
import sys
import time
from pathlib import Path

import cyclopts

BUDGETS = ("2e10", "4e10", "8e10")
OPTIMA = """architecture,context_length,flops,params
transformer,64,2e10,20000
transformer,64,8e10,40000
xlstm,64,2e10,22000
xlstm,64,8e10,46000
"""
"""Sizes are spread around these, from a pilot of some runs at 1e10 and 3e10 FLOPs."""


# %%
def allometry(*arguments: str | Path) -> None:
    """Run one command, in a process of its own: training and inference share none."""
    command = ["allometry", *map(str, arguments)]
    print("$", " ".join(command), flush=True)
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "allometry.cli", *command[1:]], check=True)
    wall, after = time.perf_counter() - start, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children and theirs
    print(f"[{wall:.0f} s, {cpu:.0f} s of CPU]\n", flush=True)


# %%
def main(*, output: Path = Path("output/first_sweep"), workers: int | None = None) -> int:
    """Build a corpus, train a small sweep on it, fit its runs, and plot.

    Parameters
    ----------
    output
        Folder for everything.
    workers
        Models trained at a time, a core each; by default half of the cores, but two if there are.
    """
    corpus, sweep, plan = output / "corpus", output / "sweep", output / "plan.csv"
    runs, fit = output / "runs.csv", output / "fit.nc"
    output.mkdir(parents=True, exist_ok=True)
    (output / "optima.csv").write_text(OPTIMA)
    cores = os.cpu_count() or 1
    count = str(workers or max(cores // 2, min(cores, 2)))
    if not (corpus / "manifest.json").is_file():
        allometry(
            "corpus", "build", "--demo", "english", "--tokenizer", "bpe", "--vocab-size", "512",
            "--workers", count, "-o", corpus,
        )  # fmt: skip
    if not plan.is_file():  # a sweep that has begun keeps its plan
        allometry(
            "sweep", "plan", "--design", "isoflop", "--contexts", "64", "--budgets", *BUDGETS,
            "--sizes-per-budget", "5", "--spread", "0.45", "3.2", "--optima", output / "optima.csv",
            "--corpus", corpus, "--batch-tokens", "512", "--learning-rate", "0.02",
            "--device", "cpu", "--flops-per-second", "6e9", "-o", plan,
        )  # fmt: skip
    allometry(
        "sweep", "run", plan, "--corpus", corpus, "-o", sweep, "--workers", count, "--threads", "1",
        "--set", "validation_tokens=16384", "validation_points=2",
    )  # fmt: skip
    allometry("sweep", "collect", sweep, "-o", runs)
    allometry("fit", runs, "--by", "architecture", "-o", fit)
    allometry("growth", fit)
    allometry("allocate", fit, "--flops", "8e10", "8e11")
    for kind in ("valleys", "growth", "fan"):
        allometry("plot", fit, kind, "-o", output / f"{kind}.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except subprocess.CalledProcessError as error:  # the command has said what was wrong
        sys.exit(error.returncode)
