r"""The density of a latency posterior, in coordinates in which it is nearly Gaussian.

In the sites of `allometry.inference.latency_model` the posterior bends, for two reasons, and a
sampler takes small steps along a bent ridge. Both are undone here; the posterior is the same.

*Times add up.* Timings tell the sum of terms that stand in for one another, such as launches a call
and launches a layer. Of the terms' logarithms that is a curved ridge, of the terms a straight one.
A coefficient whose term takes a seconds (for a share of a ceiling: a = 1 / share - 1, the seconds
beyond those at the peak) is sampled as y with

.. math:: a = a_0 \log(1 + (e^s - 1)\,e^{y}) / s,

which is a_0 at y = 0, the prior's median, grows linearly from a_0 / s, and never turns negative:
from where timings tell it from nothing (`resolved`), but from a third of the median at least. What
timings do not tell stays a logarithm, in which its prior is Gaussian. A share that stands for no
rate (of the prompt's logits) multiplies its term: its logit is sampled as sinh(y), in which the
share itself is nearly straight between 0.08 and 0.92.

*Timings of a cell tell the cell's own seconds.* Its effects are what these differ by from the law,
so that they move with every coefficient that moves its seconds, and only as far as its timings tell
them. Sampled is how far effects are from what is expected of them given the coefficients, to first
order around the mode (`as_timings_tell`). Where launches take over what work took before, a cell's
seconds stay the same, and so do its effects: coordinates of launches and of work apart would move.

The Gaussian at the mode has the mean log seconds that the launches of a cell take, and those that
its work takes, in place of the effects. Of a layer's launches for one row and the further ones for
several, steps of several rows tell the sum alone: it has the logarithms of the sum and of their
ratio.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float
from numpyro.infer.util import log_density

from allometry.inference.latency_model import (
    LAUNCH_SPREAD,
    LatencyData,
    LatencyStructure,
    latency_model,
    latency_site_shapes,
    timing_law,
    timing_parts,
)
from allometry.inference.model import Sites
from allometry.laws.latency import LatencyLaw, log_seconds, time_shares
from allometry.laws.latency_parts import LatencyParts

Index = npt.NDArray[np.int64]

_STEEPEST = 3.0
"""A term grows linearly from about a third of its prior's median: twice the effective draws of one
that does from the median on. Lower, and what is left of the prior is skewed instead."""
_FLATTEST = 1e-3
"""Nearly a logarithm up to a thousand times the median."""

_EFFECTS = ("launch_effect", "work_effect")
_SUMMANDS = ("launch_one_row", "launch_more_rows")
"""Seconds whose sum is told better than either."""


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
        slopes = self.slopes()
        steep = _steepness(data)
        terms = steep * jnp.exp(slopes * (sites["theta"] - data.loc))
        # The inverse of softplus, stable.
        linear = terms + jnp.log(-jnp.expm1(-terms)) - jnp.log(jnp.expm1(steep))
        means = self._expected(self.parts(sites["theta"], data), data)
        straight = jnp.where(slopes == 0, sites["theta"], linear)
        straight = jnp.where(self._shares(), jnp.arcsinh(sites["theta"]), straight)
        one, more = self._summands()
        a, b = straight[..., one], straight[..., more]
        straight = straight.at[..., one].set(jnp.logaddexp(a, b)).at[..., more].set(a - b)
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
        slopes, steep = self.slopes(), _steepness(data)
        y = sites["theta"] + jnp.log(jnp.expm1(steep))  # its softplus is steep at zero
        log_terms = jnp.log(jax.nn.softplus(y))
        bent = data.loc + slopes * (log_terms - jnp.log(steep))
        one, more = self._summands()
        total, ratio = sites["theta"][..., one], sites["theta"][..., more]
        # As large a volume in the one as in the other: no Jacobian.
        apart = sites["theta"].at[..., one].set(total + jax.nn.log_sigmoid(ratio))
        apart = apart.at[..., more].set(total + jax.nn.log_sigmoid(-ratio))
        raw, shares = jnp.where(slopes == 0, apart, 0.0), self._shares()
        share_raw = jnp.where(shares, raw, 0.0)
        sites["theta"] = jnp.where(slopes == 0, jnp.where(shares, jnp.sinh(share_raw), raw), bent)
        log_jacobian = jnp.where(slopes == 0, 0.0, jax.nn.log_sigmoid(y) - log_terms)
        log_jacobian += jnp.log(jnp.cosh(share_raw))
        parts = self.parts(sites["theta"], data)
        means = self._expected(parts, data)
        sites |= {n: sites[n] - mean for n, mean in zip(_EFFECTS, means, strict=True)}
        return sites, log_jacobian.sum(-1), parts

    def _expected(
        self, parts: LatencyParts, data: LatencyData
    ) -> tuple[Float[Array, "*draws cell"], Float[Array, "*draws cell"]]:
        """What is taken off the coordinates of a cell for its effects on launches and on work."""
        if not self.linear:
            return _cell_means(parts, data)
        logs, cell = log_seconds(parts), data.timings.cell
        launch, work = ((logs * told).sum(-1) @ cell.T for told in data.told)
        return launch, work

    def slopes(self) -> Float[Array, " active"]:
        """How log terms grow with coefficients; zero where one is sampled as it is."""
        slopes = [self.law.coefficients[k].slope for k, _ in self.structure.active]
        return jnp.asarray(slopes) if self.linear else jnp.zeros(len(slopes))

    def _summands(self) -> tuple[Index, Index]:
        """Entries of ``theta`` taken as a sum and a ratio; none where terms are sampled."""
        names = [self.law.names[k] for k, _ in self.structure.active]
        where = [[i for i, n in enumerate(names) if n == part] for part in _SUMMANDS]
        one, more = (np.asarray([] if self.linear else at, dtype=np.int64) for at in where)
        return one, more

    def _shares(self) -> Bool[Array, " active"]:
        """Whether a coefficient is a share that is sampled nearly as it is, not as its logit."""
        kinds = [self.law.coefficients[k].kind for k, _ in self.structure.active]
        return jnp.asarray([self.linear and kind == "share" for kind in kinds])


def _steepness(data: LatencyData) -> Float[Array, " active"]:
    return jnp.clip(1.0 / jnp.maximum(data.resolved, 1e-6), _FLATTEST, _STEEPEST)


def _cell_means(
    parts: LatencyParts, data: LatencyData
) -> tuple[Float[Array, "*draws cell"], Float[Array, "*draws cell"]]:
    """Mean log seconds of each cell's launches and of its work, as the law has them."""
    timings = data.timings
    count = timings.cell @ timings.weight.sum(-1)

    def mean(seconds: Float[Array, "*draws setting slot"]) -> Float[Array, "*draws cell"]:
        return (jnp.log(seconds) * timings.weight).sum(-1) @ timings.cell.T / count

    return mean(parts.launch), mean(parts.overlapped)


