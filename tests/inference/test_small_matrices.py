"""Small matrices of many groups at once, beside NumPy's one at a time."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from allometry.inference.conditional_levels import Normal
from allometry.inference.small_matrices import cholesky, lower_solve, spd_solve


@pytest.fixture
def matrices():
    roots = np.random.default_rng(0).normal(size=(7, 4, 6))
    with jax.enable_x64(True):
        yield jnp.asarray(roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(4))


def test_factors_and_solutions_are_those_of_each_matrix(matrices):
    right = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4, 3)))
    factor = cholesky(matrices)
    assert np.allclose(factor, np.linalg.cholesky(matrices), rtol=1e-12)
    assert np.allclose(spd_solve(matrices, right), np.linalg.solve(matrices, right), rtol=1e-9)
    for transposed in (False, True):
        found = lower_solve(factor, right[:, :, 0], transposed=transposed)
        back = factor.transpose(0, 2, 1) if transposed else factor
        assert np.allclose(back @ found[:, :, None], right[:, :, :1], atol=1e-12)


def test_derivatives_of_a_solution_are_those_of_differences(matrices):
    right = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4, 3)))

    def total(m, b):
        return (spd_solve((m + m.transpose(0, 2, 1)) / 2, b) ** 3).sum()

    jax.test_util.check_grads(total, (matrices, right), order=1, modes=["fwd", "rev"])


def test_a_normal_has_its_precision_and_goes_back(matrices):
    mean = jnp.asarray(np.random.default_rng(2).normal(size=(7, 4)))
    normal = Normal(mean, cholesky(matrices))
    z = jnp.asarray(np.random.default_rng(3).normal(size=(7, 4)))
    x = normal.at(z)
    assert np.allclose(normal.distance(x), z, atol=1e-12)
    apart = x - mean
    assert np.allclose(jnp.einsum("gi,gij,gj->g", apart, matrices, apart), (z**2).sum(axis=1))
    assert np.allclose(normal.log_det, -0.5 * np.linalg.slogdet(matrices)[1].sum())
