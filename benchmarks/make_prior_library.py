"""Make the bundled prior library from public tables.

    python benchmarks/make_prior_library.py --work FOLDER [--tables TABLES]

Fits each public study (posteriors are kept in FOLDER and not fitted again), writes the registered
ones each as a prior for a new group, the reference study also per architecture and group by group,
and the population over all studies as ``typical``. TABLES are those of ``foreign_tables.py``;
without them the population is one of the registered studies.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from public_studies import REGISTERED, UNITS, PublicStudies, source_of

from allometry.cli.runtime import prepare_jax
from allometry.priors import PriorFile, as_prior
from allometry.priors.studies import summarise_study, typical_prior


def with_source(file: PriorFile, *tables: str) -> PriorFile:
    """The file with where its runs come from and on which terms."""
    sources = {name: source_of(name) for name in tables}
    return replace(
        file,
        provenance=file.provenance
        | {
            "papers": [source.paper for source in sources.values()],
            "citations": [source.citation for source in sources.values()],
            "licences": {name: source.licence for name, source in sources.items()},
            "licence_note": (
                "This file holds a posterior computed from the runs, not the runs; their terms "
                "are those of their source."
            ),
            "command": "python benchmarks/make_prior_library.py --tables TABLES",
        },
    )


def main() -> None:
    """Fit, export, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="tables of the studies outside the registry")
    parser.add_argument("--out", type=Path, default=Path("src/allometry/priors/library"))
    parser.add_argument("--only", nargs="*", help="names of the files to make")
    options = parser.parse_args()
    prepare_jax()
    options.work.mkdir(parents=True, exist_ok=True)
    studies = PublicStudies(work=options.work, tables=options.tables)
    posteriors = {name: studies.posterior(name) for name in studies.names}

    def write(make: Callable[[], PriorFile], name: str, *tables: str) -> None:
        if options.only is not None and name not in options.only:
            return
        file = replace(make(), name=name)
        path = with_source(file, *tables).save(options.out / f"{file.name}.json")
        worth = "-" if file.worth_runs is None else f"{file.worth_runs:.3g}"
        print(f"{path}: worth {worth} runs beside 8, {file.goodness}", flush=True)

    summaries = [summarise_study(posterior, name=name) for name, posterior in posteriors.items()]
    population = partial(typical_prior, list(posteriors.values()), summaries=summaries)
    write(population, "typical", *studies.names)
    for name in REGISTERED:
        write(partial(as_prior, posteriors[name], units=UNITS[name], force=True), name, name)
    study, units = posteriors["xlstm"], UNITS["xlstm"]
    for architecture in ("transformer", "xlstm"):
        of_one = partial(as_prior, study, architecture=architecture, units=units)
        write(of_one, f"xlstm-study-{architecture}", "xlstm")
    groups = partial(as_prior, study, kind="groups", units=units)
    write(groups, "xlstm-study-groups", "xlstm")


if __name__ == "__main__":
    main()
