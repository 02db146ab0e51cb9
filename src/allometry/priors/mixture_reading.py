"""The distribution of a prior file, checked: weights, means and positive definite scales."""

from typing import Any

import numpy as np

from allometry.priors.json_values import (
    BrokenRuleError,
    exact_object,
    json_list,
    json_number,
    one_of,
)
from allometry.priors.mixture import Mixture

MAX_COMPONENTS = 16
LARGEST = 1e6
"""Largest mean or standard deviation of a quantity on its log or logit scale."""

WEIGHTS_TOLERANCE = 1e-9
CONDITION = 1e14
"""Largest condition number of a scale matrix, in units of its own diagonal."""


def read_mixture(value: Any, size: int) -> Mixture:
    """The mixture over so many quantities, or a `BrokenRuleError`."""
    found = exact_object(value, ("family", "df", "components"), "distribution")
    family = one_of(found["family"], ("normal", "student-t"), "distribution.family")
    df: float | None = None
    if family == "student-t":
        df = json_number(found["df"], "distribution.df", low=2.0, high=1e6, open_low=True)
    elif found["df"] is not None:
        raise BrokenRuleError("distribution.df must be null for a normal")
    where = "distribution.components"
    weights, means, scales = [], [], []
    for i, entry in enumerate(json_list(found["components"], where, most=MAX_COMPONENTS, least=1)):
        part = exact_object(entry, ("weight", "mean", "scale"), f"{where}[{i}]")
        weight = json_number(part["weight"], f"{where}[{i}].weight", low=0.0, high=1.0 + 1e-9,
                         open_low=True)  # fmt: skip
        weights.append(weight)
        means.append(_row(part["mean"], f"{where}[{i}].mean", size))
        rows = json_list(part["scale"], f"{where}[{i}].scale", most=size, least=size)
        matrix = np.stack([_row(r, f"{where}[{i}].scale[{j}]", size) for j, r in enumerate(rows)])
        scales.append(_positive_definite(matrix, f"{where}[{i}].scale"))
    if abs(sum(weights) - 1.0) > WEIGHTS_TOLERANCE:
        raise BrokenRuleError(
            f"weights of the components sum to {sum(weights):.12g}, must sum to 1"
        )
    return Mixture(
        weights=np.asarray(weights), means=np.stack(means), scales=np.stack(scales), df=df
    )


def _row(value: Any, where: str, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    row = json_list(value, where, most=size, least=size)
    return np.asarray(
        [json_number(x, f"{where}[{j}]", low=-LARGEST, high=LARGEST) for j, x in enumerate(row)]
    )


def _positive_definite(
    matrix: np.ndarray[Any, np.dtype[np.float64]], where: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    diagonal = np.diag(matrix)
    if not (diagonal >= 1e-14).all():
        raise BrokenRuleError(f"{where} has a variance below 1e-14 on its diagonal")
    unit = np.sqrt(np.outer(diagonal, diagonal))
    if not np.allclose(matrix / unit, matrix.T / unit, rtol=0, atol=1e-9):
        raise BrokenRuleError(f"{where} is not symmetric")
    symmetric = (matrix + matrix.T) / 2
    smallest, largest = np.linalg.eigvalsh(symmetric / unit)[[0, -1]]
    if not smallest > largest / CONDITION:
        raise BrokenRuleError(f"{where} is not positive definite")
    try:
        np.linalg.cholesky(symmetric)
    except np.linalg.LinAlgError as error:
        raise BrokenRuleError(f"{where} is not positive definite") from error
    return np.asarray(symmetric)
