"""Records as JSON texts in the root attributes of a posterior file, and their errors."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from allometry.errors import InputError
from allometry.inference.convergence import Convergence

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFormat:
    """One kind of record.

    Attributes
    ----------
    attribute : str
        Root attribute that holds the schema version, and tells the kind.
    version : int
        The schema version that is written and read.
    kind, command : str
        What a file of it is called, and what writes one.
    """

    attribute: str
    version: int
    kind: str
    command: str


def record_texts(form: RecordFormat, document: Mapping[str, Any]) -> dict[str, str]:
    """One JSON text for each field, with the schema version."""
    texts = {name: json.dumps(value) for name, value in document.items()}
    return {form.attribute: json.dumps(form.version)} | texts


def read_record(
    form: RecordFormat,
    attributes: Mapping[str, Any],
    names: list[str],
    build: Callable[[dict[str, Any]], R],
    *,
    source: str,
) -> R:
    """Build a record from the texts of its fields.

    Raises
    ------
    InputError
        If the attributes are not those of such a file, of another schema version, or damaged.
    """
    if form.attribute not in attributes:
        raise InputError(
            f"not {form.kind}", where=source, hint=f"Give a file that {form.command} wrote."
        )
    try:
        found = json.loads(attributes[form.attribute])
        if found == form.version:
            return build({name: json.loads(attributes[name]) for name in names})
    except (KeyError, TypeError, ValueError) as error:  # also an InputError of what is built
        what = f"damaged record ({type(error).__name__}: {error})"
        raise InputError(what, where=source, hint="Fit again.") from error
    what = f"schema version {found}, this package reads {form.version}"
    raise InputError(what, where=source, hint="Fit again with this version.")


def convergence_from(document: Mapping[str, Any]) -> Convergence:
    """Diagnostics that `dataclasses.asdict` made plain."""
    lists = {name: tuple(document[name]) for name in ("reasons", "advice")}
    return Convergence(**dict(document) | lists)


def plain(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A document with these dataclasses made plain."""
    return document | {name: asdict(document[name]) for name in names}
