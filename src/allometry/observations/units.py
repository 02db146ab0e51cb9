"""Units in the names of columns and in cells, as multipliers; powers of ten as people write."""

import re

UNITS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6,
    "millions": 1e6, "b": 1e9, "g": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12,
    "tn": 1e12, "trillion": 1e12, "trillions": 1e12, "mio": 1e6, "mrd": 1e9,
}  # fmt: skip
"""Multipliers in column names ("params (B)") and cells ("2.8B")."""

FLOP_UNITS = {"p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}
"""Prefixes that only FLOPs have, beside `UNITS`."""

COUNTS = ("params", "tokens", "params_non_embedding", "unique_tokens")
"""Quantities that are counted, so that `UNITS` may follow their names."""

_PREFIXES = {prefix: UNITS[prefix] for prefix in "kmgt"} | FLOP_UNITS
_DAYS = 86_400 * 1e15  # FLOPs of a PFLOP/s for one day
_NATS_PER_BIT = 0.6931471805599453  # the natural logarithm of 2

_NAMED: dict[str, dict[str, float]] = {
    **dict.fromkeys(
        COUNTS, UNITS | dict.fromkeys(("params", "parameters", "tokens", "total"), 1.0)
    ),
    "flops": {"flop": 1.0, "flops": 1.0}
    | {f"{prefix}flop{end}": by for prefix, by in _PREFIXES.items() for end in ("", "s")}
    | dict.fromkeys(("pfdays", "pfsdays", "pflopdays", "pflopsdays"), _DAYS),
    "loss": dict.fromkeys(("nat", "nats", "natstoken", "natspertoken"), 1.0)
    | dict.fromkeys(("bit", "bits", "bitstoken", "bitspertoken"), _NATS_PER_BIT),
    "context_length": {"tokens": 1.0, "k": 1024.0},
}
_POWER = re.compile(r"(?:[x*\u00d7]\s*)?1(?:0\s*\^?\s*|\.?0?e\+?)(?P<power>\d{1,2})(?:\s*flops?)?")
_EXPONENT = re.compile(r"e(?:\+|(-))0*(?=\d)")
_TOTAL = re.compile(r"(?P<name>\w*total\w*?)(?P<prefix>[kmgtpezy])flops?")


def unit_of(text: str, quantity: str | None) -> float | None:
    """Multiplier of what stands in brackets behind a name, or None where it is no unit of it.

    Examples
    --------
    >>> unit_of("EFLOPs", "flops"), unit_of("1e9", "params"), unit_of("val", "loss")
    (1e+18, 1000000000.0, None)
    """
    if quantity in (*COUNTS, "flops") and (power := _POWER.fullmatch(text.strip().lower())):
        return 10.0 ** int(power["power"])
    return _NAMED.get(quantity or "", {}).get("".join(filter(str.isalnum, text.lower())))


def total_flops(name: str) -> tuple[str, float] | None:
    """Name and multiplier of "total_gflops", simplified; a bare "tflops" is more often a rate.

    Examples
    --------
    >>> total_flops("totalgflops"), total_flops("tflops")
    (('totalflops', 1000000000.0), None)
    """
    found = _TOTAL.fullmatch(name)
    return (found["name"] + "flops", _PREFIXES[found["prefix"]]) if found else None


def power_text(value: float, spec: str = ".3g") -> str:
    """A number by a format, its power of ten as people write it.

    Examples
    --------
    >>> power_text(1e22), power_text(8e8, ".2g"), power_text(2.5e-7), power_text(640)
    ('1e22', '8e8', '2.5e-7', '640')
    """
    return _EXPONENT.sub(r"e\1", f"{value:{spec}}")
