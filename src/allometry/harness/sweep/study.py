"""The reference study as a plan: its grid, and the rule by which it chose steps."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from allometry.accounting import (
    Shape,
    preset,
    shape_of,
    steps_for,
    study_batch_size,
    study_learning_rate,
)
from allometry.harness.sweep.rows import PLAN_COLUMNS, plan_row

STEP_ROUNDING = 200
"""Steps are a multiple of this."""
XLSTM_8192_STEP_ROUNDING = 500
"""xLSTM at context 8192, planned first: mostly multiples of 500, some of 200 or 250."""

# (architecture, context, budget) to the trained "width:depths" (arXiv:2510.02228, its run table).
_ISOFLOP: dict[tuple[str, int, float], str] = {
    ("transformer", 2048, 6e18): (
        "512:10,12,14,16 640:10,13,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24,27"
    ),
    ("transformer", 2048, 1e19): (
        "512:10,12,14,16 640:10,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24,27 1408:24"
    ),
    ("transformer", 2048, 3e19): (
        "512:16 640:10,13,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,30 2048:24,27,30"
    ),
    ("transformer", 8192, 6e18): (
        "512:10,12,14,16 640:10,13,14,16 768:12,15,18 896:12,15,18,21 1024:18,21,24"
    ),
    ("transformer", 8192, 1e19): (
        "512:10,12,16 640:10,13,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24,27 1408:24"
    ),
    ("transformer", 8192, 3e19): (
        "512:14,16 640:10,13,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,27,30 2048:24,27"
    ),
    ("transformer", 8192, 1e20): (
        "896:24 1024:18,21,24,27,30 1152:24,27,30 1280:24,27,30 1408:24,27,30 1536:24,27,30 "
        "1792:24,27,30 2048:24,27,30 2304:27,30,33"
    ),
    ("transformer", 16384, 6e18): ("512:10,12,14,16 640:10,13,14,16 768:12,15,18 896:12,15,18"),
    ("transformer", 16384, 1e19): (
        "512:10,12,14,16 640:10,13,14,16 768:15,18 896:12,15,18,21,24 1024:18,21,24,27 1152:24"
    ),
    ("transformer", 16384, 3e19): (
        "512:16 640:10,13,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,30 "
        "1152:24,27,30 1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,27,30 2048:24,27,30 "
        "2304:24"
    ),
    ("xlstm", 2048, 6e18): (
        "512:10,12,14,16 640:10,12,14,16 768:12,15,18 896:12,15,18,21,24 1024:18,21,24,27,30 "
        "1152:24"
    ),
    ("xlstm", 2048, 1e19): (
        "512:12,14,16 640:10,12,14,16 768:12,15,18 896:12,15,18,21,24,27 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24,27,30 1408:24"
    ),
    ("xlstm", 2048, 3e19): (
        "512:16 640:10,12,14,16 768:12,15,18 896:12,15,18,21,24,27 1024:18,21,24,27,30 "
        "1152:24,30 1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,27,30 2048:24,27,33 "
        "2304:24"
    ),
    ("xlstm", 8192, 6e18): ("640:10,13,16 768:12,15,18 896:12,15,18,24,27 1024:18,21,24,27,30"),
    ("xlstm", 8192, 1e19): (
        "640:10,13,16 768:12,15,18 896:12,15,18,21,24,27 1024:18,21,24,27,30 1152:24,27,30 "
        "1280:24,27,30"
    ),
    ("xlstm", 8192, 3e19): (
        "640:10,13,16 768:12,15,18 896:12,18,21,24,27 1024:18,21,24,27,30 1152:24,27,30 "
        "1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,27,30 2048:24,27,33 2304:24"
    ),
    ("xlstm", 8192, 1e20): (
        "640:10,13,16 768:12,18 896:12,15,18,21,27 1024:18,21,24,27,30 1152:24,27,30 "
        "1280:24,27,30 1408:24,27,30 1536:24,27,30 1792:24,27,30 2048:24,27,33,36 "
        "2304:24,27,30,33 2560:32,35,38 2816:30,32,34"
    ),
    ("xlstm", 8192, 6e20): (
        "1536:24,27,30 1792:24,27,30 2048:24,27,33,36 2304:24,27,33 2560:32,38 2816:30,34,36 "
        "3072:30,32,36 3328:32,36 3584:32,36 4096:30,32"
    ),
    ("xlstm", 16384, 6e18): (
        "512:12,14,16 640:10,12,14,16 768:12,15 896:12,15,18,21,24,27 1024:18,21,24,27,30 "
        "1152:24,27,30 1280:24"
    ),
    ("xlstm", 16384, 1e19): (
        "640:10,12,14,16 768:12,15,18 896:12,15,18,21,24,27 1024:18,21,27,30 1152:24,27,30 "
        "1280:24,27,30 1408:24,27,30 1536:24,27"
    ),
    ("xlstm", 16384, 3e19): (
        "768:18 896:12,15,18,21,24,27 1024:18,21,24,27,30 1152:24,27,30 1280:24,27,30 "
        "1408:24,27,30 1536:24,27,30 1792:24,30 2048:24,27,33"
    ),
}
# Size to (batch, steps of both architectures), context 8192.
_TOKEN_PARAM: dict[str, tuple[int, tuple[int, ...]]] = {
    "160m": (128, (3500, 5000, 7000, 8000, 18000, 36000, 87000, 173000)),
    "400m": (128, (10000, 18000, 46000, 87000, 215000, 427000)),
    "830m": (256, (10000, 18000, 46000, 90000, 220000)),
    "1.4b": (256, (16000, 31000, 76000, 150000, 375000)),
    "2.7b": (512, (16000, 31000, 76000, 146000)),
    "7b": (256, (76000,)),
}
# Runs of one architecture alone, and those that left the batch of their size.
_MORE_TOKEN_PARAM = (
    ("transformer", "7b", 256, 145_000),
    ("transformer", "7b", 512, 145_000),
    ("xlstm", "160m", 128, 345_000),
    ("xlstm", "830m", 256, 442_000),
    ("xlstm", "1.4b", 256, 746_000),
    ("xlstm", "7b", 512, 73_000),
    ("xlstm", "7b", 512, 181_000),
    ("xlstm", "7b", 512, 500_000),
)
_TOKEN_PARAM_RATES = {"160m": 3e-3, "400m": 3e-3, "830m": 1e-3, "1.4b": 8e-4, "2.7b": 7e-4}
_OTHER_RATES = {
    ("transformer", "160m", 173_000): 1e-3,
    **{(arch, "400m", k): 1e-3 for arch in ("transformer", "xlstm") for k in (215_000, 427_000)},
    ("xlstm", "830m", 442_000): 8e-4,
    ("xlstm", "1.4b", 746_000): 7e-4,
    ("xlstm", "7b", 500_000): 4e-4,
}


def study_plan() -> pd.DataFrame:
    """The 640 runs of the reference study, planned anew.

    Shapes, batches and token/param steps are the study's. The steps of IsoFLOP runs follow its
    rule (budget over the cost of a step, rounded), so they can differ from what was trained by one
    multiple of the rounding, and so can FLOPs from the budget by a few per cent: this is how the
    study was made, and the one plan that does not keep to 2 %.

    Returns
    -------
    DataFrame
        As `plan_sweep` gives it: 574 IsoFLOP and 66 token/param rows.
    """
    rows = [*_isoflop_rows(), *_token_param_rows()]
    return pd.DataFrame(rows, columns=list(PLAN_COLUMNS))


def _isoflop_rows() -> Iterator[dict[str, Any]]:
    for (architecture, context_length, budget), grid in _ISOFLOP.items():
        first = architecture == "xlstm" and context_length == 8192
        rounding = XLSTM_8192_STEP_ROUNDING if first else STEP_ROUNDING
        batch_size = study_batch_size(context_length, budget)
        for d_model, n_layers in _widths_and_depths(grid):
            shape = shape_of(architecture, d_model, n_layers)
            yield plan_row(
                shape,
                context_length=context_length,
                batch_size=batch_size,
                steps=steps_for(budget, _as_planned(shape), context_length, batch_size, rounding),
                learning_rate=_isoflop_rate(architecture, d_model, budget),
                seed=0,
                experiment="isoflop",
                budget=budget,
            )


def _isoflop_rate(architecture: str, d_model: int, budget: float) -> float:
    if budget >= 3e20:  # the batch of 2^21 tokens; two of its widths were also tried at 8e-4
        return 1e-3 if d_model <= 2816 else 9e-4
    return study_learning_rate(architecture, d_model)


def _token_param_rows() -> Iterator[dict[str, Any]]:
    both = ("transformer", "xlstm")
    listed = [
        (architecture, size, batch, steps)
        for size, (batch, all_steps) in _TOKEN_PARAM.items()
        for steps in all_steps
        for architecture in both
    ]
    for architecture, size, batch, steps in [*listed, *_MORE_TOKEN_PARAM]:
        usual = _TOKEN_PARAM_RATES.get(size, 5e-4)
        yield plan_row(
            preset(f"{architecture}-{size}"),
            context_length=8192,
            batch_size=batch,
            steps=steps,
            learning_rate=_OTHER_RATES.get((architecture, size, steps), usual),
            seed=0,
            experiment="tokenparam",
            budget=None,
        )


def _widths_and_depths(grid: str) -> Iterator[tuple[int, int]]:
    for part in grid.split():
        width, depths = part.split(":")
        for depth in depths.split(","):
            yield int(width), int(depth)


def _as_planned(shape: Shape) -> Shape:
    # Feed-forward widths were planned before they were rounded up to a multiple of 64.
    return replace(shape, d_ff=-(-2667 * shape.d_model // 1000))
