"""Growth exponents of the study three ways: loss law, joint valleys, parabola. Prints a table.

    python benchmarks/isoflop_methods.py [--json]

Needs the public table ``xlstm`` (``allometry data list``). Budgets up to 1e20 FLOPs, IsoFLOP runs
only, as the published exponents at context 8192 are; the loss law sees the token/param runs too.
"""

import argparse
import json

import pandas as pd

from allometry.cli.runtime import prepare_jax
from allometry.criticism.parabola import parabola_growth_law
from allometry.inference import fit
from allometry.inference.valleys import fit_valleys
from allometry.observations import read_runs

PUBLISHED = {  # three budgets each; 2k, 8k, 16k: arXiv:2510.02228, growth laws of N
    ("transformer", 2048): 0.5535,
    ("transformer", 8192): 0.5773,
    ("transformer", 16384): 0.5693,
    ("xlstm", 2048): 0.5555,
    ("xlstm", 8192): 0.5406,
    ("xlstm", 16384): 0.5660,
}
LABELS = ["architecture", "context_length"]


def compare_methods() -> pd.DataFrame:
    """One row a group: exponent of N* by each method, 90 % intervals where there are some."""
    prepare_jax()
    isoflop = read_runs("xlstm", exclude=["experiment != 'isoflop'", "flops > 2e20"])
    law = fit("xlstm").growth_law(flops_low=5e18, flops_high=5e19)
    valleys = fit_valleys(isoflop).growth_law()
    parabola = parabola_growth_law(isoflop.table)
    table = law[LABELS].copy()
    table["published"] = [PUBLISHED[a, int(t)] for a, t in law[LABELS].itertuples(index=False)]
    table["parabola"] = parabola["params_exponent"].to_numpy()
    for name, answer in (("valleys", valleys), ("law", law)):
        for end in ("median", "q5", "q95"):
            table[f"{name}_{end}"] = answer[f"params_exponent_{end}"].to_numpy()
    return table


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    table = compare_methods()
    if parser.parse_args().json:
        print(json.dumps(table.to_dict("records"), indent=2, default=float))
    else:
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
