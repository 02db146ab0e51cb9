"""Do small studies that begin with the typical law converge, with the default settings?

    python benchmarks/small_fits.py --work FOLDER --tables TABLES

Fits 8, 12 and 16 runs of each group of ``prior_worth.py``, in both of its designs, by NUTS with the
typical law of the other studies, and prints what each fit says of its convergence.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from prior_worth import Library
from public_studies import PublicStudies
from small_studies import DESIGNS, GROUPS, MOST_DESIGN, design, groups_of

from allometry.cli.runtime import prepare_jax
from allometry.inference import fit

SIZES = (8, 12, 16)


def main() -> None:
    """Fit each, print a row each and how many converged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="tables of the studies outside the registry")
    options = parser.parse_args()
    prepare_jax()
    studies = PublicStudies(work=options.work, tables=options.tables)
    library = Library(studies=studies)
    rows = []
    for group in (g for n in studies.names if n in GROUPS for g in groups_of(studies, n)):
        prior = library.typical(group.study)
        for kind in DESIGNS:
            rng = np.random.default_rng([17, 0])
            chosen = design(group.small, MOST_DESIGN, rng, kind=kind)
            for n in SIZES:
                began = time.process_time()
                posterior = fit(chosen[:n], by=(), prior=[prior], library=False)
                found = posterior.record.convergence
                row = {
                    "group": group.name,
                    "design": kind,
                    "runs": n,
                    "converged": found.converged,
                    "R-hat": round(found.max_rhat, 4),
                    "ESS bulk": round(found.min_ess_bulk),
                    "ESS tail": round(found.min_ess_tail),
                    "divergences": found.divergences,
                    "draws": posterior.n_draws,
                    "CPU s": round(time.process_time() - began, 1),
                }
                rows.append(row)
                print(" | ".join(map(str, row.values())), flush=True)
    table = pd.DataFrame(rows)
    print(f"{table['converged'].sum()} of {len(table)} converged")
    print(table[["R-hat", "ESS bulk", "ESS tail", "draws", "CPU s"]].describe().to_string())


if __name__ == "__main__":
    main()
