"""Priors as files: a posterior written down for the next study, and read back."""

from allometry.priors.export import as_prior
from allometry.priors.file import PriorFile, Quantity, Units
from allometry.priors.mixture import Mixture
from allometry.priors.reading import parse_prior, read_prior
from allometry.priors.use import PriorUse

__all__ = [
    "Mixture",
    "PriorFile",
    "PriorUse",
    "Quantity",
    "Units",
    "as_prior",
    "parse_prior",
    "read_prior",
]
