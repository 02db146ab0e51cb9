"""Priors as files: a posterior written down for the next study, and read back."""

from allometry.priors.default import LibraryPriorWarning, choose_library, library_line
from allometry.priors.export import as_prior
from allometry.priors.file import PriorFile, Quantity, Units
from allometry.priors.forest import forest_table
from allometry.priors.library import find_prior, library_names, library_prior, library_table
from allometry.priors.mixture import Mixture
from allometry.priors.reading import parse_prior, read_prior
from allometry.priors.studies import typical_prior
from allometry.priors.tables import overlay_table, prior_table
from allometry.priors.use import PriorUse

__all__ = [
    "LibraryPriorWarning",
    "Mixture",
    "PriorFile",
    "PriorUse",
    "Quantity",
    "Units",
    "as_prior",
    "choose_library",
    "find_prior",
    "forest_table",
    "library_line",
    "library_names",
    "library_prior",
    "library_table",
    "overlay_table",
    "parse_prior",
    "prior_table",
    "read_prior",
    "typical_prior",
]
