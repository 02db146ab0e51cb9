"""Rules of values in a JSON document: each broken one is told in one line, without its place."""

import math
from collections.abc import Callable
from typing import Any

MAX_TEXT = 20_000


class BrokenRuleError(Exception):
    """A broken rule: what is wrong, without the file it is in."""


def json_object(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is an object."""
    if not isinstance(value, dict):
        raise BrokenRuleError(f"{where} must be an object, found {kind_of(value)}")
    return value


def json_list(value: Any, where: str, *, most: int, least: int = 0) -> list[Any]:
    """The value, if it is a list of so many entries."""
    if not isinstance(value, list):
        raise BrokenRuleError(f"{where} must be a list, found {kind_of(value)}")
    if not least <= len(value) <= most:
        raise BrokenRuleError(f"{where} has {len(value)} entries, must have {least} to {most}")
    return value


def json_text(value: Any, where: str, *, empty: bool = True) -> str:
    """The value, if it is text that is not too long."""
    if not isinstance(value, str):
        raise BrokenRuleError(f"{where} must be text, found {kind_of(value)}")
    if len(value) > MAX_TEXT or not (empty or value.strip()):
        raise BrokenRuleError(f"{where} has {len(value)} characters, must have 1 to {MAX_TEXT}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BrokenRuleError(f"{where} is not text that UTF-8 can hold") from error
    return value


def plain_json(value: Any, where: str, *, depth: int) -> Any:
    """The same value, if it is plain text, numbers, lists and objects, not nested too deeply.

    Whole numbers stay whole: counts of runs are no measurements.
    """
    if depth < 0:
        raise BrokenRuleError(f"{where} is nested too deeply")
    if isinstance(value, dict):
        return {
            json_text(key, where): plain_json(part, where, depth=depth - 1)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [plain_json(part, where, depth=depth - 1) for part in value]
    if isinstance(value, str):
        return json_text(value, where)
    if value is None or isinstance(value, bool):
        return value
    number = json_number(value, where)
    return value if isinstance(value, int) else number


def one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    """The value, if it is one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise BrokenRuleError(f"{where} must be one of {', '.join(known)}, found {value!r:.60}")
    return value


def json_number(
    value: Any,
    where: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> float:
    """The value, if it is a finite number between the ends; `open_low`: above the lower one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BrokenRuleError(f"{where} must be a number, found {kind_of(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise BrokenRuleError(f"{where} is too large a number") from error
    inside = low < number <= high if open_low else low <= number <= high
    if not math.isfinite(number) or not inside:
        above = "above" if open_low else "at least"
        raise BrokenRuleError(
            f"{where} is {number:g}, must be {above} {low:g} and at most {high:g}"
        )
    return number


def optional(value: Any, read: Callable[[Any], float]) -> float | None:
    """None, or the value as `read` reads it."""
    return None if value is None else read(value)


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def exact_object(value: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    """The value, if it is an object with these fields and no other."""
    found = json_object(value, where)
    if set(found) != set(names):
        raise BrokenRuleError(f"{where} must have the fields {', '.join(names)} and no other")
    return found
