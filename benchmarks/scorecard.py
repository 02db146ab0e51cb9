"""Score every registered table at every cutoff, beside the practice, and print the tables of docs.

    python benchmarks/scorecard.py [--folder FOLDER] [--write-reach]

The same as ``allometry validate --scorecard -o FOLDER``, printed as text that docs/validation.md
takes over. With --write-reach, what the cases say of extrapolating how far is written into the
package (`allometry.inference.reach`), where predictions quote it.
"""

import argparse
from pathlib import Path

import pandas as pd

from allometry.cli.runtime import prepare_jax, stages
from allometry.criticism.reach import write_reach
from allometry.criticism.score_summary import regret_rows, score_rows
from allometry.criticism.scorecard import scorecard


def main() -> None:
    """Parse, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("scorecard"))
    parser.add_argument("--write-reach", action="store_true")
    options = parser.parse_args()
    prepare_jax()
    with stages() as bar:
        card = scorecard(options.folder, tables=options.tables or None, progress=bar)
    for table in (score_rows(card.runs), regret_rows(card.decisions)):
        with pd.option_context("display.width", 300, "display.max_columns", None):
            print(table.round(3).to_string(index=False))
        print()
    print(f"{card.cpu_seconds:.0f} CPU seconds of fits and baselines")
    if options.write_reach:
        write_reach(card.runs)


if __name__ == "__main__":
    main()
