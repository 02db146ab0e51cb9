"""Cells of a table as numbers: units, separators of thousands, decimal commas."""

import math
import re
from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pandas as pd

from allometry.observations.units import FLOP_UNITS, UNITS

_FRACTIONS = ("loss", "loss_stderr", "learning_rate", "epochs")
"""Quantities that nobody writes in thousands: a single comma is their decimal mark."""


def parse_numbers(column: pd.Series, *, kind: str) -> tuple[pd.Series, dict[str, float]]:
    """Numbers of a column that may hold text such as "2.8B" or "1.234,5".

    Parameters
    ----------
    column : Series
        Any dtype.
    kind : str
        Canonical name: ``flops`` also knows P, E, Z, Y; in ``context_length`` k is 1024; a loss has
        no thousands.

    Returns
    -------
    numbers : Series of float64
        NaN where the cell is missing or cannot be read.
    read : dict of str to float
        Distinct texts that are more than digits and a decimal point, and what they were read as.
    """
    if pd.api.types.is_bool_dtype(column):
        return pd.Series(np.nan, index=column.index), {}
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64"), {}
    cells = column.astype("object")
    distinct = cells.dropna().unique()
    commas = _has_decimal_commas((x for x in distinct if isinstance(x, str)), kind)
    parsed = {
        cell: parse_number(_with_point(cell) if commas else cell, kind=kind) for cell in distinct
    }
    numbers = cells.map(parsed).astype("float64")
    read = {
        cell: value
        for cell, value in parsed.items()
        if isinstance(cell, str) and np.isfinite(value) and _plain_number(cell) != value
    }
    return numbers, read


def parse_number(text: object, *, kind: str = "params") -> float:
    """One number from a cell; NaN if it is none.

    Examples
    --------
    >>> [parse_number(x) for x in ("2.8B", "300M", "1e9", "1.4 T", "1,000,000", "about 7")]
    [2800000000.0, 300000000.0, 1000000000.0, 1400000000000.0, 1000000.0, nan]
    >>> parse_number("8k", kind="context_length")
    8192.0
    """
    if isinstance(text, bool):
        return float("nan")
    if isinstance(text, (int, float, np.number, Decimal)):
        try:
            return float(text)
        except OverflowError:  # an int of more than 308 digits
            return math.inf if text > 0 else -math.inf
    if not isinstance(text, str):
        return float("nan")
    plain = _plain_number(text)
    if plain is not None:
        return plain
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        return float("nan")
    number = float(re.sub(r"[^\d.eE+-]", "", match["number"]))
    unit = (match["unit"] or "").lower()
    known = UNITS | (FLOP_UNITS if kind == "flops" else {})
    if kind == "context_length":
        known = {"k": 1024.0, "m": 1024.0**2}
    return number * known[unit] if unit in known else (number if not unit else float("nan"))


# Between groups of three digits: a comma, an apostrophe or a blank (also one that does not break).
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,3}(?P<mark>[,'\u2019\s])\d{3}(?:(?P=mark)\d{3})*(?:\.\d+)?"
    r"|\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
    r"\s*(?P<unit>thousands?|millions?|billions?|trillions?|mn|bn|tn|mio|mrd|[kmbgtpezy])?"
    r"(?:(?<=mio|mrd)\.)?"
    r"\s*(?:params?|parameters?|tokens?|flops?)?",
    re.IGNORECASE,
)

_IN_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?\s*[a-z]*", re.IGNORECASE)
_TWO_MARKS = re.compile(r"\.\d{3}[.,]")  # 1.234.567 or 1.234,5
_POINT = re.compile(r"\.\d")
_ONE_COMMA = re.compile(r"[+-]?\d*,\d+(?:e[+-]?\d+)?\s*[a-z ]*", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}(?!\d)")


def _has_decimal_commas(texts: Iterable[str], kind: str) -> bool:
    # Half of Europe writes 1.234.567 and 3,14. One cell of a column may tell for all of them.
    texts = [text.strip() for text in texts]
    pointed = [text for text in texts if _POINT.search(text)]
    if pointed:
        grouped = all(_IN_THOUSANDS.fullmatch(text) for text in pointed)
        return grouped and any(_TWO_MARKS.search(text) for text in pointed)
    single = [text for text in texts if "," in text]
    if not all(_ONE_COMMA.fullmatch(text) for text in single):
        return False
    return any(kind in _FRACTIONS or not _THOUSANDS.match(text) for text in single)


def _with_point(cell: object) -> object:
    return cell.replace(".", "").replace(",", ".") if isinstance(cell, str) else cell


def _plain_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
