"""Linear algebra of one small matrix a group, as array programs over all groups.

LAPACK is called once a group, which makes a gradient several times as long.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cholesky(matrices: Float[Array, "group k k"]) -> Float[Array, "group k k"]:
    """Lower factors, a column of all groups at a time."""
    k = matrices.shape[-1]
    columns, rest = [], matrices
    for j in range(k):
        below = jnp.arange(k) >= j
        column = jnp.where(below, rest[:, :, j], 0.0) / jnp.sqrt(rest[:, j, j])[:, None]
        columns.append(column)
        rest = rest - column[:, :, None] * column[:, None, :]
    return jnp.stack(columns, axis=2)


def lower_solve(
    factor: Float[Array, "group k k"], right: Float[Array, "group k"], *, transposed: bool = False
) -> Float[Array, "group k"]:
    """L x = right, or L' x = right, a row of all groups at a time."""
    k = factor.shape[-1]
    x, rest = [right[:, 0]] * k, right
    for j in reversed(range(k)) if transposed else range(k):
        x[j] = rest[:, j] / factor[:, j, j]
        rest = rest - (factor[:, j] if transposed else factor[:, :, j]) * x[j][:, None]
    return jnp.stack(x, axis=1)


def spd_solve(
    matrices: Float[Array, "group k k"], right: Float[Array, "group k m"]
) -> Float[Array, "group k m"]:
    """P x = right for positive definite P, whose derivative is another solution."""
    return jax.lax.custom_linear_solve(  # type: ignore[no-any-return]
        lambda x: jnp.einsum("gij,gjm->gim", matrices, x),
        right,
        lambda _, b: _eliminated(jax.lax.stop_gradient(matrices), b),
        symmetric=True,
    )


def _eliminated(
    matrices: Float[Array, "group k k"], right: Float[Array, "group k m"]
) -> Float[Array, "group k m"]:
    """By Gauss and Jordan, in a loop: a program of few operations, which compiles fast."""
    k = matrices.shape[-1]

    def step(both: Array, j: Array) -> tuple[Array, None]:
        row, column = (jax.lax.dynamic_index_in_dim(both, j, axis, False) for axis in (1, 2))
        row = row / jax.lax.dynamic_index_in_dim(row, j, 1)
        others = both - column[:, :, None] * row[:, None, :]
        return jnp.where((jnp.arange(k) == j)[:, None], row[:, None, :], others), None

    both, _ = jax.lax.scan(step, jnp.concatenate([matrices, right], axis=2), jnp.arange(k))
    return both[:, :, k:]
