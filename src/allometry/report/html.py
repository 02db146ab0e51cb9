"""HTML in which text is always escaped: what comes from a file cannot become markup."""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""Elements without an end tag."""

UNSAFE_IN_SCRIPT = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
"""Characters that could end a script element, or a line of one, as JSON escapes."""


class Html(str):
    """Markup that this module has made; any other string is text."""

    __slots__ = ()


def text(value: str) -> Html:
    """A string as markup: escaped, unless it is markup already."""
    return value if isinstance(value, Html) else Html(escape(value, quote=True))


def join(parts: Iterable[str], *, by: str = "") -> Html:
    """Parts one after another, each escaped unless it is markup."""
    return Html(text(by).join(text(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """An element; children and attribute values are escaped unless they are markup.

    Attributes are written without a trailing underscore and with hyphens (``class_``,
    ``aria_label``); True has no value, None and False are left out.

    Examples
    --------
    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def section(name: str, title: str, *children: str) -> Html:
    """A part of the page with its heading; `name` is where links lead."""
    head = tag("h2", title, id=f"{name}-title")
    return tag("section", head, *children, id=name, aria_labelledby=f"{name}-title")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", labels: int = 1
) -> Html:
    """A table that scrolls sideways on a narrow screen; its first `labels` cells are row heads."""
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    body = [
        tag(
            "tr",
            *(
                tag("th", cell, scope="row") if i < labels else tag("td", cell)
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    title = tag("caption", caption) if caption else Html("")
    whole = tag("table", title, tag("thead", top), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def items(entries: Iterable[str]) -> Html:
    """A list; empty markup where there is nothing to list."""
    made = [tag("li", entry) for entry in entries]
    return tag("ul", *made) if made else Html("")


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names with what they stand for."""
    return tag("dl", *(part for k, v in pairs for part in (tag("dt", k), tag("dd", v))))


def json_block(document: Any, *, name: str) -> Html:
    """Data for the page's script, in an element that is not run.

    Nothing in it can end the element: ``<``, ``>`` and ``&`` are JSON escapes. NaN and infinity are
    null.
    """
    written = json.dumps(
        plain(document), allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )
    for character, safe in UNSAFE_IN_SCRIPT.items():
        written = written.replace(character, safe)
    return Html(f'<script type="application/json" id="{escape(name)}">{written}</script>')


def plain(value: Any) -> Any:
    """As JSON types; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def script(source: str) -> Html:
    """An inline script of this package."""
    if "</" in source or "<!--" in source:
        raise ValueError("a script must not hold what could end its element")
    return Html(f"<script>{source}</script>")


def style(source: str) -> Html:
    """An inline style sheet of this package."""
    return Html(f"<style>{source}</style>")


def policy(*scripts: str) -> Html:
    """A content security policy: no network at all, and no script but the given ones."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    )
    rules = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"
    return tag(
        "meta", **{"http-equiv": "Content-Security-Policy"}, content=f"{rules}; base-uri 'none'"
    )
