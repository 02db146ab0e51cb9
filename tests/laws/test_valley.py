import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.laws.valley import valley_log_loss


@given(
    minimum=st.floats(-1, 1),
    log_curvature=st.floats(-6, 0),
    skew=st.floats(-1, 1),
    x=st.floats(0.05, 4.0),
)
def test_the_minimum_and_the_curvature_are_where_the_coefficients_say(
    minimum, log_curvature, skew, x
):
    with jax.enable_x64(True):

        def at(x):
            return valley_log_loss(x, minimum, log_curvature, skew)

        assert float(at(0.0)) == pytest.approx(minimum, abs=1e-12)
        assert float(jax.grad(at)(0.0)) == pytest.approx(0.0, abs=1e-12)
        assert float(jax.grad(jax.grad(at))(0.0)) == pytest.approx(float(jnp.exp(log_curvature)))
        assert at(0.0) < at(x) < at(2 * x)
        assert at(0.0) < at(-x) < at(-2 * x)


def test_positive_skew_makes_small_models_lose_more():
    left = valley_log_loss(jnp.asarray(-2.0), 0.0, -4.0, 0.5)
    right = valley_log_loss(jnp.asarray(2.0), 0.0, -4.0, 0.5)
    assert left > right
