"""What a prior says, as tables that people read and plots draw."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from allometry.inference import Posterior, interval_columns
from allometry.priors.export import quantity_draws
from allometry.priors.file import MEANINGS, PriorFile
from allometry.priors.mixture import Array

DRAWS = 20_000


def _expit(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x / 2)  # SciPy's takes a tenth of a second to import


READABLE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "log_loss": ("loss", np.exp),
    "log_slope_params": ("slope_params", np.exp),
    "log_slope_tokens": ("slope_tokens", np.exp),
    "logit_reducible": ("reducible_share", _expit),
    "logit_params_share": ("params_share", _expit),
    "log_gamma": ("gamma", np.exp),
    "log_noise": ("noise", np.exp),
    "log_off_valley": ("off_valley", np.exp),
}
"""Names and inverse transforms of quantities whose own scale is a log or a logit."""


def prior_table(file: PriorFile, *, seed: int = 0) -> pd.DataFrame:
    """One row a quantity: its name, its group, and the interval of it, logs and logits undone.

    Columns ``quantity, group, value_median, value_q5, value_q25, value_q75, value_q95, meaning``;
    ``loss`` is relative to the reference loss unless the file's unit is known.
    """
    return table_of_draws(file, file.mixture.draw(DRAWS, np.random.default_rng([seed, 15])))


def table_of_draws(file: PriorFile, draws: Array) -> pd.DataFrame:
    """`prior_table` of draws (draw, quantity) of the file's quantities."""
    rows = []
    for i, quantity in enumerate(file.quantities):
        name, inverse = READABLE.get(quantity.name, (quantity.name, lambda x: x))
        with np.errstate(over="ignore"):  # of a file that says next to nothing: infinite
            values = inverse(draws[:, i])
        if quantity.name == "log_loss":
            values = values * file.reference.loss
        group = "" if quantity.group is None else _group_name(file, quantity.group)
        ends = {k: float(v) for k, v in interval_columns("value", values).items()}
        meaning = MEANINGS.get(quantity.name, "")
        rows.append({"quantity": name, "group": group} | ends | {"meaning": meaning})
    return pd.DataFrame(rows)


def overlay_table(posterior: Posterior, file: PriorFile, *, seed: int = 0) -> pd.DataFrame:
    """Marginal densities of a posterior's draws and of the file made from it, on common points.

    Columns ``quantity, group, value, draws, mixture``: of the draws, a histogram; of the mixture,
    its density, both over the quantity's own scale.
    """
    asked = file.groups[0] if file.groups and file.kind == "new-group" else {}
    draws, quantities, groups = quantity_draws(
        posterior,
        file.kind,
        architecture=asked.get("architecture"),
        context_length=asked.get("context_length"),
        seed=seed,
    )
    kept = [i for i, q in enumerate(quantities) if _is_in(file, q.name, q.group, groups)]
    parts = []
    for place, i in enumerate(kept):
        marginal = file.mixture.marginal([place])
        low, high = np.quantile(draws[:, i], [0.001, 0.999])
        edges = np.linspace(low, high, 41)
        middles = (edges[1:] + edges[:-1]) / 2
        heights = np.histogram(draws[:, i], bins=edges)[0] / len(draws) / np.diff(edges)
        quantity = quantities[i]
        parts.append(
            pd.DataFrame(
                {
                    "quantity": quantity.name,
                    "group": "" if quantity.group is None else _group_name(file, quantity.group),
                    "value": middles,
                    "draws": heights,
                    "mixture": np.exp(marginal.log_density(middles[:, None])),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _is_in(
    file: PriorFile, name: str, group: int | None, groups: Sequence[dict[str, object]]
) -> bool:
    if file.kind == "new-group":
        return any(q.name == name for q in file.quantities)
    labels = None if group is None else groups[group]
    return labels is None or labels in file.groups


def _group_name(file: PriorFile, group: int) -> str:
    return "/".join(map(str, file.groups[group].values()))
