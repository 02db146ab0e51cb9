"""From a validated table to the arrays that the model reads."""

import jax
import numpy as np
import pandas as pd

from allometry.errors import InputError
from allometry.inference.groups import Grouping
from allometry.inference.model import RunArrays, Structure
from allometry.laws import Law, Scale

BUCKET = 64
"""Runs are padded to a multiple of this, so that compiled programs serve tables of like size."""


def reference_scale(table: pd.DataFrame) -> Scale:
    """Geometric means of params, tokens and loss: the sampler's units."""

    def middle(name: str) -> float:
        return float(np.exp(np.log(table[name].to_numpy(dtype=np.float64)).mean()))

    return Scale(params=middle("params"), tokens=middle("tokens"), loss=middle("loss"))


def law_structure(law: Law, groups: Grouping) -> Structure:
    """What of the table and the law shapes the program."""
    return Structure(
        n_coefficients=len(law.coefficients),
        n_groups=groups.n_groups,
        n_parents=len(groups.parents),
        pooled=groups.n_groups > 1,
        nested=groups.nested,
        covariate=groups.covariate,
        columns=law.columns,
    )


def run_arrays(table: pd.DataFrame, groups: Grouping, law: Law, scale: Scale) -> RunArrays:
    """Runs relative to the reference run, padded with runs of weight zero.

    Raises
    ------
    InputError
        If the table lacks a column that the law reads.
    """
    if missing := [name for name in law.columns if name not in table]:
        what = f"law {law.name} needs column {', '.join(missing)}"
        raise InputError(what, where="runs", hint="Add the column, or choose another --law.")
    n_runs = len(table)
    padding = -n_runs % BUCKET

    def padded(values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        return np.concatenate([values, np.full(padding, fill, dtype=values.dtype)])

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy(dtype=np.float64)

    stderr = column("loss_stderr") / column("loss") if "loss_stderr" in table else np.zeros(n_runs)
    return RunArrays(
        group=jax.device_put(padded(groups.index)),
        log_params=jax.device_put(padded(np.log(column("params") / scale.params))),
        log_tokens=jax.device_put(padded(np.log(column("tokens") / scale.tokens))),
        log_loss=jax.device_put(padded(np.log(column("loss") / scale.loss))),
        relative_stderr=jax.device_put(padded(np.nan_to_num(stderr))),
        weight=jax.device_put(padded(np.ones(n_runs))),
        columns={name: jax.device_put(padded(column(name), 1.0)) for name in law.columns},
        log_reference=jax.device_put(np.log([scale.params, scale.tokens])),
        parent=jax.device_put(groups.parent),
        doublings=jax.device_put(groups.doublings),
    )
