"""The density that imported priors add, draw by draw: what power-scaling of the prior needs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import xarray as xr
from jaxtyping import Array, Float

from allometry.inference.derive import Arrays
from allometry.inference.imported import ImportedBlock, log_factor
from allometry.laws import Law

GROUP, VARIABLE = "log_prior", "imported"
"""Where it stands in the posterior's tree."""


@partial(jax.jit, static_argnums=1)
def _log_factors(blocks: tuple[ImportedBlock, ...], law: Law, sites: Any) -> Float[Array, " draw"]:
    return jax.vmap(lambda draw: log_factor(blocks, law, draw))(sites)


def with_imported_density(
    tree: xr.DataTree, blocks: Sequence[ImportedBlock], law: Law, sites: Arrays
) -> xr.DataTree:
    """The tree with log of what imported priors multiply the joint density with, (chain, draw).

    `sites` are the model's, (draw, ...), chains joined. Nothing is added without imported priors.
    """
    if not blocks:
        return tree
    sizes = tree["posterior"].sizes
    values = np.asarray(_log_factors(tuple(blocks), law, dict(sites)))
    shaped = (("chain", "draw"), values.reshape(sizes["chain"], sizes["draw"]))
    found = tree.copy()
    found[GROUP] = xr.DataTree(xr.Dataset({VARIABLE: shaped}))
    return found


def imported_density(tree: xr.DataTree) -> npt.NDArray[np.float64] | None:
    """What `with_imported_density` added, (chain, draw); None if nothing."""
    if GROUP not in tree.children or VARIABLE not in tree[GROUP]:
        return None
    return np.asarray(tree[GROUP][VARIABLE].to_numpy(), dtype=np.float64)
