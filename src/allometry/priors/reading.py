"""Reading a prior file: plain JSON, every rule checked, nothing in it executed."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from allometry.errors import InputError
from allometry.laws import Scale, get_law
from allometry.priors.file import (
    NOISE_QUANTITIES,
    SCHEMA_VERSION,
    Kind,
    Parameterisation,
    PriorFile,
    Quantity,
    Units,
    law_quantities,
)
from allometry.priors.mixture import Mixture

MAX_BYTES = 8_000_000
MAX_QUANTITIES = 400
MAX_COMPONENTS = 16
MAX_GROUPS = 100
MAX_TEXT = 20_000
LARGEST = 1e6
"""Largest mean or standard deviation of a quantity on its log or logit scale."""

NAME = re.compile(r"[\w .,:/()+-]{1,100}")
WEIGHTS_TOLERANCE = 1e-9
CONDITION = 1e14
"""Largest condition number of a scale matrix, in units of its own diagonal."""

PARAMS_UNITS = ("with embeddings", "without embeddings", "unknown")
FIELDS = (
    "allometry_prior, name, description, kind, law, parameterisation, reference, units, groups, "
    "quantities, distribution, discount, drift, worth_runs, goodness, provenance"
).split(", ")
HINT = "Export it again (allometry prior export), or take another file."


class _BrokenRuleError(Exception):
    """A broken rule: what is wrong, without the place."""


def read_prior(path: str | Path) -> PriorFile:
    """Read and check a prior file.

    Raises
    ------
    InputError
        If there is no such file, or any rule is broken: one line.
    """
    target = Path(path)
    try:
        if not target.is_file():
            hint = "Give a prior file, or a name that allometry prior list shows."
            raise InputError("no such file", where=str(path), hint=hint)
        if target.stat().st_size > MAX_BYTES:
            what = f"{target.stat().st_size} bytes, at most {MAX_BYTES} are read"
            raise InputError(what, where=str(path), hint=HINT)
        text = target.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=str(path), hint=HINT) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not a path: {error}", where=repr(str(path))) from error
    return parse_prior(text, source=str(path))


def parse_prior(text: str, *, source: str = "prior") -> PriorFile:
    """Prior from the text of a file; see `read_prior`."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except _BrokenRuleError as error:
        raise InputError(str(error), where=source, hint=HINT) from error
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise InputError(f"not JSON{at}", where=source, hint=HINT) from error
    try:
        return _prior(document)
    except _BrokenRuleError as error:
        raise InputError(str(error), where=source, hint=HINT) from error


def _refuse_constant(text: str) -> float:
    raise _BrokenRuleError(f"{text} is not a number that JSON knows")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise _BrokenRuleError(f"field {twice!r:.60} stands there twice")
    return found


