r"""The density of a latency posterior, in coordinates in which it is nearly Gaussian.

In the sites of `allometry.inference.latency_model` the posterior bends, for two reasons, and a
sampler takes small steps along a bent ridge. Both are undone here; the posterior is the same.

*Times add up.* Timings tell the sum of terms that stand in for one another, such as launches a call
and launches a layer. Of the terms' logarithms that is a curved ridge, of the terms a straight one.
A coefficient whose term takes a seconds (for a share of a ceiling: a = 1 / share - 1, the seconds
beyond those at the peak) is sampled as y with

.. math:: a = a_0 \log(1 + (e^3 - 1)\,e^{y}) / 3,

which is a_0 at y = 0, the prior's median, grows linearly from a third of it, and never turns
negative. A share that stands for no rate (of the prompt's logits) multiplies its term: its logit is
sampled as sinh(y), in which the share itself is nearly straight between 0.08 and 0.92.

*Timings of a cell tell the cell's own seconds.* Its effects are what these differ by from the law,
so that they move with every coefficient. Sampled are the mean log seconds that the launches of a
cell take, and those that its work takes; the effects follow.
"""

from dataclasses import dataclass
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from numpyro.infer.util import log_density

from allometry.inference.latency_model import (
    LatencyData,
    LatencyStructure,
    latency_model,
    latency_site_shapes,
    timing_parts,
)
from allometry.inference.model import Sites
from allometry.laws.latency import LatencyLaw
from allometry.laws.latency_parts import LatencyParts

_LINEAR = 3.0
"""A term grows linearly from about a third of its prior's median: twice the effective draws of one
that does from the median on. Lower, and a term that the prior alone tells is skewed instead."""
_BEND = float(np.log(np.expm1(_LINEAR)))
"""log(1 + exp(y + this)) is `_LINEAR` at y = 0."""

_EFFECTS = ("launch_effect", "work_effect")


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProgram:
    """The density of a flat vector of coordinates, as `allometry.inference.nuts` samples it.

    Attributes
    ----------
    law, structure
        What the density is of.
    linear : bool
        Sample terms (for NUTS); else their logarithms, in which the prior is Gaussian: a Gaussian
        at the mode is then right where no timing tells a term.
    """

    law: LatencyLaw
    structure: LatencyStructure
    linear: bool

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in latency_site_shapes(self.structure).values())

    def sites(self, x: Float[Array, "*draws d"], data: LatencyData) -> Sites:
        """Sites of flat vectors of coordinates, draws first."""
        return self._sites(x, data)[0]

    def parts(self, theta: Float[Array, "*draws active"], data: LatencyData) -> LatencyParts:
        """Seconds of all timings by what they are spent on; no effects."""
        return timing_parts(self.law, self.structure, data.timings, theta)

    def vector(self, sites: Sites, data: LatencyData) -> Float[Array, "*draws d"]:
        """Flat vectors whose sites these are: the inverse of `sites`."""
        slopes = self._slopes()
        terms = _LINEAR * jnp.exp(slopes * (sites["theta"] - data.loc))
        linear = terms + jnp.log(-jnp.expm1(-terms)) - _BEND  # the inverse of softplus, stable
        means = _cell_means(self.parts(sites["theta"], data), data)
        straight = jnp.where(slopes == 0, sites["theta"], linear)
        straight = jnp.where(self._shares(), jnp.arcsinh(sites["theta"]), straight)
        coordinates = sites | {"theta": straight}
        coordinates |= {n: sites[n] + mean for n, mean in zip(_EFFECTS, means, strict=True)}
        shapes = latency_site_shapes(self.structure)
        draws = sites["theta"].shape[:-1]
        return jnp.concatenate(
            [coordinates[n].reshape(*draws, prod(shape)) for n, shape in shapes.items()], axis=-1
        )

    def log_density(self, x: Float[Array, " d"], data: LatencyData) -> Float[Array, ""]:
        """Log joint density of a flat vector of coordinates, up to a constant."""
        sites, log_jacobian, parts = self._sites(x, data)
        joint = log_density(latency_model, (self.law, self.structure, data, parts), {}, sites)[0]
        return jnp.asarray(joint + log_jacobian)

    def _sites(
        self, x: Float[Array, "*draws d"], data: LatencyData
    ) -> tuple[Sites, Float[Array, "*draws"], LatencyParts]:
        sites, start = {}, 0
        for name, shape in latency_site_shapes(self.structure).items():
            stop = start + prod(shape)
            sites[name] = x[..., start:stop].reshape(*x.shape[:-1], *shape)
            start = stop
        slopes, y = self._slopes(), sites["theta"] + _BEND
        log_terms = jnp.log(jax.nn.softplus(y))
        bent = data.loc + slopes * (log_terms - jnp.log(_LINEAR))
        raw, shares = jnp.where(slopes == 0, sites["theta"], 0.0), self._shares()
        share_raw = jnp.where(shares, raw, 0.0)
        sites["theta"] = jnp.where(slopes == 0, jnp.where(shares, jnp.sinh(share_raw), raw), bent)
        log_jacobian = jnp.where(slopes == 0, 0.0, jax.nn.log_sigmoid(y) - log_terms)
        log_jacobian += jnp.log(jnp.cosh(share_raw))
        parts = self.parts(sites["theta"], data)
        means = _cell_means(parts, data)
        sites |= {n: sites[n] - mean for n, mean in zip(_EFFECTS, means, strict=True)}
        return sites, log_jacobian.sum(-1), parts

    def _slopes(self) -> Float[Array, " active"]:
        """Zero where a coefficient is sampled as it is."""
        slopes = [self.law.coefficients[k].slope for k, _ in self.structure.active]
        return jnp.asarray(slopes) if self.linear else jnp.zeros(len(slopes))

    def _shares(self) -> Bool[Array, " active"]:
        """Whether a coefficient is a share that is sampled nearly as it is, not as its logit."""
        kinds = [self.law.coefficients[k].kind for k, _ in self.structure.active]
        return jnp.asarray([self.linear and kind == "share" for kind in kinds])


def _cell_means(
    parts: LatencyParts, data: LatencyData
) -> tuple[Float[Array, "*draws cell"], Float[Array, "*draws cell"]]:
    """Mean log seconds of each cell's launches and of its work, as the law has them."""
    timings = data.timings
    count = timings.cell @ timings.weight.sum(-1)

    def mean(seconds: Float[Array, "*draws setting slot"]) -> Float[Array, "*draws cell"]:
        return (jnp.log(seconds) * timings.weight).sum(-1) @ timings.cell.T / count

    return mean(parts.launch), mean(parts.overlapped)
