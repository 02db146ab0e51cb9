"""Runs tables of six public studies that are not in the registry, for the scorecard.

    python benchmarks/foreign_tables.py RAW -o TABLES
    python benchmarks/scorecard.py TABLES/*.csv --folder FITS

prints what docs/validation.md says of them. RAW is a folder with these files, as downloaded:

- llama3.csv: Open-Athena/scaling-law-analysis, commit 01245898, data/isoflops/llama3/isoflops.csv
  (read off figure 2 of arXiv:2407.21783);
- marin.csv: the same, commit 49e8f407, data/isoflops/marin_202603/isoflops.csv (arXiv:2603.22339);
- misfitting.csv: hadasah/scaling_laws, commit 1f3708c0, data/scaling_results_last_ckpt_only.csv
  (arXiv:2502.18969);
- openeuro.csv: OpenEuroLLM/dense_english_scaling_laws, commit 781af436,
  data/loss_all_exps_post_annealing.csv;
- protein.csv: cxysteven/ScalingProteinLM, commit 204f625f,
  analysis/results/isoflop_rebuilt_points.csv (arXiv:2411.02142; read from the released curves, as
  not each of the paper's own points has a curve);
- optimizers-PhaseI.json, optimizers-PhaseII.json, optimizers-PhaseIII_16x.json and
  optimizers-PhaseIII_1B.json: marin-community/marin, commit 122c5018,
  experiments/optimizer_sweep/Analysis/PhaseI/wandb_cache.json and so on (arXiv:2509.02046).

Their licences are not stated, so that the tables are not part of this repository.
"""

import argparse
import hashlib
import json
from pathlib import Path

import pandas as pd

from allometry.observations import read_runs, write_table

OPTIMIZERS = "adamw nadamw muon soape mars kron scion cautious lion mini".split()

SIZES = {"130m": 134217728, "300m": 301989888, "520m": 536870912, "1.2b": 1207959552}
"""Params, without embeddings, of the sizes of the optimizers' study."""


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


def protein(raw: pd.DataFrame) -> pd.DataFrame:
    """Causal and masked models of protein sequences at seven budgets; N is without embeddings.

    Loss is the mean of the last five that were logged. Runs at other lengths, and those that ended
    early, are left out, as in the source.
    """
    kept = raw[raw["used"].astype(bool)]
    names = {"N_dir": "params", "C_final": "flops", "L_last5": "loss"}
    runs = kept[list(names)].rename(columns=names)
    return runs.assign(
        tokens=runs["flops"] / (6.0 * runs["params"]), architecture="transformer-" + kept["obj"]
    )


def optimizers(raw: pd.DataFrame) -> pd.DataFrame:
    """Best loss on C4 of the optimizers that trained all four sizes; a group each.

    Rows are found by the digest of optimizer, size, tokens and tokens over Chinchilla's 20 N. SOAP
    goes by two names.
    """
    loss = raw.set_index("key")["min_loss"]
    rows = []
    for optimizer in OPTIMIZERS:
        for size, params in SIZES.items():
            for multiple in (1, 2, 4, 8, 16):
                tokens = 20 * params * multiple
                what = f"{size}_{tokens // 10**9}B_{multiple}"
                names = (optimizer, optimizer.removesuffix("e"))
                keys = [hashlib.md5(f"{name}_{what}".encode()).hexdigest() for name in names]
                found = [loss[key] for key in keys if key in loss]
                if found:
                    rows.append((f"transformer-{optimizer}", params, tokens, found[0]))
    runs = pd.DataFrame(rows, columns=["architecture", "params", "tokens", "loss"])
    sizes = runs.groupby("architecture")["params"].transform("nunique")
    return runs[sizes == len(SIZES)]


def _isoflops(raw: pd.DataFrame) -> pd.DataFrame:
    return raw[["params", "tokens", "budget", "loss"]].rename(columns={"budget": "flops"})


def _raw(folder: Path, name: str) -> pd.DataFrame:
    """A file as downloaded; those of the optimizers' study are JSON objects of objects."""
    parts = sorted(folder.glob(f"{name}-*.json"))
    if not parts:
        return pd.read_csv(folder / f"{name}.csv")
    loaded = [json.loads(part.read_text()) for part in parts]
    rows = [(key, entry["min_loss"]) for part in loaded for key, entry in part.items()]
    return pd.DataFrame(rows, columns=["key", "min_loss"])


def main() -> None:
    """Read, keep the best run of each size and length, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("tables"))
    options = parser.parse_args()
    for study in (llama3, marin, misfitting, openeuro, protein, optimizers):
        name = f"{study.__name__}.csv"
        runs = read_runs(study(_raw(options.raw, study.__name__)), exclude="beaten")
        write_table(runs.table, options.output / name)
        print(f"{options.output / name}: {len(runs.table)} runs, {len(runs.excluded)} left out")


if __name__ == "__main__":
    main()
