# %% [markdown]
# # From nothing to a posterior in five minutes
#
# A corpus of real text, a sweep of 24 tiny models (both architectures, three budgets), and a loss
# law fitted to them: every step is a command that you could type. Needs the extra `train`. The
# sweep takes about two minutes of CPU time in all; each worker has a core.
#
# Models of 10,000 to 60,000 params say nothing about large ones. What they show is the way. Look at
# `valleys.png`: the least loss lies at the smallest sizes, so the valleys are open to the left and
# the allocation is an extrapolation with intervals of a factor of ten and more. A sweep to decide
# by needs sizes on both sides (`data/measured/` has them, for some hours of training).
#
# Run it: `python examples/first_sweep.py`; everything lands in `output/first_sweep/`. Stopped and
# given again, it goes on where it was.


# %%
import os
import subprocess
import sys
from pathlib import Path

import cyclopts

BUDGETS = ("8e9", "2e10", "5e10")
OPTIMA = """architecture,context_length,flops,params
transformer,128,1e10,9000
transformer,128,1e11,22000
xlstm,128,1e10,9000
xlstm,128,1e11,22000
"""
"""Sizes are spread around these, at the small end of the family of shapes."""


# %%
def allometry(*arguments: str | Path) -> None:
    """Run one command, in a process of its own: training and inference share none."""
    command = ["allometry", *map(str, arguments)]
    print("$", " ".join(command), flush=True)
    subprocess.run([sys.executable, "-m", "allometry.cli", *command[1:]], check=True)


# %%
def main(*, output: Path = Path("output/first_sweep"), workers: int | None = None) -> int:
    """Build a corpus, train a small sweep on it, fit its runs, and plot.

    Parameters
    ----------
    output
        Folder for everything.
    workers
        Models trained at a time, a core each; by default half of the cores.
    """
    corpus, sweep, plan = output / "corpus", output / "sweep", output / "plan.csv"
    runs, fit = output / "runs.csv", output / "fit.nc"
    output.mkdir(parents=True, exist_ok=True)
    (output / "optima.csv").write_text(OPTIMA)
    if not (corpus / "manifest.json").is_file():
        allometry("corpus", "build", "--demo", "english", "--tokenizer", "bytes", "-o", corpus)
    if not plan.is_file():  # a sweep that has begun keeps its plan
        allometry(
            "sweep", "plan", "--design", "isoflop", "--contexts", "128", "--budgets", *BUDGETS,
            "--sizes-per-budget", "4", "--spread", "0.4", "3", "--optima", output / "optima.csv",
            "--corpus", corpus, "--batch-tokens", "1024", "--learning-rate", "0.01",
            "--device", "cpu", "--flops-per-second", "5e9", "-o", plan,
        )  # fmt: skip
    count = workers or max((os.cpu_count() or 2) // 2, 1)
    allometry(
        "sweep", "run", plan, "--corpus", corpus, "-o", sweep,
        "--workers", str(count), "--threads", "1",
        "--set", "validation_tokens=16384", "validation_points=3",
    )  # fmt: skip
    allometry("sweep", "collect", sweep, "-o", runs)
    # The plain law: budgets a factor of six apart do not tell how its terms bend. Many draws: the
    # little that 24 small runs say leaves long tails.
    allometry(
        "fit", runs, "--by", "architecture", "--law", "chinchilla", "--draws", "1500", "-o", fit
    )
    allometry("growth", fit)
    allometry("allocate", fit, "--flops", "5e10", "5e11")
    for kind in ("valleys", "growth", "fan"):
        allometry("plot", fit, kind, "-o", output / f"{kind}.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except subprocess.CalledProcessError as error:  # the command has said what was wrong
        sys.exit(error.returncode)
