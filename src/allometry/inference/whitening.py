"""Affine maps from a unit Gaussian to sampling coordinates, dense or by blocks."""

from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.model import GROUP_SITES, Structure, site_shapes

FLOOR = 1e-2
"""Smallest curvature believed: directions the data and the prior leave flatter are capped."""

Matrix = npt.NDArray[np.float64]


@partial(
    jax.tree_util.register_dataclass, data_fields=["centre", "hyper", "groups"], meta_fields=[]
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Whitening:
    """x = centre + L z, with L dense over the first h coordinates and by group over the rest.

    Attributes
    ----------
    centre : shape (d,)
        The mode.
    hyper : shape (h, h)
        Factor of the covariance of the first h coordinates; all of them if dense.
    groups : shape (group, k, k)
        Factors of the groups' covariances given the rest; no groups if dense.
    """

    centre: Float[Array, " d"]
    hyper: Float[Array, "h h"]
    groups: Float[Array, "group k k"]

    def apply_traced(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """Sampling coordinates of a standardised point, inside a JAX program."""
        h, (g, k, _) = self.hyper.shape[0], self.groups.shape
        first = self.hyper @ z[:h]
        if g == 0:
            return self.centre + first
        rest = jnp.einsum("gkj,jg->kg", self.groups, z[h:].reshape(k, g))
        return self.centre + jnp.concatenate([first, rest.ravel()])

    def apply(self, z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sampling coordinates of standardised points, shape (*batch, d)."""
        return np.asarray(self.centre) + self._times(z, transpose=False)

    def transpose_times(self, gradient: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gradient in standardised coordinates from the one in sampling coordinates."""
        return self._times(gradient, transpose=True)

    def covariance_times(self, gradient: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Covariance times a vector: the Newton step against a gradient."""
        return self._times(self._times(gradient, transpose=True), transpose=False)

    def _times(self, x: npt.NDArray[np.float64], *, transpose: bool) -> npt.NDArray[np.float64]:
        hyper, groups = np.asarray(self.hyper), np.asarray(self.groups)
        h, (g, k, _) = hyper.shape[0], groups.shape
        first = x[..., :h] @ (hyper if transpose else hyper.T)
        if g == 0:
            return np.asarray(first)
        block = x[..., h:].reshape(*x.shape[:-1], k, g)
        pattern = "gjk,...jg->...kg" if transpose else "gkj,...jg->...kg"
        rest = np.einsum(pattern, groups, block).reshape(*x.shape[:-1], k * g)
        return np.concatenate([first, rest], axis=-1)


def layout(structure: Structure) -> int:
    """Number of coordinates above those of the groups, which come last."""
    shapes = site_shapes(structure)
    return sum(prod(shape) for name, shape in shapes.items() if name not in GROUP_SITES)


def dense_whitening(centre: npt.NDArray[np.float64], hessian: Matrix) -> Whitening:
    """Whitening by the whole Hessian of the negative log density."""
    empty = np.zeros((0, 1, 1))
    return Whitening(
        centre=jnp.asarray(centre), hyper=jnp.asarray(_factor(hessian)), groups=jnp.asarray(empty)
    )


def block_whitening(
    centre: npt.NDArray[np.float64], hyper: Matrix, groups: npt.NDArray[np.float64]
) -> Whitening:
    """Whitening by the Hessian's diagonal blocks."""
    return Whitening(
        centre=jnp.asarray(centre),
        hyper=jnp.asarray(_factor(hyper)),
        groups=jnp.asarray(_factor(groups)),
    )


def _factor(hessian: Matrix) -> Matrix:
    """L with L L' = |H|^-1, of one matrix or a stack, by eigenvalues floored at `FLOOR`."""
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), FLOOR))[..., None, :])
