"""A law keeps its curve when its reference run changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allometry.laws import Point, get_law

SHIFT = (np.log(7.0), np.log(0.3), np.log(1.4))
AT = (
    np.array([-3.0, 0.0, 2.0, 5.0]),
    np.array([4.0, 0.0, -1.0, 6.0]),
    np.array([1.0, 1.5, 4.0, 9.0]),
)


def coefficients(law, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray([c.loc + c.scale * rng.normal(size=4) for c in law.coefficients])


def log_loss(law, theta, log_params, log_tokens):
    columns = {"epochs": jnp.asarray(AT[2])} if law.columns else {}
    at = Point(log_params=log_params, log_tokens=log_tokens, columns=columns)
    return law.log_loss(dict(zip(law.names, theta, strict=True)), at)


@pytest.mark.parametrize("name", ["pnorm", "chinchilla", "gamma", "kaplan", "repetition"])
def test_the_loss_of_a_run_is_the_same_relative_to_another_run(name):
    law = get_law(name)
    with jax.enable_x64(True):
        theta = coefficients(law)
        moved = law.rereference(theta, jnp.asarray(SHIFT))
        here = log_loss(law, theta, AT[0], AT[1])
        there = log_loss(law, moved, AT[0] - SHIFT[0], AT[1] - SHIFT[1])
        # Float64 of a few additions: 1e-12 is a thousand roundings.
        np.testing.assert_allclose(there + SHIFT[2], here, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["pnorm", "chinchilla", "kaplan", "repetition"])
def test_a_change_of_reference_keeps_volume_and_has_an_inverse(name):
    law = get_law(name)
    with jax.enable_x64(True):
        theta = coefficients(law)[:, 0]
        shift = jnp.asarray(SHIFT)
        jacobian = jax.jacfwd(lambda c: law.rereference(c, shift))(theta)
        assert abs(float(jnp.linalg.det(jacobian)) - 1.0) < 1e-12
        back = law.rereference(law.rereference(theta, shift), -shift)
        np.testing.assert_allclose(back, theta, rtol=0, atol=1e-12)


def test_a_law_whose_form_a_new_reference_would_break_says_so():
    assert get_law("interaction").rereference is None
