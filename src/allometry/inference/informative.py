"""Can a table inform a law at all, and did it? Refusals and notes before and after the fit."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.inference.groups import Grouping

MIN_RUNS = 4
"""Fewer runs than this leave every coefficient to the prior; a fit would only repeat it."""


TOGETHER = 0.03
"""Decades that tokens may stray from a power of params and still say nothing of their own."""


def require_informative(table: pd.DataFrame, groups: Grouping) -> tuple[str, ...]:
    """Refuse tables that cannot inform a law; say what a thin table leaves to the prior."""
    if len(table) < MIN_RUNS:
        what = f"{len(table)} runs, at least {MIN_RUNS} are needed"
        raise InputError(what, where="runs", hint="Add runs, or predict from a prior alone.")
    notes = []
    for name, word in (("params", "size"), ("tokens", "token count")):
        if table[name].nunique() == 1:
            what = f"all runs have one {word} ({table[name].iloc[0]:.4g} {name})"
            hint = f"The law cannot tell what {name} do: add runs with other {name}."
            raise InputError(what, where="runs", hint=hint)
    thin = [n for n, c in zip(groups.names, groups.runs_per_group, strict=True) if c < 6]
    if thin:
        shown = ", ".join(thin[:5]) + (f" and {len(thin) - 5} more" if len(thin) > 5 else "")
        notes.append(f"fewer than 6 runs in {shown}: their coefficients come from the other groups")
    budgets = np.log10(table["params"] * table["tokens"])
    if float(np.ptp(budgets)) < 0.5:
        ratio = 10 ** float(np.ptp(budgets))
        notes.append(
            f"all budgets lie within a factor {ratio:.2g}: E and the exponents come from the prior"
        )
    return (*notes, *_together(table))


def _together(table: pd.DataFrame) -> tuple[str, ...]:
    """A note where tokens follow from params, as in a sweep at one D/N."""
    log_params, log_tokens = (np.log10(table[name]) for name in ("params", "tokens"))
    slope, level = np.polyfit(log_params, log_tokens, 1)
    if float((log_tokens - level - slope * log_params).std()) > TOGETHER:
        return ()
    return (
        f"tokens follow from params in all runs (as N to the {slope:.2g}): what each of them does "
        "comes from the prior; add runs with other tokens per param",
    )


def irreducible_above_smallest(
    published: dict[str, npt.NDArray[np.float64]], table: pd.DataFrame, groups: Grouping
) -> tuple[str, ...]:
    """A note for each group whose E came out above its smallest loss."""
    if "E" not in published:
        return ()
    medians = np.median(published["E"], axis=0)
    smallest = table.groupby(groups.index)["loss"].min().to_numpy()
    found = [
        f"E of {name} is {e:.4g}, above its smallest loss {s:.4g}: outliers, or another law"
        for name, e, s in zip(groups.names, medians, smallest, strict=True)
        if e > s
    ]
    return tuple(found)
