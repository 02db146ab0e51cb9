"""Laws: loss, valley and latency as pure JAX functions."""

from allometry.laws.base import (
    Coefficient,
    Coefficients,
    Geometry,
    Law,
    Point,
    Scale,
    get_law,
    law_names,
    register_law,
)
from allometry.laws.two_term import CHINCHILLA, GAMMA, PNORM

__all__ = [
    "CHINCHILLA",
    "GAMMA",
    "PNORM",
    "Coefficient",
    "Coefficients",
    "Geometry",
    "Law",
    "Point",
    "Scale",
    "get_law",
    "law_names",
    "register_law",
]
