"""Which cost model a fit uses."""

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from allometry.accounting import CostModel, accounting_cost, six_nd, table_cost
from allometry.errors import InputError
from allometry.inference.groups import Grouping, group_name, group_runs
from allometry.inference.posterior import Posterior

CostChoice = Literal["auto", "accounting", "table", "6nd"]
AGREEMENT = 0.1
"""Root mean square of log FLOPs within which shapes reproduce a table's own count."""

ARCHITECTURES = ("transformer", "xlstm")


def choose_cost(
    table: pd.DataFrame, groups: Grouping, choice: CostChoice = "auto"
) -> tuple[CostModel, tuple[str, ...]]:
    """Cost model of the groups, and what should be said of it.

    Raises
    ------
    InputError
        If the choice is not one, or the table lacks what it needs.
    """
    if choice not in get_args(CostChoice):
        known = ", ".join(get_args(CostChoice))
        raise InputError(f"cost must be one of {known}, got {choice!r}")
    names = groups.names
    has_flops = "flops" in table and bool(np.isfinite(table["flops"]).all())
    shaped = _knows_shapes(groups)
    if choice == "6nd":
        return six_nd(names), ()
    if choice == "table" and not has_flops:
        hint = "Add a flops column, or use --cost accounting or 6nd."
        raise InputError("no complete flops column to learn a cost model from", hint=hint)
    if choice == "accounting" and not shaped:
        what = "shapes are known for groups by architecture (transformer, xlstm) and context_length"
        raise InputError(what, hint="Use --cost table or 6nd.")
    counted = _from_shapes(table, groups) if shaped else None
    if choice == "accounting" and counted is not None:
        return counted, ()
    if not has_flops:
        if counted is not None:
            return counted, ("training FLOPs are counted from shapes",)
        return six_nd(names), ("training FLOPs are 6 N D: no shapes are known to count them from",)
    columns = (groups.index, *(table[n].to_numpy() for n in ("params", "tokens", "flops")))
    if choice == "auto" and counted is not None:
        error = np.log(counted.flops(*columns[:3]) / columns[3])
        if float(np.sqrt(np.mean(error**2))) < AGREEMENT:
            return counted, ()
    return table_cost(*columns, groups=names), ()


def cost_of_posterior(posterior: Posterior, choice: CostChoice) -> CostModel:
    """Another cost model for a posterior's groups, from its own runs."""
    data = posterior.idata["constant_data"]
    columns = {name: data[name].to_numpy() for name in ("params", "tokens", "flops")}
    labels = posterior.groups.iloc[data["group_index"].to_numpy()].reset_index(drop=True)
    table = pd.concat([labels, pd.DataFrame(columns)], axis=1)
    return choose_cost(table, group_runs(table, posterior.record.by), choice)[0]


def extended_cost(cost: CostModel, groups: pd.DataFrame, labels: pd.DataFrame) -> CostModel:
    """A cost model with further groups, in the way of the model that it has.

    From the accounting where that is the model's kind and the architecture and context are known;
    6 N D where that is the kind, or the accounting does not know the architecture; else the mean of
    what the table says of the groups that share the first column, or of all.

    Parameters
    ----------
    cost : CostModel
    groups, labels : DataFrame
        Group columns of the model's groups, and of the new ones.
    """
    first = groups.columns[0]
    rows, ranges = list(cost.coefficients), list(cost.range_params)
    for _, row in labels.iterrows():
        own = np.flatnonzero((groups[first].astype(str) == str(row[first])).to_numpy())
        alike = own if len(own) else np.arange(len(groups))
        reach = np.array(cost.range_params)[alike]
        low, high = float(reach[:, 0].min()), float(reach[:, 1].max())
        ranges.append((low, high))
        if cost.kind == "accounting" and cost_source(cost, row) == "accounting":
            counted = accounting_cost(
                [row["architecture"]], [int(row["context_length"])], range_params=(low, high)
            )
            shift = float(np.log(cost.reference_params / counted.reference_params))
            ranges[-1] = counted.range_params[0]
            b0, b1, b2 = counted.coefficients[0]
            # The same polynomial about this model's reference params.
            rows.append((b0 + b1 * shift + b2 * shift**2, b1 + 2 * b2 * shift, b2))
        elif cost.kind == "table":
            mean = np.array(cost.coefficients)[alike].mean(axis=0)
            rows.append((float(mean[0]), float(mean[1]), float(mean[2])))
        else:
            rows.append((0.0, 0.0, 0.0))
    return replace(
        cost,
        groups=(*cost.groups, *(group_name(row) for row in labels.itertuples(index=False))),
        coefficients=tuple(rows),
        range_params=tuple(ranges),
        residuals=(*cost.residuals, *[0.0] * len(labels)),
    )


def cost_source(cost: CostModel, labels: "pd.Series[Any]") -> str:
    """Where the FLOPs of a group that was never run come from: accounting, table or 6nd."""
    if cost.kind != "accounting":
        return cost.kind
    known = {"architecture", "context_length"} <= set(labels.index)
    return "accounting" if known and labels["architecture"] in ARCHITECTURES else "6nd"


def _knows_shapes(groups: Grouping) -> bool:
    if not {"architecture", "context_length"} <= set(groups.columns):
        return False
    return bool(groups.labels["architecture"].isin(ARCHITECTURES).all())


def _from_shapes(table: pd.DataFrame, groups: Grouping) -> CostModel:
    by_group = table.groupby(groups.index)["params"]
    ranges = np.stack([by_group.min().to_numpy(), by_group.max().to_numpy()], axis=1)
    return accounting_cost(
        groups.labels["architecture"].tolist(),
        groups.labels["context_length"].astype(int).tolist(),
        groups=groups.names,
        range_params=ranges,
    )
