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
from allometry.laws.interaction import INTERACTION
from allometry.laws.kaplan import KAPLAN
from allometry.laws.repetition import REPETITION
from allometry.laws.two_term import CHINCHILLA, GAMMA, PNORM

__all__ = [
    "CHINCHILLA",
    "GAMMA",
    "INTERACTION",
    "KAPLAN",
    "PNORM",
    "REPETITION",
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
