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
from allometry.laws.smooth import log_add_exp, natural, with_naturals
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
    "log_add_exp",
    "natural",
    "register_law",
    "with_naturals",
]