@partial(jax.jit, static_argnums=1)
def as_timings_tell(
    x: Float[Array, " d"], program: LatencyProgram, data: LatencyData
) -> tuple[Float[Array, " d"], LatencyData]:
    r"""The same point in coordinates made for what the timings tell there.

    *Effects.* With J the shares of launches and of work in the seconds of a cell's timings, S the
    covariance of their errors and P the precision of the effects' prior, effects at given
    coefficients are expected at (J' S^-1 J + P)^-1 J' S^-1 r, r being what timings are off the law.

    *Terms.* With g the change of log seconds with a multiple of a term's prior median, the term is
    told from none from (g' S^-1 g)^{-1/2} of these medians on.
    """
    sites, timings = program.sites(x, data), data.timings
    theta = sites["theta"]
    parts = program.parts(theta, data)
    found = timing_law(program.law, program.structure, timings, sites, parts)
    precision = timings.weight / found.own
    common = found.shared / (1.0 + found.shared * precision.sum(-1))

    def weighed(slope: Float[Array, "*k setting slot"]) -> Float[Array, "*k setting slot"]:
        own = precision * slope
        return own - precision * (common * own.sum(-1))[..., None]

    launch = time_shares(parts)[..., 0]
    shares = jnp.stack([launch, 1.0 - launch])  # [effect, setting, slot]
    told = jnp.einsum("ist,jst,cs->cij", shares, weighed(shares), timings.cell)
    spreads = jnp.stack([jnp.log(LAUNCH_SPREAD), sites["log_work_spread"]])
    expected = jnp.linalg.inv(told + jnp.diag(jnp.exp(-2 * spreads)))
    known = jnp.einsum("cij,jst,cs->ist", expected, weighed(shares), timings.cell)

    by_log = jax.jacfwd(lambda theta: log_seconds(program.parts(theta, data)))(theta)
    medians = jnp.exp(program.slopes() * (theta - data.loc))
    slope = jnp.moveaxis(by_log, -1, 0) / medians[:, None, None]
    information = (slope * weighed(slope)).sum((-1, -2))
    resolved = 1.0 / jnp.sqrt(jnp.maximum(information, 1e-12))
    moved = replace(data, told=known, resolved=resolved)
    return program.vector(sites, moved), moved
