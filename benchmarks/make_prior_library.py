"""Make the bundled prior library from public tables.

    python benchmarks/make_prior_library.py --work FOLDER [--out src/allometry/priors/library]

Fits each public study (posteriors are kept in FOLDER and not fitted again), writes each as a prior
for a new group, the reference study also per architecture and group by group, and the population
over studies as ``typical``.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from allometry.cli.runtime import prepare_jax
from allometry.inference import Posterior, Sampler, fit
from allometry.observations import Runs, read_runs
from allometry.observations.catalogue import TABLES
from allometry.priors import PriorFile, Units, as_prior
from allometry.priors.studies import typical_prior

STUDIES = ("xlstm", "chinchilla", "farseer", "overtraining", "repetition")
LEFT_OUT = {"repetition": ["epochs > 1.01"]}
"""Rows that are not of the law: of the study of repeated data, runs of one epoch are taken."""

POOLED = ("xlstm", "overtraining")
UNITS = {
    "xlstm": Units(tokenizer="GPT-NeoX"),
    "chinchilla": Units(),
    "farseer": Units(params="unknown", loss="unknown, likely nats per byte or per character"),
    "overtraining": Units(tokenizer="GPT-NeoX"),
    "repetition": Units(params="unknown", tokenizer="GPT-2"),
}


def study_runs(name: str) -> Runs:
    """Runs of a public table that its law is fitted to."""
    return read_runs(name, exclude=LEFT_OUT.get(name))


def posterior_of(name: str, work: Path) -> Posterior:
    """Posterior of a public table, from FOLDER or fitted now."""
    path = work / f"{name}.nc"
    if path.exists():
        return Posterior.load(path)
    began = time.process_time()
    runs = study_runs(name)
    sampler = Sampler(method="nuts" if name in POOLED else "laplace")
    posterior = fit(runs, by=runs.by or None, library=False, sampler=sampler)
    posterior.save(path)
    record = posterior.record
    verdict = "converged" if record.convergence.converged else "not converged"
    print(
        f"{name}: {record.method}, {verdict}, {time.process_time() - began:.0f} CPU s", flush=True
    )
    return posterior


def with_source(file: PriorFile, *tables: str) -> PriorFile:
    """The file with where its runs come from and on which terms."""
    entries = [TABLES[name] for name in tables]
    return replace(
        file,
        provenance=file.provenance
        | {
            "papers": [entry.paper for entry in entries],
            "citations": [entry.citation for entry in entries],
            "licences": {entry.name: entry.licence for entry in entries},
            "licence_note": (
                "This file holds a posterior computed from the runs, not the runs; their terms "
                "are those of their source."
            ),
            "command": "python benchmarks/make_prior_library.py",
        },
    )


def main() -> None:
    """Fit, export, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/allometry/priors/library"))
    parser.add_argument("--only", nargs="*", help="names of the files to make")
    options = parser.parse_args()
    prepare_jax()
    options.work.mkdir(parents=True, exist_ok=True)
    posteriors = {name: posterior_of(name, options.work) for name in STUDIES}

    def write(make: Callable[[], PriorFile], name: str, *tables: str) -> None:
        if options.only is not None and name not in options.only:
            return
        file = replace(make(), name=name)
        path = with_source(file, *tables).save(options.out / f"{file.name}.json")
        worth = "-" if file.worth_runs is None else f"{file.worth_runs:.3g}"
        print(f"{path}: worth {worth} runs beside 8, {file.goodness}", flush=True)

    write(lambda: typical_prior(list(posteriors.values())), "typical", *STUDIES)
    for name, posterior in posteriors.items():
        write(partial(as_prior, posterior, units=UNITS[name], force=True), name, name)
    study, units = posteriors["xlstm"], UNITS["xlstm"]
    for architecture in ("transformer", "xlstm"):
        of_one = partial(as_prior, study, architecture=architecture, units=units)
        write(of_one, f"xlstm-study-{architecture}", "xlstm")
    groups = partial(as_prior, study, kind="groups", units=units)
    write(groups, "xlstm-study-groups", "xlstm")


if __name__ == "__main__":
    main()
