"""Row conditions typed by a user, evaluated without ever running code.

The grammar is a small part of Python's: column names (in backticks where they are not plain
names), numbers, texts, lists, ``None``; ``+ - * / **``; ``< <= > >= == != in, not in, is None``;
``and or not`` (or ``& | ~``). There are no calls, attributes, subscripts or lambdas: whatever is
not listed here is refused.
"""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from allometry.errors import InputError

_MAX_LENGTH = 2_000  # characters: far beyond any condition, far below what strains the parser

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def select_rows(table: pd.DataFrame, expression: str) -> pd.Series:
    """Rows of a table for which a condition holds.

    Parameters
    ----------
    table : DataFrame
        Columns the condition may name.
    expression : str
        For instance ``loss > 7 or params < 1e6``, ``architecture in ["gpt", "mamba"]``,
        ``loss is None`` (missing), ```eval/loss` != 0``.

    Returns
    -------
    Series of bool
        Indexed as `table`. A missing cell fulfils no comparison but ``!=`` and ``not in``.

    Raises
    ------
    InputError
        If the condition cannot be parsed, names no column, does more than compare, or gives
        something other than one truth value a row.

    Examples
    --------
    >>> table = pd.DataFrame({"loss": [2.0, 9.0], "architecture": ["gpt", "xlstm"]})
    >>> select_rows(table, 'loss > 7 and architecture == "xlstm"').tolist()
    [False, True]
    """
    tree, quoted = _parse(expression)
    reader = _Reader(table, expression, quoted)
    try:
        value = reader.read(tree.body)
    except RecursionError as error:
        raise _refusal(expression, "it is nested too deeply", node=None) from error
    if isinstance(value, (bool, np.bool_)):
        raise _refusal(expression, "it is the same for every row", node=None)
    if not isinstance(value, pd.Series) or not pd.api.types.is_bool_dtype(value):
        raise _refusal(expression, "it is not true or false of a row", node=None)
    return value.fillna(False).astype(bool)


def _parse(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    if len(expression) > _MAX_LENGTH:
        what = f"a condition of {len(expression)} characters; at most {_MAX_LENGTH} are read"
        raise InputError(what, where="exclude", hint="Mark the rows in a column and compare that.")
    quoted: dict[str, str] = {}

    def _stand_in(match: re.Match[str]) -> str:
        return quoted.setdefault(match[1], f"column_{len(quoted)}_quoted")

    text = re.sub(r"`([^`]+)`", _stand_in, expression.strip())
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", "") or "it is nested too deeply or holds odd characters"
        raise _refusal(expression, reason, node=None) from error
    return tree, {stand_in: column for column, stand_in in quoted.items()}


def _refusal(expression: str, reason: str, *, node: ast.AST | None) -> InputError:
    part = f" (at {ast.unparse(node)!r:.60})" if node is not None else ""
    hint = (
        "Write comparisons of columns, such as loss > 7 or params < 1e6; names that hold / or"
        " blanks go in backticks, texts in quotes."
    )
    return InputError(f"condition {expression!r:.120}: {reason}{part}", where="exclude", hint=hint)


class _Reader:
    """One walk over a parsed condition; every kind of node not named here is refused."""

    def __init__(self, table: pd.DataFrame, expression: str, quoted: dict[str, str]) -> None:
        self._table, self._expression, self._quoted = table, expression, quoted

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self._column(self._quoted.get(name, name))
            case ast.Constant(value=value) if value is None or isinstance(
                value, (bool, int, float, str)
            ):
                return float(value) if type(value) is int else value  # no 2**10**9 to compute
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                return [self._constant(part) for part in parts]
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return self._apply(operator.neg, node, self.read(part))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=part):
                return ~self._truth(part)
            case ast.BoolOp(op=op, values=parts):
                return self._join([self._truth(part) for part in parts], isinstance(op, ast.And))
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as op, left=left, right=right):
                both = [self._truth(left), self._truth(right)]
                return self._join(both, isinstance(op, ast.BitAnd))
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                pair = (self._number(left), self._number(right))
                return self._apply(_ARITHMETIC[type(op)], node, *pair)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                lefts = [left, *rights[:-1]]
                links = zip(lefts, ops, rights, strict=True)
                return self._join([self._compare(*link) for link in links], True)
        kind = type(node).__name__.lower()
        raise _refusal(self._expression, f"{kind} is not allowed in a condition", node=node)

    def _column(self, name: str) -> pd.Series:
        if name not in self._table:
            found = ", ".join(map(str, self._table.columns))
            raise _refusal(self._expression, f"no column {name!r}; found {found}", node=None)
        return self._table[name]

    def _constant(self, node: ast.expr) -> Any:
        value = self.read(node)
        if isinstance(value, (pd.Series, list)):
            raise _refusal(self._expression, "a list may hold numbers and texts only", node=node)
        return value

    def _number(self, node: ast.expr) -> Any:
        value = self.read(node)
        numeric = (
            pd.api.types.is_numeric_dtype(value)
            if isinstance(value, pd.Series)
            else isinstance(value, float)
        )
        if not numeric:
            raise _refusal(self._expression, "arithmetic needs numbers", node=node)
        return value.astype(float) if isinstance(value, pd.Series) else value

    def _truth(self, node: ast.expr) -> pd.Series:
        value = self.read(node)
        if not isinstance(value, pd.Series) or not pd.api.types.is_bool_dtype(value):
            reason = "and, or, not join comparisons, each in its own parentheses with & | ~"
            raise _refusal(self._expression, reason, node=node)
        return value

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pd.Series:
        a, b = self.read(left), self.read(right)
        if not isinstance(a, pd.Series) and isinstance(b, pd.Series):
            mirrored = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
            if type(op) in (*mirrored, ast.Eq, ast.NotEq):
                a, b, op = b, a, mirrored.get(type(op), type(op))()
        if not isinstance(a, pd.Series):
            raise _refusal(self._expression, "a comparison needs a column on one side", node=left)
        if isinstance(op, (ast.In, ast.NotIn)) and isinstance(b, list):
            inside = a.isin(b)
            return inside if isinstance(op, ast.In) else ~inside
        if b is None and isinstance(op, (ast.Is, ast.Eq)):
            return a.isna()
        if b is None and isinstance(op, (ast.IsNot, ast.NotEq)):
            return a.notna()
        if type(op) not in _COMPARISONS or isinstance(b, list) or b is None:
            kind = type(op).__name__.lower()
            raise _refusal(self._expression, f"{kind} does not compare these", node=right)
        compared: pd.Series = self._apply(_COMPARISONS[type(op)], right, a, b)
        return compared

    def _join(self, parts: list[pd.Series], all_of: bool) -> pd.Series:
        joined = parts[0]
        for part in parts[1:]:
            joined = (joined & part) if all_of else (joined | part)
        return joined

    def _apply(self, function: Callable[..., Any], node: ast.AST, *values: Any) -> Any:
        try:
            with np.errstate(all="ignore"):
                return function(*values)
        except (TypeError, ValueError, ArithmeticError) as error:
            reason = f"it does not fit the columns ({error})"
            raise _refusal(self._expression, reason, node=node) from error
