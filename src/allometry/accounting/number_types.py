"""Bytes of the numbers that tables of timings name: bfloat16, float32, fp8, w4a16, Q4_K ..."""

import re
from dataclasses import dataclass
from functools import lru_cache

from allometry.accounting.memory import BF16, NumberBytes
from allometry.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberType:
    """A type that weights are held in.

    Attributes
    ----------
    name : str
        Short name; of all types of 16 bits ``16-bit``.
    weight_bits : float
        Bits of a weight, with the scales of its block where the format has blocks.
    """

    name: str
    weight_bits: float

    @property
    def numbers(self) -> NumberBytes:
        """Bytes of weights, and of activations and KV cache: no narrower than 16 bits.

        Weights of fewer bits are widened on their way to the product. A recurrent state has the
        four bytes of `NumberBytes` in any type.
        """
        weight = self.weight_bits / 8
        return NumberBytes(weight=weight, activation=max(int(weight), BF16.activation))


SIXTEEN = NumberType(name="16-bit", weight_bits=16)
"""bfloat16 and float16: what is meant where nothing is said."""

_BLOCKS = {
    # ggml-common.h: bytes of a block over its weights, scales included.
    **{"q4_0": 4.5, "q4_1": 5.0, "q5_0": 5.5, "q5_1": 6.0, "q8_0": 8.5, "q8_1": 9.0},
    **{"q2_k": 2.625, "q3_k": 3.4375, "q4_k": 4.5, "q5_k": 5.5, "q6_k": 6.5625, "q8_k": 9.125},
    **{"iq1_s": 1.5625, "iq1_m": 1.75, "iq2_xxs": 2.0625, "iq2_xs": 2.3125, "iq2_s": 2.5625},
    **{"iq3_xxs": 3.0625, "iq3_s": 3.4375, "iq4_xs": 4.25, "iq4_nl": 4.5},
    **{"tq1_0": 1.6875, "tq2_0": 2.0625, "mxfp4": 4.25},
    # One 8-bit scale for 16 weights; one 32-bit scale for 64.
    **{"nvfp4": 4.5, "nf4": 4.5},
}
"""Bits of a weight in formats of blocks."""

_PLAIN = (
    ("int4", 4.0, r"u?int_?4|i4|w4a(4|8|16)|awq|gptq|q4|fp4|float4|4[- ]?bits?"),
    ("fp8", 8.0, r"(fp|float|f)8(_?e[45]m[23]\w*)?|e4m3\w*|e5m2\w*"),
    ("int8", 8.0, r"u?int_?8|i8|q8|w8a(8|16)|8[- ]?bits?"),
    ("float64", 64.0, r"(fp|float|f)64|double|64[- ]?bits?"),
    ("float32", 32.0, r"(fp|float|f|tf)32|single|32[- ]?bits?"),
    (SIXTEEN.name, 16.0, r"b?(fp|float|f)16|half|16[- ]?bits?"),
)
"""Name, bits and how they are written; of two that are named, the first is that of the weights."""

_BLOCK_NAME = re.compile(r"(?<![a-z0-9])((?:iq|tq|q)\d\w*|mxfp4|nvfp4|nf4)", re.IGNORECASE)
_PER_WEIGHT = re.compile(r"(\d+(?:\.\d+)?) ?bpw")
_PLAIN_NAMES = [
    (NumberType(name=name, weight_bits=bits), re.compile(rf"(?<![a-z0-9])({text})(?![a-z0-9])"))
    for name, bits, text in _PLAIN
]


@lru_cache(maxsize=256)
def find_number_type(text: str) -> NumberType | None:
    """Type that a text names, such as the dtype of a table; None if none is known.

    Examples
    --------
    >>> find_number_type("llama 7B Q4_K - Medium")
    NumberType(name='q4_k', weight_bits=4.5)
    >>> find_number_type("torch.bfloat16").name
    '16-bit'
    >>> find_number_type("posit") is None
    True
    """
    lower = text.lower()
    if (found := _BLOCK_NAME.search(lower)) is not None:
        # Q4_K_M, a mixture of types, is counted as the one that gives it its name.
        for name, bits in _BLOCKS.items():
            if found[1] == name or found[1].startswith(f"{name}_"):
                return NumberType(name=name, weight_bits=bits)
    if (found := _PER_WEIGHT.search(lower)) is not None and 0 < float(found[1]) <= 64:
        return NumberType(name=f"{found[1]}bpw", weight_bits=float(found[1]))
    return next((kind for kind, pattern in _PLAIN_NAMES if pattern.search(lower)), None)


def number_type(text: str) -> NumberType:
    """`find_number_type`, or one InputError that says what is known."""
    found = find_number_type(text)
    if found is None:
        hint = "Known: bfloat16, float16, float32, float64, fp8, int8, int4, nf4, mxfp4, nvfp4, and"
        raise InputError(f"no dtype {text!r}", hint=f"{hint} those of llama.cpp, such as q4_k.")
    return found
