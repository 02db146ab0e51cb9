"""Runs tables of four public studies that no default here was chosen on, for the scorecard.

    python benchmarks/foreign_tables.py RAW -o TABLES
    python benchmarks/scorecard.py TABLES/*.csv --folder FITS

prints what docs/validation.md says of them. RAW is a folder with these files, as downloaded:

- llama3.csv: Open-Athena/scaling-law-analysis, commit 01245898, data/isoflops/llama3/isoflops.csv
  (read off figure 2 of arXiv:2407.21783);
- marin.csv: the same, commit 49e8f407, data/isoflops/marin_202603/isoflops.csv (arXiv:2603.22339);
- misfitting.csv: hadasah/scaling_laws, commit 1f3708c0, data/scaling_results_last_ckpt_only.csv
  (arXiv:2502.18969);
- openeuro.csv: OpenEuroLLM/dense_english_scaling_laws, commit 781af436,
  data/loss_all_exps_post_annealing.csv.

Their licences are not stated, so that the tables are not part of this repository.
"""

import argparse
from pathlib import Path

import pandas as pd

from allometry.observations import read_runs, write_table


def llama3(raw: pd.DataFrame) -> pd.DataFrame:
    """Digitised: N is C / 6D. Each point is there twice, once with its loss exponentiated."""
    return _isoflops(raw[raw["condition"] == "raw_loss"])


def marin(raw: pd.DataFrame) -> pd.DataFrame:
    """One architecture on three corpora; loss is a macro average over the Paloma sets."""
    return _isoflops(raw).assign(architecture="transformer-" + raw["dataset"])


def misfitting(raw: pd.DataFrame) -> pd.DataFrame:
    """Last checkpoints, at one to four learning rates each; some are there twice."""
    names = {"N": "params", "D": "tokens", "C_6ND": "flops", "C4 Eval Loss": "loss"}
    return raw[list(names)].rename(columns=names).drop_duplicates()


def openeuro(raw: pd.DataFrame) -> pd.DataFrame:
    """A grid of sizes and lengths, at 6 to 28 learning rates and batch sizes each."""
    names = {"N": "params", "D": "tokens", "C": "flops", "loss": "loss"}
    return raw[list(names)].rename(columns=names)


def _isoflops(raw: pd.DataFrame) -> pd.DataFrame:
    return raw[["params", "tokens", "budget", "loss"]].rename(columns={"budget": "flops"})


def main() -> None:
    """Read, keep the best run of each size and length, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("tables"))
    options = parser.parse_args()
    for study in (llama3, marin, misfitting, openeuro):
        name = f"{study.__name__}.csv"
        runs = read_runs(study(pd.read_csv(options.raw / name)), exclude="beaten")
        write_table(runs.table, options.output / name)
        print(f"{options.output / name}: {len(runs.table)} runs, {len(runs.excluded)} left out")


if __name__ == "__main__":
    main()
