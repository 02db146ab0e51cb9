"""Arguments that are two words around an equals sign."""

from allometry.errors import InputError


def parse_pairs(pairs: list[str] | None, *, option: str) -> dict[str, str]:
    """Split ``COLUMN=NAME`` and ``COLUMN=VALUE`` arguments at their last equals sign.

    Examples
    --------
    >>> parse_pairs(["eval/loss=loss", "a=b=params"], option="--alias")
    {'eval/loss': 'loss', 'a=b': 'params'}
    """
    parsed = {}
    for pair in pairs or []:
        column, equals, name = pair.rpartition("=")
        if not (column and equals and name):
            form, such = (
                ("COLUMN=VALUE", "n_layers=32")
                if option == "--set"
                else ("COLUMN=NAME", "eval/loss=loss")
            )
            hint = f"Write {option} {form}, such as {option} {such}."
            raise InputError(f"{pair!r} is not {form}", where=option, hint=hint)
        parsed[column] = name
    return parsed
