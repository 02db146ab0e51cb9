"""Text of others, safe to print: what a table or a file holds must not drive the terminal."""


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with what does not print as its escape, but for the characters to keep.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
