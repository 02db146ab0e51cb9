import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.laws import CHINCHILLA, GAMMA, INTERACTION, PNORM, Point, Scale

SCALE = Scale(params=3e8, tokens=6e9, loss=3.0)
coefficients = st.fixed_dictionaries(
    {
        "log_E": st.floats(-1.0, -0.1),
        "log_u": st.floats(-3.0, -0.7),
        "log_v": st.floats(-3.0, -0.7),
        "log_alpha": st.floats(-1.8, -0.4),
        "log_beta": st.floats(-1.8, -0.4),
        "log_gamma": st.floats(-1.2, 0.2),
    }
)
logs = st.floats(-6.0, 6.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def loss_of(law, c, params, tokens):
    point = Point(
        log_params=jnp.log(params / SCALE.params), log_tokens=jnp.log(tokens / SCALE.tokens)
    )
    return float(SCALE.loss * jnp.exp(law.log_loss(c, point)))


@pytest.mark.parametrize("law", [CHINCHILLA, PNORM, GAMMA], ids=lambda law: law.name)
@given(c=coefficients, n=logs, d=logs)
def test_loss_falls_with_either_resource_and_stays_above_E(law, c, n, d):
    params, tokens = SCALE.params * np.exp(n), SCALE.tokens * np.exp(d)
    here = loss_of(law, c, params, tokens)
    irreducible = SCALE.loss * np.exp(c["log_E"])
    assert irreducible < loss_of(law, c, 2 * params, tokens) < here
    assert irreducible < loss_of(law, c, params, 2 * tokens) < here


@given(c=coefficients, n=logs, d=logs)
def test_published_coefficients_give_the_same_loss_in_units_of_one(c, n, d):
    params, tokens = SCALE.params * np.exp(n), SCALE.tokens * np.exp(d)
    for law, formula in (
        (
            CHINCHILLA,
            lambda p: p["E"] + p["A"] / params ** p["alpha"] + p["B"] / tokens ** p["beta"],
        ),
        (
            GAMMA,
            lambda p: (
                p["E"]
                + (p["A"] / params ** p["alpha"] + p["B"] / tokens ** p["beta"]) ** p["gamma"]
            ),
        ),
        (
            PNORM,
            lambda p: (
                p["E"]
                + (
                    (p["A"] / params ** p["alpha"]) ** (1 / p["gamma"])
                    + (p["B"] / tokens ** p["beta"]) ** (1 / p["gamma"])
                )
                ** p["gamma"]
            ),
        ),
    ):
        published = law.published({k: jnp.asarray(v) for k, v in c.items()}, SCALE)
        # Powers of 1e9 with exponents near 1 lose six of sixteen digits.
        assert formula(published) == pytest.approx(loss_of(law, c, params, tokens), rel=1e-9)


def test_the_additive_law_is_the_p_norm_with_gamma_one():
    c = {"log_E": -0.4, "log_u": -1.5, "log_v": -1.7, "log_alpha": -1.0, "log_beta": -1.1}
    assert loss_of(CHINCHILLA, c, 1e9, 2e10) == pytest.approx(
        loss_of(PNORM, c | {"log_gamma": 0.0}, 1e9, 2e10), rel=1e-14
    )


def test_published_loss_of_chinchilla_70b():
    # Besiroglu et al. 2024, arXiv:2404.10102: E 1.8172, A 482.01, B 2085.43, 1.4e12 tokens.
    c = {
        "log_E": np.log(1.8172 / SCALE.loss),
        "log_u": np.log(482.01 / SCALE.loss) - 0.3478 * np.log(SCALE.params),
        "log_v": np.log(2085.43 / SCALE.loss) - 0.3658 * np.log(SCALE.tokens),
        "log_alpha": np.log(0.3478),
        "log_beta": np.log(0.3658),
    }
    by_hand = 1.8172 + 482.01 * 70e9**-0.3478 + 2085.43 * 1.4e12**-0.3658
    assert loss_of(CHINCHILLA, c, 70e9, 1.4e12) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("law", [CHINCHILLA, PNORM, INTERACTION], ids=lambda law: law.name)
@given(c=coefficients)
def test_sampling_coordinates_go_there_and_back_with_the_right_volume(law, c):
    slopes = {"v_slope": 0.05, "beta_slope": -0.02}
    vector = jnp.asarray([(c | slopes)[name] for name in law.names])
    x = law.geometry.inverse(vector)
    assert jnp.allclose(law.geometry.forward(x), vector, atol=1e-10)
    _, log_det = jnp.linalg.slogdet(jax.jacfwd(law.geometry.forward)(x))
    assert float(law.geometry.log_det(x)) == pytest.approx(float(log_det), abs=1e-8)


@given(c=coefficients, n=logs, d=logs)
def test_imbalance_is_the_log_ratio_of_the_returns(c, n, d):
    def log_loss(n, d):
        return PNORM.log_loss(c, Point(log_params=n, log_tokens=d))

    of_params, of_tokens = jax.grad(log_loss, argnums=(0, 1))(n, d)
    p = np.exp(-c["log_gamma"])
    terms = PNORM.imbalance(c, Point(log_params=jnp.asarray(n), log_tokens=jnp.asarray(d)))
    # The return is alpha u^p against beta v^p; t compares alpha u with beta v.
    expected = p * (float(terms) - c["log_alpha"] + c["log_beta"]) + c["log_alpha"] - c["log_beta"]
    if min(-of_params, -of_tokens) > 1e-250:
        assert float(jnp.log(of_params / of_tokens)) == pytest.approx(expected, abs=1e-6)
