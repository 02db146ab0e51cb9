"""What commands print: data to stdout, everything else to stderr."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allometry.cli.text import printable

stderr = Console(stderr=True, soft_wrap=True)  # a line a message, also for grep
_WIDEST = 100_000  # characters; a line ends where its table ends
_PADDING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)
_SENTENCE = 40  # characters; a list of longer texts has a row for each


def emit(answer: pd.DataFrame | Mapping[str, Any] | Sequence[Any], *, as_json: bool) -> None:
    """Print an answer: one JSON document, or a table a person reads.

    Parameters
    ----------
    answer : DataFrame, mapping or sequence
        A frame becomes a list of records in JSON and an aligned table otherwise.
    as_json : bool
        Print JSON and nothing else on stdout; NaN and infinity become null.
    """
    if as_json:
        document = answer.to_dict("records") if isinstance(answer, pd.DataFrame) else answer
        sys.stdout.write(json.dumps(_plain(document), indent=2, allow_nan=False) + "\n")
        return
    frame = answer if isinstance(answer, pd.DataFrame) else _as_frame(answer)
    # Wide enough that no cell is cut: rich takes 80 columns where stdout is a pipe or a file.
    console = Console(soft_wrap=True, width=_WIDEST)
    with console.capture() as captured:
        console.print(_table(frame))
    # One long cell pads all others, which would fill a terminal with empty lines.
    sys.stdout.write(_PADDING.sub(r"\1", captured.get()))


def _as_frame(answer: Mapping[str, Any] | Sequence[Any]) -> pd.DataFrame:
    if isinstance(answer, Mapping):
        rows = [row for key, value in answer.items() for row in _rows(str(key), value)]
        return pd.DataFrame(rows, columns=["field", "value"])
    return pd.DataFrame(list(answer))


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, (list, tuple)) and any(len(str(part)) > _SENTENCE for part in value):
        return [("" if i else key, _cell(part)) for i, part in enumerate(value)]
    return [(key, _cell(value))]


def _table(frame: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if numeric else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        # As text, since rich takes brackets of a label for markup.
        table.add_row(*(Text(printable(_cell(value))) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value + 0.0:.4g}"  # a negative zero is a zero
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items()) or "none"
    return str(value)


def _plain(value: Any) -> Any:
    # NaN, infinity and NA become None: JSON has none of them.
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # numpy scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return value if isinstance(value, (str, bool, int, float)) else str(value)
