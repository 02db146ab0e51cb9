"""The priors that come with the package, found by name."""

from importlib import resources
from pathlib import Path

import pandas as pd

from allometry.errors import InputError
from allometry.priors.file import PriorFile
from allometry.priors.reading import parse_prior, read_prior

FOLDER = "library"


def library_names() -> tuple[str, ...]:
    """Names of the bundled priors, in alphabetical order."""
    folder = resources.files("allometry.priors").joinpath(FOLDER)
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(e.name.removesuffix(".json") for e in folder.iterdir() if e.name.endswith(".json"))
    )


def library_prior(name: str) -> PriorFile:
    """A bundled prior.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    names = library_names()
    if name not in names:
        what = f"no bundled prior {name!r}; there are {', '.join(names) or 'none'}"
        hint = "See allometry prior list."
        if ":" in name:
            hint += " What may follow a colon is law, noise or drift, or several with commas."
        raise InputError(what, where="prior", hint=hint)
    entry = resources.files("allometry.priors").joinpath(FOLDER, f"{name}.json")
    return parse_prior(entry.read_text(encoding="utf-8"), source=name)


def find_prior(name: str | Path) -> PriorFile:
    """A bundled prior by its name, or a prior file by its path; a file that is there wins.

    Raises
    ------
    InputError
        If it is neither, or a rule of the file is broken.
    """
    path = Path(name)
    looks_like_path = path.suffix == ".json" or len(path.parts) > 1
    if not looks_like_path and str(name) in library_names():
        return library_prior(str(name))
    if looks_like_path:
        return read_prior(path)
    try:
        there = path.is_file()
    except (OSError, ValueError):
        there = False
    return read_prior(path) if there else library_prior(str(name))


def library_table() -> pd.DataFrame:
    """One row a bundled prior: name, kind, law, groups, runs, worth, licences, what it is."""
    rows = []
    for name in library_names():
        file = library_prior(name)
        licences = file.provenance.get("licences", {})
        rows.append(
            {
                "name": name,
                "kind": file.kind,
                "law": file.law,
                "groups": len(file.groups),
                "runs": file.provenance.get("runs"),
                "worth_runs": file.worth_runs,
                "licences": "; ".join(f"{table}: {text}" for table, text in licences.items()),
                "description": file.description,
            }
        )
    columns = "name kind law groups runs worth_runs licences description".split()
    return pd.DataFrame(rows, columns=columns)
