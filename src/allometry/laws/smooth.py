"""What laws are made of, written so that a compiled gradient is cheap."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws.base import Coefficients


def natural(c: Coefficients, name: str) -> Float[Array, "*points"]:
    """The positive quantity behind a coefficient named ``log_<name>``.

    Callers that have many points to a group compute it once a group and pass it along under its own
    name (`with_naturals`): exp at every point of a gathered coefficient is what a gradient spends
    most of its time on.
    """
    return c[name] if name in c else jnp.exp(c[f"log_{name}"])


def with_naturals(c: Coefficients) -> dict[str, Float[Array, "*points"]]:
    """Coefficients, and beside each ``log_<name>`` the quantity itself as ``<name>``."""
    logs = (name for name in c if name.startswith("log_"))
    return {name.removeprefix("log_"): jnp.exp(c[name]) for name in logs} | dict(c)


@jax.custom_jvp
def log_add_exp(a: Float[Array, "*points"], b: Float[Array, "*points"]) -> Float[Array, "*points"]:
    """log(e^a + e^b), whose derivatives take no further exponentials (`jnp.logaddexp`: two)."""
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-_apart(a, b)))


def _apart(a: Float[Array, "*points"], b: Float[Array, "*points"]) -> Float[Array, "*points"]:
    return jnp.where(a == b, 0.0, jnp.abs(a - b))  # two infinities are not apart


@log_add_exp.defjvp
def _log_add_exp_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, b = primals
    by_a, by_b = tangents
    smaller = jnp.exp(-_apart(a, b))
    large = 1.0 / (1.0 + smaller)
    small = smaller * large
    value = jnp.maximum(a, b) + jnp.log1p(smaller)
    return value, jnp.where(a >= b, large, small) * by_a + jnp.where(a >= b, small, large) * by_b
