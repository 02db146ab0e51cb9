r"""A valley: loss against log N (or log D) at fixed compute.

.. math:: \log L = m + c\,\frac{e^{-a x}/a + e^{b x}/b - 1/a - 1/b}{a + b},
    \qquad x = \log N - \log N^*

The shape that two power laws make along an iso-compute curve: minimum m at x = 0, curvature c
there, and walls that rise like powers. A parabola is its limit for a, b -> 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

STEEPNESS = 0.35
"""Geometric mean of the two wall exponents: public loss laws have alpha and beta of 0.25 to 0.5."""


def valley_log_loss(
    x: Float[Array, "*points"],
    minimum: Float[Array, "*points"],
    log_curvature: Float[Array, "*points"],
    skew: Float[Array, "*points"],
) -> Float[Array, "*points"]:
    """Log loss at a distance from the minimum.

    Parameters
    ----------
    x : Array, shape (*points)
        log N - log N*, in e-folds.
    minimum : Array, shape (*points)
        Log loss at the minimum.
    log_curvature : Array, shape (*points)
        Log of the second derivative of log loss there.
    skew : Array, shape (*points)
        log(a / b): positive if small models lose more than large ones.

    Returns
    -------
    Array, shape (*points)

    Examples
    --------
    >>> round(float(valley_log_loss(jnp.array(0.1), 1.0, jnp.log(0.02), 0.0)) - 1.0, 6)
    0.0001
    """
    a, b = STEEPNESS * jnp.exp(skew / 2), STEEPNESS * jnp.exp(-skew / 2)
    rise = jnp.expm1(-a * x) / a + jnp.expm1(b * x) / b
    return minimum + jnp.exp(log_curvature) * rise / (a + b)
