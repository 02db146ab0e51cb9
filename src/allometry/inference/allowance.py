"""How much work the chains of many thin groups may take: counted, so that all machines agree."""

import math
from typing import Any

from allometry.inference.coordinates import Density, Program

MOST_WORK = 2e9
"""Leapfrogs times the coordinates and runs of each: about half an hour of a CPU."""

OVERHEAD = 1000
"""Coordinates and runs that take as long as the rest of a leapfrog."""


def most_leapfrogs(program: Density, data: Any) -> float:
    """Leapfrogs that all chains together may take; without end but for many thin groups."""
    if not (isinstance(program, Program) and program.thin):
        return math.inf
    return MOST_WORK / (OVERHEAD + program.size + len(data.runs.group))
