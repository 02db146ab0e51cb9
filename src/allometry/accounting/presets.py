"""Named shapes: every model of the reference study, and tiny ones for tests."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType

from allometry.accounting.family import shape_of
from allometry.accounting.shapes import Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError

# Token/param runs: name to (d_model, n_layers, Transformer heads, xLSTM heads).
_SHOWN = 14  # those with the name of a size
_TOKEN_PARAM_RUNS = {
    "160m": (768, 12, 12, 6),
    "400m": (1024, 24, 16, 4),
    "830m": (1536, 24, 16, 4),
    "1.4b": (2048, 24, 16, 4),
    "2.7b": (2560, 32, 32, 5),
    "7b": (4096, 32, 32, 8),
}
# IsoFLOP grid: d_model to the depths planned or trained.
_GRID = {
    512: (10, 12, 14, 16),
    640: (10, 12, 13, 14, 16),
    768: (12, 15, 18),
    896: (12, 15, 18, 21, 24),
    1024: (18, 21, 24, 27, 30),
    **dict.fromkeys((1152, 1280, 1408, 1536, 1792, 2048), (24, 27, 30)),
    2304: (24, 27, 30, 33),
    2560: (29, 32, 35),
}
_XLSTM_GRID = _GRID | {
    896: (*_GRID[896], 27),
    2048: (*_GRID[2048], 33, 36),
    2560: (*_GRID[2560], 38),
    2816: (30, 32, 34, 36),
    3072: (30, 32, 34, 36),
    3328: (28, 32, 36),
    3584: (28, 32, 36),
    4096: (28, 30, 32),
}


def preset(name: str) -> Shape:
    """Shape by name.

    Parameters
    ----------
    name : str
        ``{transformer,xlstm}-{160m,400m,830m,1.4b,2.7b,7b}`` (token/param runs of the study),
        ``{transformer,xlstm}-d{width}-n{depth}`` (its IsoFLOP grid), or
        ``{transformer,xlstm}-tiny``; all of them: `preset_names`.

    Raises
    ------
    InputError
        If no preset has this name; the hint lists near ones.

    Examples
    --------
    >>> preset("transformer-160m").d_ff, preset("xlstm-160m").d_ff
    (2048, 2112)
    >>> preset("xlstm-d4096-n32").n_heads, preset("xlstm-7b").n_heads
    (16, 8)
    """
    presets = _presets()
    if name not in presets:
        near = get_close_matches(name, presets, n=5)
        some = ", ".join(list(presets)[:_SHOWN])
        hint = f"Near it: {', '.join(near)}." if near else f"Such as {some}."
        hint += f" All {len(presets)}: allometry account --list."
        raise InputError(f"no preset named {name!r}", hint=hint)
    return presets[name]


def preset_names() -> tuple[str, ...]:
    """Names that `preset` knows, small to large within each set."""
    return tuple(_presets())


@lru_cache(maxsize=1)
def _presets() -> Mapping[str, Shape]:
    presets: dict[str, Shape] = {
        "transformer-tiny": TransformerShape(d_model=64, n_layers=2, n_heads=4, vocab_size=1000),
        "xlstm-tiny": XLSTMShape(d_model=64, n_layers=2, n_heads=4, vocab_size=1000),
    }
    for size, (d, n, heads, _) in _TOKEN_PARAM_RUNS.items():
        presets[f"transformer-{size}"] = TransformerShape(d_model=d, n_layers=n, n_heads=heads)
    for size, (d, n, _, heads) in _TOKEN_PARAM_RUNS.items():
        presets[f"xlstm-{size}"] = XLSTMShape(d_model=d, n_layers=n, n_heads=heads)
    for architecture, grid in (("transformer", _GRID), ("xlstm", _XLSTM_GRID)):
        for d, depths in grid.items():
            for n in depths:
                presets[f"{architecture}-d{d}-n{n}"] = shape_of(architecture, d, n)
    return MappingProxyType(presets)
