"""Reading a prior file: plain JSON, every rule checked, nothing in it executed."""

import json
import re
from pathlib import Path
from typing import Any, cast, get_args

from allometry.errors import InputError
from allometry.inference.fitted_range import Cells
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
from allometry.priors.json_values import (
    BrokenRuleError,
    exact_object,
    json_list,
    json_number,
    json_object,
    json_text,
    one_of,
    optional,
    plain_json,
)
from allometry.priors.mixture_reading import read_mixture

MAX_BYTES = 8_000_000
MAX_QUANTITIES = 400
MAX_GROUPS = 100
NAME = re.compile(r"[\w .,:/()+-]{1,100}")
PARAMS_UNITS = ("with embeddings", "without embeddings", "unknown")
FIELDS = (
    "allometry_prior, name, description, kind, law, parameterisation, reference, units, groups, "
    "quantities, distribution, discount, drift, worth_runs, goodness, provenance"
).split(", ")
LATER = ("fitted_over",)
"""Fields that files of older versions do not have."""

MAX_CELLS = 4000
HINT = "Export it again (allometry prior export), or take another file."


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
    except BrokenRuleError as error:
        raise InputError(str(error), where=source, hint=HINT) from error
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise InputError(f"not JSON{at}", where=source, hint=HINT) from error
    try:
        return _prior(document)
    except BrokenRuleError as error:
        raise InputError(str(error), where=source, hint=HINT) from error


def _refuse_constant(text: str) -> float:
    raise BrokenRuleError(f"{text} is not a number that JSON knows")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise BrokenRuleError(f"field {twice!r:.60} stands there twice")
    return found


def _prior(document: Any) -> PriorFile:
    fields = json_object(document, "the file")
    if "allometry_prior" not in fields:
        raise BrokenRuleError("not a prior file: no field allometry_prior")
    version = fields["allometry_prior"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        what = f"schema version {version!r:.40}, this package reads {SCHEMA_VERSION}"
        raise BrokenRuleError(what)
    if missing := [name for name in FIELDS if name not in fields]:
        raise BrokenRuleError(f"field {', '.join(missing)} is missing")
    if unknown := [name for name in fields if name not in (*FIELDS, *LATER)]:
        raise BrokenRuleError(f"unknown field {', '.join(map(repr, unknown[:5])):.100}")
    kind = cast(Kind, one_of(fields["kind"], get_args(Kind), "kind"))
    form = fields["parameterisation"]
    parameterisation = cast(
        Parameterisation, one_of(form, get_args(Parameterisation), "parameterisation")
    )
    law = json_text(fields["law"], "law")
    groups = _groups(fields["groups"], kind)
    quantities = _quantities(fields["quantities"], law, parameterisation, kind, len(groups))
    return PriorFile(
        name=_name(fields["name"]),
        description=json_text(fields["description"], "description"),
        kind=kind,
        law=law,
        parameterisation=parameterisation,
        reference=_reference(fields["reference"]),
        units=_units(fields["units"]),
        quantities=quantities,
        groups=groups,
        mixture=read_mixture(fields["distribution"], len(quantities)),
        discount=json_number(fields["discount"], "discount", low=0.0, high=1.0, open_low=True),
        drift=_drift(fields["drift"]),
        worth_runs=optional(
            fields["worth_runs"], lambda value: json_number(value, "worth_runs", low=0.0)
        ),
        fitted_over=_fitted_over(fields.get("fitted_over", [])),
        goodness={
            json_text(name, "goodness"): json_number(value, f"goodness.{name:.40}")
            for name, value in json_object(fields["goodness"], "goodness").items()
        },
        provenance=plain_json(
            json_object(fields["provenance"], "provenance"), "provenance", depth=5
        ),
    )


def _name(value: Any) -> str:
    name = json_text(value, "name")
    if not NAME.fullmatch(name):
        raise BrokenRuleError("name must be 1 to 100 letters, digits, blanks and . , : / ( ) + - _")
    return name


def _reference(value: Any) -> Scale:
    found = exact_object(value, ("params", "tokens", "loss"), "reference")
    numbers = {
        name: json_number(found[name], f"reference.{name}", low=1e-30, high=1e30) for name in found
    }
    return Scale(**numbers)


def _units(value: Any) -> Units:
    found = exact_object(value, ("params", "loss", "tokenizer", "bytes_per_token"), "units")
    return Units(
        params=one_of(found["params"], PARAMS_UNITS, "units.params"),
        loss=json_text(found["loss"], "units.loss", empty=False),
        tokenizer=json_text(found["tokenizer"], "units.tokenizer"),
        bytes_per_token=optional(
            found["bytes_per_token"],
            lambda value: json_number(value, "units.bytes_per_token", low=1e-3, high=1e4),
        ),
    )


def _drift(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    found = exact_object(value, ("scale", "shared"), "drift")
    return {
        "scale": json_number(found["scale"], "drift.scale", low=0.0, high=1.0),
        "shared": json_number(found["shared"], "drift.shared", low=0.0, high=1.0),
    }


def _fitted_over(value: Any) -> Cells:
    found = []
    for i, row in enumerate(json_list(value, "fitted_over", most=MAX_CELLS)):
        where = f"fitted_over[{i}]"
        c, r, count = json_list(row, where, most=3, least=3)
        found.append(
            (
                json_number(c, where, low=0.0, high=50.0),
                json_number(r, where, low=-15.0, high=15.0),
                json_number(count, where, low=0.0, high=1e6, open_low=True),
            )
        )
    return tuple(found)


def _groups(value: Any, kind: Kind) -> tuple[dict[str, Any], ...]:
    found = []
    least, most = (1, MAX_GROUPS) if kind == "groups" else (0, 1)  # the new group is one
    for i, group in enumerate(json_list(value, "groups", most=most, least=least)):
        labels = json_object(group, f"groups[{i}]")
        for name, label in labels.items():
            json_text(name, f"groups[{i}]")
            if not isinstance(label, (str, int, float)) or isinstance(label, bool):
                raise BrokenRuleError(f"groups[{i}].{name:.40} must be text or a number")
            json_text(label, f"groups[{i}]") if isinstance(label, str) else json_number(
                label, "a label"
            )
        found.append(labels)
    if len({tuple(sorted(map(str, labels.items()))) for labels in found}) < len(found):
        raise BrokenRuleError("two groups have the same labels")
    return tuple(found)


def _quantities(
    value: Any, law: str, parameterisation: Parameterisation, kind: Kind, n_groups: int
) -> tuple[Quantity, ...]:
    try:
        known = get_law(law)
    except InputError as error:
        raise BrokenRuleError(error.what[:200]) from error
    if parameterisation == "centre" and known.geometry is None:
        raise BrokenRuleError(f"law {law} has no centre; its parameterisation must be coefficients")
    found = []
    for i, entry in enumerate(json_list(value, "quantities", most=MAX_QUANTITIES, least=1)):
        fields = exact_object(entry, ("name", "group", "meaning"), f"quantities[{i}]")
        json_text(fields["meaning"], f"quantities[{i}].meaning")
        group = fields["group"]
        if group is not None and (isinstance(group, bool) or not isinstance(group, int)):
            raise BrokenRuleError(f"quantities[{i}].group must be null or the index of a group")
        found.append(Quantity(name=json_text(fields["name"], f"quantities[{i}].name"), group=group))
    wanted = _sets_of_quantities(law_quantities(known, parameterisation), kind, n_groups)
    if not any(found == one for one in wanted):
        names = ", ".join(dict.fromkeys(q.name for q in wanted[0]))
        raise BrokenRuleError(
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
