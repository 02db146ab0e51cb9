"""Kaplan, interaction and repetition: limits that must hold exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allometry.laws import CHINCHILLA, INTERACTION, KAPLAN, REPETITION, Point, Scale

ADDITIVE = {"log_E": -0.4, "log_u": -1.5, "log_v": -1.7, "log_alpha": -1.0, "log_beta": -1.1}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def at(n, d, **columns):
    return Point(
        log_params=jnp.asarray(n),
        log_tokens=jnp.asarray(d),
        columns={name: jnp.asarray(value) for name, value in columns.items()},
    )


def test_kaplan_is_its_published_formula():
    # arXiv:2001.08361, table 5: alpha_N .076, N_c 6.5e13, alpha_D .103, D_c 1.8e13.
    alpha, beta, n_c, d_c = 0.076, 0.103, 6.5e13, 1.8e13
    scale = Scale(params=1e9, tokens=1e10, loss=3.0)
    c = {
        "log_u": alpha * np.log(n_c / scale.params) - np.log(scale.loss),
        "log_v": beta * np.log(d_c / scale.tokens) - np.log(scale.loss),
        "log_alpha": np.log(alpha),
        "log_beta": np.log(beta),
    }
    params, tokens = 4e9, 3e10
    published = ((n_c / params) ** (alpha / beta) + d_c / tokens) ** beta
    point = at(np.log(params / scale.params), np.log(tokens / scale.tokens))
    assert float(scale.loss * jnp.exp(KAPLAN.log_loss(c, point))) == pytest.approx(published)
    assert float(KAPLAN.published(c, scale)["A"]) == pytest.approx(n_c**alpha)


def test_interaction_without_slopes_is_the_additive_law():
    c = ADDITIVE | {"v_slope": 0.0, "beta_slope": 0.0}
    point = at([-2.0, 0.0, 3.0], [1.0, -2.0, 2.0])
    assert INTERACTION.log_loss(c, point) == pytest.approx(CHINCHILLA.log_loss(ADDITIVE, point))
    bent = INTERACTION.log_loss(c | {"beta_slope": 0.2}, point)
    assert float(bent[1]) == pytest.approx(float(CHINCHILLA.log_loss(ADDITIVE, point)[1]))
    assert abs(float(bent[2] - CHINCHILLA.log_loss(ADDITIVE, point)[2])) > 1e-3


def test_one_epoch_of_a_model_that_is_not_too_large_is_the_additive_law():
    c = ADDITIVE | {"log_repeats_tokens": 2.7, "log_repeats_params": 1.7}
    point = at([-3.0, -2.0], [1.0, 2.0], epochs=[1.0, 1.0])
    assert REPETITION.log_loss(c, point) == pytest.approx(CHINCHILLA.log_loss(ADDITIVE, point))


def test_repeated_tokens_help_ever_less_and_never_more_than_new_ones():
    c = ADDITIVE | {"log_repeats_tokens": np.log(15.4), "log_repeats_params": np.log(5.3)}
    unique, epochs = 0.0, np.array([1.0, 2.0, 4.0, 16.0, 64.0, 1000.0, 4000.0])
    point = at(np.full(7, -3.0), unique + np.log(epochs), epochs=epochs)
    loss = np.asarray(REPETITION.log_loss(c, point))
    fresh = np.asarray(CHINCHILLA.log_loss(ADDITIVE, point))
    assert (np.diff(loss) <= 0).all()
    assert (loss[1:] > fresh[1:]).all()
    assert loss[1] - fresh[1] < 1e-2  # the second epoch is almost as good as new tokens
    assert loss[-2] == pytest.approx(loss[-1], abs=1e-6)


def test_excess_params_are_worth_less_when_unique_tokens_are_few():
    c = ADDITIVE | {"log_repeats_tokens": 2.7, "log_repeats_params": 1.7}
    large = at(4.0, 0.0, epochs=1.0)
    assert float(REPETITION.log_loss(c, large)) > float(CHINCHILLA.log_loss(ADDITIVE, large))