def _prior(document: Any) -> PriorFile:
    fields = _object(document, "the file")
    if "allometry_prior" not in fields:
        raise _BrokenRuleError("not a prior file: no field allometry_prior")
    version = fields["allometry_prior"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        what = f"schema version {version!r:.40}, this package reads {SCHEMA_VERSION}"
        raise _BrokenRuleError(what)
    if missing := [name for name in FIELDS if name not in fields]:
        raise _BrokenRuleError(f"field {', '.join(missing)} is missing")
    if unknown := [name for name in fields if name not in FIELDS]:
        raise _BrokenRuleError(f"unknown field {', '.join(map(repr, unknown[:5])):.100}")
    kind = cast(Kind, _one_of(fields["kind"], get_args(Kind), "kind"))
    form = fields["parameterisation"]
    parameterisation = cast(
        Parameterisation, _one_of(form, get_args(Parameterisation), "parameterisation")
    )
    law = _text(fields["law"], "law")
    groups = _groups(fields["groups"], kind)
    quantities = _quantities(fields["quantities"], law, parameterisation, kind, len(groups))
    return PriorFile(
        name=_name(fields["name"]),
        description=_text(fields["description"], "description"),
        kind=kind,
        law=law,
        parameterisation=parameterisation,
        reference=_reference(fields["reference"]),
        units=_units(fields["units"]),
        quantities=quantities,
        groups=groups,
        mixture=_mixture(fields["distribution"], len(quantities)),
        discount=_number(fields["discount"], "discount", low=0.0, high=1.0, open_low=True),
        drift=_drift(fields["drift"]),
        worth_runs=_optional(
            fields["worth_runs"], lambda value: _number(value, "worth_runs", low=0.0)
        ),
        goodness={
            _text(name, "goodness"): _number(value, f"goodness.{name:.40}")
            for name, value in _object(fields["goodness"], "goodness").items()
        },
        provenance=_plain(_object(fields["provenance"], "provenance"), "provenance", depth=5),
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BrokenRuleError(f"{where} must be an object, found {_kind_of(value)}")
    return value


def _list(value: Any, where: str, *, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list):
        raise _BrokenRuleError(f"{where} must be a list, found {_kind_of(value)}")
    if not least <= len(value) <= most:
        raise _BrokenRuleError(f"{where} has {len(value)} entries, must have {least} to {most}")
    return value


def _text(value: Any, where: str, *, empty: bool = True) -> str:
    if not isinstance(value, str):
        raise _BrokenRuleError(f"{where} must be text, found {_kind_of(value)}")
    if len(value) > MAX_TEXT or not (empty or value.strip()):
        raise _BrokenRuleError(f"{where} has {len(value)} characters, must have 1 to {MAX_TEXT}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _BrokenRuleError(f"{where} is not text that UTF-8 can hold") from error
    return value


def _name(value: Any) -> str:
    name = _text(value, "name")
    if not NAME.fullmatch(name):
        raise _BrokenRuleError(
            "name must be 1 to 100 letters, digits, blanks and . , : / ( ) + - _"
        )
    return name


def _plain(value: Any, where: str, *, depth: int) -> Any:
    """The same value, if it is plain text, numbers, lists and objects, not nested too deeply."""
    if depth < 0:
        raise _BrokenRuleError(f"{where} is nested too deeply")
    if isinstance(value, dict):
        return {
            _text(key, where): _plain(part, where, depth=depth - 1) for key, part in value.items()
        }
    if isinstance(value, list):
        return [_plain(part, where, depth=depth - 1) for part in value]
    if isinstance(value, str):
        return _text(value, where)
    return value if value is None or isinstance(value, bool) else _number(value, where)


def _one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise _BrokenRuleError(f"{where} must be one of {', '.join(known)}, found {value!r:.60}")
    return value


def _number(
    value: Any,
    where: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _BrokenRuleError(f"{where} must be a number, found {_kind_of(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise _BrokenRuleError(f"{where} is too large a number") from error
    inside = low < number <= high if open_low else low <= number <= high
    if not math.isfinite(number) or not inside:
        above = "above" if open_low else "at least"
        raise _BrokenRuleError(
            f"{where} is {number:g}, must be {above} {low:g} and at most {high:g}"
        )
    return number


def _optional(value: Any, read: Callable[[Any], float]) -> float | None:
    return None if value is None else read(value)


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def _exactly(value: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    found = _object(value, where)
    if set(found) != set(names):
        raise _BrokenRuleError(f"{where} must have the fields {', '.join(names)} and no other")
    return found


def _reference(value: Any) -> Scale:
    found = _exactly(value, ("params", "tokens", "loss"), "reference")
    numbers = {
        name: _number(found[name], f"reference.{name}", low=1e-30, high=1e30) for name in found
    }
    return Scale(**numbers)


def _units(value: Any) -> Units:
    found = _exactly(value, ("params", "loss", "tokenizer", "bytes_per_token"), "units")
    return Units(
        params=_one_of(found["params"], PARAMS_UNITS, "units.params"),
        loss=_text(found["loss"], "units.loss", empty=False),
        tokenizer=_text(found["tokenizer"], "units.tokenizer"),
        bytes_per_token=_optional(
            found["bytes_per_token"],
            lambda value: _number(value, "units.bytes_per_token", low=1e-3, high=1e4),
        ),
    )


def _drift(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    found = _exactly(value, ("scale", "shared"), "drift")
    return {
        "scale": _number(found["scale"], "drift.scale", low=0.0, high=1.0),
        "shared": _number(found["shared"], "drift.shared", low=0.0, high=1.0),
    }


def _groups(value: Any, kind: Kind) -> tuple[dict[str, Any], ...]:
    found = []
    least = 1 if kind == "groups" else 0
    for i, group in enumerate(_list(value, "groups", most=MAX_GROUPS, least=least)):
        labels = _object(group, f"groups[{i}]")
        for name, label in labels.items():
            _text(name, f"groups[{i}]")
            if not isinstance(label, (str, int, float)) or isinstance(label, bool):
                raise _BrokenRuleError(f"groups[{i}].{name:.40} must be text or a number")
            _text(label, f"groups[{i}]") if isinstance(label, str) else _number(label, "a label")
        found.append(labels)
    if len({tuple(sorted(map(str, labels.items()))) for labels in found}) < len(found):
        raise _BrokenRuleError("two groups have the same labels")
    return tuple(found)


def _quantities(
    value: Any, law: str, parameterisation: Parameterisation, kind: Kind, n_groups: int
) -> tuple[Quantity, ...]:
    try:
        known = get_law(law)
    except InputError as error:
        raise _BrokenRuleError(error.what[:200]) from error
    if parameterisation == "centre" and known.geometry is None:
        raise _BrokenRuleError(
            f"law {law} has no centre; its parameterisation must be coefficients"
        )
    found = []
    for i, entry in enumerate(_list(value, "quantities", most=MAX_QUANTITIES, least=1)):
        fields = _exactly(entry, ("name", "group", "meaning"), f"quantities[{i}]")
        _text(fields["meaning"], f"quantities[{i}].meaning")
        group = fields["group"]
        if group is not None and (isinstance(group, bool) or not isinstance(group, int)):
            raise _BrokenRuleError(f"quantities[{i}].group must be null or the index of a group")
        found.append(Quantity(name=_text(fields["name"], f"quantities[{i}].name"), group=group))
    wanted = _sets_of_quantities(law_quantities(known, parameterisation), kind, n_groups)
    if not any(found == one for one in wanted):
        names = ", ".join(dict.fromkeys(q.name for q in wanted[0]))
        raise _BrokenRuleError(
            f"quantities must be, group by group, {names}; or a part in that order"
        )
    return tuple(found)


def _sets_of_quantities(names: tuple[str, ...], kind: Kind, n_groups: int) -> list[list[Quantity]]:
    """What a file may be about: law with or without its level, noise, or both."""
    noise, off_valley = NOISE_QUANTITIES
    if kind == "groups":
        law = [Quantity(name=name, group=g) for g in range(n_groups) for name in names]
        scatter = [Quantity(name=noise, group=g) for g in range(n_groups)]
        return [[*law, *scatter, Quantity(name=off_valley)], law]
    law = [Quantity(name=name) for name in names]
    scatter = [Quantity(name=noise), Quantity(name=off_valley)]
    shape = law[1:] if names[0] == "log_loss" else law
    return [[*law, *scatter], law, [*shape, *scatter], shape, scatter]


def _mixture(value: Any, size: int) -> Mixture:
    found = _exactly(value, ("family", "df", "components"), "distribution")
    family = _one_of(found["family"], ("normal", "student-t"), "distribution.family")
    df: float | None = None
    if family == "student-t":
        df = _number(found["df"], "distribution.df", low=2.0, high=1e6, open_low=True)
    elif found["df"] is not None:
        raise _BrokenRuleError("distribution.df must be null for a normal")
    where = "distribution.components"
    weights, means, scales = [], [], []
    for i, entry in enumerate(_list(found["components"], where, most=MAX_COMPONENTS, least=1)):
        part = _exactly(entry, ("weight", "mean", "scale"), f"{where}[{i}]")
        weight = _number(part["weight"], f"{where}[{i}].weight", low=0.0, high=1.0 + 1e-9,
                         open_low=True)  # fmt: skip
        weights.append(weight)
        means.append(_row(part["mean"], f"{where}[{i}].mean", size))
        rows = _list(part["scale"], f"{where}[{i}].scale", most=size, least=size)
        matrix = np.stack([_row(r, f"{where}[{i}].scale[{j}]", size) for j, r in enumerate(rows)])
        scales.append(_positive_definite(matrix, f"{where}[{i}].scale"))
    if abs(sum(weights) - 1.0) > WEIGHTS_TOLERANCE:
        raise _BrokenRuleError(
            f"weights of the components sum to {sum(weights):.12g}, must sum to 1"
        )
    return Mixture(
        weights=np.asarray(weights), means=np.stack(means), scales=np.stack(scales), df=df
    )


def _row(value: Any, where: str, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    row = _list(value, where, most=size, least=size)
    return np.asarray(
        [_number(x, f"{where}[{j}]", low=-LARGEST, high=LARGEST) for j, x in enumerate(row)]
    )


def _positive_definite(
    matrix: np.ndarray[Any, np.dtype[np.float64]], where: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    diagonal = np.diag(matrix)
    if not (diagonal >= 1e-14).all():
        raise _BrokenRuleError(f"{where} has a variance below 1e-14 on its diagonal")
    unit = np.sqrt(np.outer(diagonal, diagonal))
    if not np.allclose(matrix / unit, matrix.T / unit, rtol=0, atol=1e-9):
        raise _BrokenRuleError(f"{where} is not symmetric")
    symmetric = (matrix + matrix.T) / 2
    smallest, largest = np.linalg.eigvalsh(symmetric / unit)[[0, -1]]
    if not smallest > largest / CONDITION:
        raise _BrokenRuleError(f"{where} is not positive definite")
    try:
        np.linalg.cholesky(symmetric)
    except np.linalg.LinAlgError as error:
        raise _BrokenRuleError(f"{where} is not positive definite") from error
    return np.asarray(symmetric)
