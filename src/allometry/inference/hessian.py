"""Second derivatives of a negative log density, from differences of its gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from allometry.inference.model import GROUP_SITES, Structure, site_shapes

STEP = 1e-5
"""Of central differences: errors STEP^2 and eps / STEP are both near 1e-10."""

Values = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Evaluate = Callable[[Values], tuple[Values, Values]]
"""Negative log density and gradient of a stack of points, shape (point, d)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrow:
    """A Hessian in which groups meet only through the levels above them.

    Attributes
    ----------
    hyper : ndarray, shape (h, h)
        Of the levels above.
    groups : ndarray, shape (group, k, k)
        Of each group.
    cross : ndarray, shape (group, k, c)
        Between a group and the coordinates above that it depends on.
    columns : ndarray of int, shape (group, c)
        Which those are: all but the levels of the first group column that are not its own.
    """

    hyper: Values
    groups: Values
    cross: Values
    columns: npt.NDArray[np.int64]


def dense_hessian(x: Values, evaluate: Evaluate) -> Values:
    """Hessian of the negative log posterior."""
    steps = STEP * np.eye(len(x))
    up, down = evaluate(x + steps)[1], evaluate(x - steps)[1]
    hessian = (up - down) / (2 * STEP)
    return np.asarray((hessian + hessian.T) / 2)


def arrow_hessian(
    x: Values, structure: Structure, parent: npt.NDArray[np.int64], evaluate: Evaluate
) -> Arrow:
    """Hessian of a grouped model; `parent` (group,) is each group's level of the first column.

    Groups are independent given the levels above, and so are those levels given what is above them:
    one difference serves them all.
    """
    shared, levels, members = _places(structure)
    directions = [*shared[:, None], *levels, *members]
    steps = np.zeros((len(directions), len(x)))
    for row, places in enumerate(directions):
        steps[row, places] = STEP
    up, down = evaluate(x + steps)[1], evaluate(x - steps)[1]
    change = (up - down) / (2 * STEP)
    of_shared, of_levels, of_members = np.split(change, [len(shared), len(shared) + len(levels)])
    above = len(shared) + levels.size
    hyper = np.zeros((above, above))
    hyper[shared] = of_shared[:, :above]
    hyper[:, shared] = of_shared[:, :above].T
    for i, row in enumerate(levels):
        for column in levels:
            hyper[row, column] = of_levels[i, column]
    g = np.arange(len(parent))
    groups = of_members[:, members].transpose(2, 0, 1)
    cross = np.concatenate([of_shared[:, members], of_levels[:, members]]).transpose(2, 1, 0)
    columns = np.concatenate(
        [np.broadcast_to(shared, (len(g), len(shared))), levels[:, parent].T], axis=1
    )
    return Arrow(
        hyper=(hyper + hyper.T) / 2,
        groups=(groups + groups.transpose(0, 2, 1)) / 2,
        cross=cross,
        columns=columns,
    )


def _places(structure: Structure) -> tuple[Integers, Integers, Integers]:
    """Coordinates that all share (s,), of levels (k, level), and of groups (k, group)."""
    no_levels = np.zeros((0, structure.n_parents), dtype=np.int64)
    shared, levels, members, start = [], no_levels, [], 0
    for name, shape in site_shapes(structure).items():
        places = start + np.arange(prod(shape))
        if name == "parent":
            levels = places.reshape(shape)
        elif name in GROUP_SITES:
            members.append(places.reshape(-1, structure.n_groups))
        else:
            shared.append(places)
        start += prod(shape)
    return np.concatenate(shared), levels, np.concatenate(members)
