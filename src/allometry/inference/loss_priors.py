"""Priors of the loss model, each replaceable, each with its reason."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from allometry.errors import InputError
from allometry.inference.model import PriorArrays
from allometry.laws import Coefficient, Law


@dataclass(frozen=True, kw_only=True, slots=True)
class LogNormal:
    """A positive quantity by its median and the standard deviation of its logarithm."""

    median: float
    log_sd: float

    def __post_init__(self) -> None:
        if not (self.median > 0 and self.log_sd > 0):
            raise InputError(f"median and log_sd must be positive, got {self}")


NOISE = LogNormal(median=0.005, log_sd=1.0)
"""Run-to-run scale of log loss near the valley: seeds differ by 0.1-1 % in published sweeps."""

OFF_VALLEY = LogNormal(median=0.003, log_sd=1.2)
"""Extra scale at one e-fold of imbalance, growing with its square: runs far off the valley vary."""

NOISE_BETWEEN = 0.35
"""Spread of log noise between groups: a factor of 1.4 either way at one standard deviation."""

NO_OFF_VALLEY = LogNormal(median=1e-7, log_sd=0.1)
"""The same noise everywhere: what studies that fit one Huber width assume."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPriors:
    """Priors of the loss model.

    Attributes
    ----------
    coefficients : tuple of Coefficient
        Population mean, spread between groups and change per doubling of each coefficient, on the
        sampler's scale, relative to the table's reference run.
    noise, off_valley : LogNormal
        Relative noise of a run near the valley; and its growth with the squared imbalance.
    noise_between : float
        Standard deviation of the groups' log noise around the common one.
    """

    coefficients: tuple[Coefficient, ...]
    noise: LogNormal = NOISE
    off_valley: LogNormal = OFF_VALLEY
    noise_between: float = NOISE_BETWEEN

    def __post_init__(self) -> None:
        if not self.noise_between > 0:
            raise InputError(f"noise_between must be positive, got {self.noise_between}")
        for c in self.coefficients:
            if not min(c.scale, c.between, c.per_doubling) > 0:
                what = "scale, between and per_doubling must be positive"
                raise InputError(what, where=f"prior of {c.name}")

    def with_coefficient(self, name: str, **changes: Any) -> "LossPriors":
        """The same priors with some numbers of one coefficient replaced.

        Examples
        --------
        >>> from allometry.laws import CHINCHILLA
        >>> tight = default_priors(CHINCHILLA).with_coefficient("log_alpha", loc=-1.0, scale=0.1)
        >>> tight.coefficients[3].scale
        0.1
        """
        names = [c.name for c in self.coefficients]
        if name not in names:
            raise InputError(f"no coefficient {name!r}; there are {', '.join(names)}")
        changed = tuple(replace(c, **changes) if c.name == name else c for c in self.coefficients)
        return replace(self, coefficients=changed)

    def require_of(self, law: Law) -> None:
        """Refuse to be the priors of a law with other coefficients."""
        names = tuple(c.name for c in self.coefficients)
        if names != law.names:
            what = f"priors of {', '.join(names)}; law {law.name} has {', '.join(law.names)}"
            raise InputError(what, where="priors", hint="Begin with default_priors(get_law(...)).")

    def arrays(self) -> PriorArrays:
        """The numbers that the model reads."""

        def column(field: str) -> Any:
            return jnp.asarray(np.array([getattr(c, field) for c in self.coefficients]))

        def log_normal(prior: LogNormal) -> Any:
            return jnp.asarray(np.array([np.log(prior.median), prior.log_sd]))

        return PriorArrays(
            loc=column("loc"),
            scale=column("scale"),
            between=column("between"),
            per_doubling=column("per_doubling"),
            noise=log_normal(self.noise),
            off_valley=log_normal(self.off_valley),
            noise_between=jnp.asarray(np.array(self.noise_between)),
        )

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "LossPriors":
        """Priors from what `to_json` wrote."""
        return LossPriors(
            coefficients=tuple(Coefficient(**c) for c in document["coefficients"]),
            noise=LogNormal(**document["noise"]),
            off_valley=LogNormal(**document["off_valley"]),
            noise_between=document.get("noise_between", NOISE_BETWEEN),
        )


def default_priors(law: Law) -> LossPriors:
    """Weakly informative priors of a law, as its coefficients carry them."""
    return LossPriors(coefficients=law.coefficients)
