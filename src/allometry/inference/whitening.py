"""Affine maps from a unit Gaussian to sampling coordinates, dense or by groups."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float, Int

from allometry.inference.hessian import Arrow

FLOOR = 1e-2
"""Smallest curvature believed: directions the data and the prior leave flatter are capped."""

Values = npt.NDArray[np.float64]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["centre", "hyper", "groups", "lean", "columns"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Whitening:
    """x = centre + L z, with L dense over the first h coordinates and by group over the rest.

    A group's coordinates are independent of other groups' given the first ones, on which they lean:
    the precision matrix is an arrow, and L its factor.

    Attributes
    ----------
    centre : shape (d,)
        The mode.
    hyper : shape (h, h)
        Factor of the covariance of the first h coordinates; all of them if dense.
    groups : shape (group, k, k)
        Factors of the groups' covariances given the rest; no groups if dense.
    lean : shape (group, k, c)
        Change of a group's coordinates with those of the first that it depends on.
    columns : shape (group, c)
        Which of the first coordinates those are.
    """

    centre: Float[Array, " d"]
    hyper: Float[Array, "h h"]
    groups: Float[Array, "group k k"]
    lean: Float[Array, "group k c"]
    columns: Int[Array, "group c"]

    def apply_traced(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """Sampling coordinates of a standardised point, inside a JAX program."""
        h, (g, k, _) = self.hyper.shape[0], self.groups.shape
        first = self.hyper @ z[:h]
        if g == 0:
            return self.centre + first
        rest = jnp.einsum("gkj,jg->kg", self.groups, z[h:].reshape(k, g))
        rest = rest + jnp.einsum("gkc,gc->kg", self.lean, first[self.columns])
        return self.centre + jnp.concatenate([first, rest.ravel()])

    def apply(self, z: Values) -> Values:
        """Sampling coordinates of standardised points, shape (*batch, d)."""
        hyper, groups, lean, columns = self._arrays()
        h, (g, k, _) = len(hyper), groups.shape
        first = z[..., :h] @ hyper.T
        if g == 0:
            return self._moved(first)
        rest = np.einsum("gkj,...jg->...kg", groups, z[..., h:].reshape(*z.shape[:-1], k, g))
        rest += np.einsum("gkc,...gc->...kg", lean, first[..., columns])
        return self._moved(np.concatenate([first, rest.reshape(*z.shape[:-1], k * g)], axis=-1))

    def transpose_times(self, gradient: Values) -> Values:
        """Gradient (d,) in standardised coordinates from the one in sampling coordinates."""
        hyper, groups, lean, columns = self._arrays()
        h, (g, k, _) = len(hyper), groups.shape
        if g == 0:
            return np.asarray(hyper.T @ gradient)
        first, block = gradient[:h].copy(), gradient[h:].reshape(k, g)
        np.add.at(first, columns, np.einsum("gkc,kg->gc", lean, block))
        rest = np.einsum("gjk,jg->kg", groups, block)
        return np.concatenate([hyper.T @ first, rest.ravel()])

    def _moved(self, step: Values) -> Values:
        centre: Values = np.asarray(self.centre)
        return centre + step

    def _arrays(self) -> tuple[Values, Values, Values, npt.NDArray[np.int64]]:
        lean, columns = np.asarray(self.lean), np.asarray(self.columns)
        return np.asarray(self.hyper), np.asarray(self.groups), lean, columns


def dense_whitening(centre: Values, hessian: Values) -> Whitening:
    """Whitening by the whole Hessian of the negative log density."""
    return Whitening(
        centre=jax.device_put(centre),
        hyper=jax.device_put(_factor(hessian)),
        groups=jax.device_put(np.zeros((0, 1, 1))),
        lean=jax.device_put(np.zeros((0, 1, 1))),
        columns=jax.device_put(np.zeros((0, 1), dtype=np.int64)),
    )


def arrow_whitening(centre: Values, hessian: Arrow) -> Whitening:
    """Whitening by a Hessian in which groups meet only through the levels above them."""
    groups = _factor(hessian.groups)
    covariance = groups @ groups.transpose(0, 2, 1)
    lean = -covariance @ hessian.cross
    hyper = hessian.hyper.copy()
    rows, columns = hessian.columns[:, :, None], hessian.columns[:, None, :]
    np.add.at(hyper, (rows, columns), hessian.cross.transpose(0, 2, 1) @ lean)  # eliminates groups
    return Whitening(
        centre=jax.device_put(centre),
        hyper=jax.device_put(_factor(hyper)),
        groups=jax.device_put(groups),
        lean=jax.device_put(lean),
        columns=jax.device_put(hessian.columns),
    )


def _factor(hessian: Values) -> Values:
    """L with L L' = |H|^-1, of one matrix or a stack, by eigenvalues floored at `FLOOR`."""
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), FLOOR))[..., None, :])
