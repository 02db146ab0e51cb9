import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from allometry.laws import PNORM, Point, log_add_exp, natural, with_naturals

reals = st.floats(-700.0, 700.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@given(a=reals, b=reals)
def test_log_add_exp_and_its_slopes_are_those_of_numpy(a, b):
    value, slopes = jax.value_and_grad(lambda x: log_add_exp(x[0], x[1]))(jnp.array([a, b]))
    expected = np.logaddexp(a, b)
    assert float(value) == pytest.approx(expected, rel=1e-14, abs=1e-14)
    # exp of a difference up to 1400, itself rounded at 1e-13.
    shares = np.exp([a - expected, b - expected])
    np.testing.assert_allclose(slopes, shares, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("ends", [(-np.inf, -np.inf), (np.inf, np.inf), (-np.inf, 1.0), (3.0, 3.0)])
def test_log_add_exp_of_infinities_and_equals(ends):
    assert float(log_add_exp(*map(jnp.asarray, ends))) == np.logaddexp(*ends)


def test_log_add_exp_has_second_derivatives():
    check_grads(log_add_exp, (0.3, -0.9), order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_naturals_that_are_passed_along_are_what_a_law_would_compute():
    c = {name: jnp.array([-0.5, -0.7]) for name in PNORM.names}
    at = Point(log_params=jnp.array([1.0, -2.0]), log_tokens=jnp.array([0.5, 3.0]))
    assert (natural(with_naturals(c), "alpha") == jnp.exp(c["log_alpha"])).all()
    for function in (PNORM.log_loss, PNORM.imbalance):
        np.testing.assert_array_equal(function(with_naturals(c), at), function(c, at))
    wrong = with_naturals(c) | {"alpha": jnp.array([9.0, 9.0])}
    assert not np.array_equal(PNORM.log_loss(wrong, at), PNORM.log_loss(c, at))
