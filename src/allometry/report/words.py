"""Numbers and chances as a person says them. The page's script says them the same way."""

import math

SCALES = (
    (1e15, "quadrillion"),
    (1e12, "trillion"),
    (1e9, "billion"),
    (1e6, "million"),
    (1e3, "thousand"),
)
"""Words for counts, largest first."""

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

CERTAIN, LIKELY = 0.95, 0.80
"""A winner is called clear from the first probability on, and likely from the second."""


def two_digits(value: float) -> float:
    """A number rounded to two significant digits."""
    return float(f"{value:.1e}")


def power_words(value: float) -> str:
    """A budget in FLOPs.

    Examples
    --------
    >>> power_words(8.48e22), power_words(1e21)
    ('8.5 × 10²²', '10²¹')
    """
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1.0" else f"{mantissa} × {power}"


def short_number(value: float) -> str:
    """A large number with three digits, as it is typed.

    Examples
    --------
    >>> short_number(2.8e18), short_number(1.124e8)
    ('2.80e18', '1.12e8')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def count_words(value: float) -> str:
    """Params or tokens, to two significant digits.

    Examples
    --------
    >>> count_words(7.234e9), count_words(152e9), count_words(999.9e9), count_words(20.4)
    ('7.2 billion', '150 billion', '1 trillion', '20')
    """
    number, unit = _scaled(value)
    return f"{number} {unit}".strip()


def range_words(low: float, high: float) -> str:
    """Two ends of an interval; the unit once where it is the same.

    Examples
    --------
    >>> range_words(6.1e9, 8.5e9), range_words(0.9e9, 1.4e9)
    ('6.1 to 8.5 billion', '900 million to 1.4 billion')
    """
    (first, unit), (last, other) = _scaled(low), _scaled(high)
    if unit == other:
        return f"{first} to {last} {unit}".strip()
    return f"{count_words(low)} to {count_words(high)}"


def _scaled(value: float) -> tuple[str, str]:
    if not math.isfinite(value):
        return "unbounded", ""
    rounded = two_digits(value)
    if rounded >= 1e18:
        return power_words(value), ""
    for scale, unit in SCALES:
        if rounded >= scale:
            return f"{two_digits(rounded / scale):g}", unit
    return f"{rounded:g}", ""


def percent_words(probability: float) -> str:
    """A chance in whole percents, which is never quite 0 or 100.

    Examples
    --------
    >>> percent_words(0.634), percent_words(0.9992), percent_words(0.0)
    ('63 %', 'over 99 %', 'under 1 %')
    """
    if probability > 0.995:
        return "over 99 %"
    if probability < 0.005:
        return "under 1 %"
    return f"{100 * probability:.0f} %"


def plural(count: int, noun: str) -> str:
    """``1 run``, ``640 runs``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def joined(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
