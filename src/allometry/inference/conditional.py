"""Coordinates of many thin groups: of each given the levels above it, by its runs and population.

A group with fewer runs than coefficients is fixed by its runs in some directions, ever more tightly
the smaller the noise, and by its population in the others, ever more tightly the smaller the
spreads. No fixed coordinates suit it: around its runs or around its population, chains meet a
funnel in the noise or in the spreads. Here the group's density is taken for a Gaussian *given*
noise, spreads s and population mu, its runs expanded around mu. In the coordinates x of the law's
`Geometry`, with G = d theta / dx,

    P = G' (s^-2 + J' W J) G,    x = x(mu) + P^-1 G' J' W r + P^-1/2 z

with J = d log loss / d theta and r the residuals at mu, and W the information of a run's noise. z
is nearly a unit Gaussian whatever the levels above are. Without runs it is the group's distance
from its population in spreads.

Over a population's spread log loss bends by more than small noise. So the coordinates that few runs
hardly tell (all but the level and the slopes) are placed first, in this way, and the others given
those, with the runs expanded anew where they are. The mean of the population and levels of the
first group column are placed alike, from the runs of all: see `conditional_levels`. The map is one
to one for every P, so the posterior is that of the model, however rough the expansions. A law
without a geometry has its groups placed in its coefficients at once, and its mean as it is.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.conditional_levels import FIRM, Normal, levels, population
from allometry.inference.expanded import told
from allometry.inference.model import PriorArrays, RunArrays, Sites, Structure, group_location
from allometry.inference.small_matrices import cholesky, lower_solve
from allometry.laws import Geometry, Law

AS_IT_IS = Geometry(
    forward=lambda x: x, inverse=lambda x: x, log_det=lambda x: jnp.zeros_like(x[0]), unmoved=0
)
"""Coordinates of a law that has none of its own."""


def to_model(
    raw: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> tuple[Sites, Float[Array, ""]]:
    """Sites of the model from sampled ones, and the log determinant of the map."""
    sites, log_det = dict(raw), jnp.zeros(())
    if law.geometry is not None:
        loose = raw["mean"][FIRM:]
        top = population(loose, sites, law, structure, runs, priors)
        z = [raw["mean"][:FIRM], *([raw["per_doubling"]] if structure.covariate else [])]
        (found,) = top.at(jnp.concatenate(z)[None])
        x = jnp.concatenate([found[:FIRM], loose])[:, None]
        sites["mean"] = law.geometry.forward(x)[:, 0]
        if structure.covariate:
            sites["per_doubling"] = found[FIRM:]
        log_det = log_det + law.geometry.log_det(x)[0] + top.log_det
    if structure.nested:
        spread, above = sites["log_parent_spread"], levels(sites, law, structure, runs, priors)
        distance = above.at(raw["parent"].T).T
        sites["parent"] = sites["mean"][:, None] + jnp.exp(spread)[:, None] * distance
        log_det = log_det + above.log_det + structure.n_parents * spread.sum()
    own = _Groups(sites, law, structure, runs, priors)
    x, of_groups = own.place(raw["theta"].T)
    sites["theta"] = own.geometry.forward(x.T)
    return sites, log_det + of_groups + own.geometry.log_det(x.T).sum()


def from_model(
    sites: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> Sites:
    """What is sampled, of given sites; the inverse of `to_model`."""
    raw = dict(sites)
    if law.geometry is not None:
        x = law.geometry.inverse(sites["mean"][:, None])[:, 0]
        top = population(x[FIRM:], sites, law, structure, runs, priors)
        found = [x[:FIRM], *([sites["per_doubling"]] if structure.covariate else [])]
        (z,) = top.distance(jnp.concatenate(found)[None])
        raw["mean"] = jnp.concatenate([z[:FIRM], x[FIRM:]])
        if structure.covariate:
            raw["per_doubling"] = z[FIRM:]
    if structure.nested:
        spread, above = sites["log_parent_spread"], levels(sites, law, structure, runs, priors)
        distance = (sites["parent"] - sites["mean"][:, None]) / jnp.exp(spread)[:, None]
        raw["parent"] = above.distance(distance.T).T
    own = _Groups(sites, law, structure, runs, priors)
    raw["theta"] = own.displaced(own.geometry.inverse(sites["theta"]).T).T
    return raw


class _Groups:
    """Groups given the levels above them: first the coordinates that runs hardly tell."""

    def __init__(
        self, sites: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
    ) -> None:
        self.geometry = law.geometry or AS_IT_IS
        self._firm = 0 if law.geometry is None else FIRM
        self._model = (sites, law, structure, runs)
        self._location, self._scale = group_location(sites, structure, runs, priors)
        x = self.geometry.inverse(self._location).T
        step, factor = self._normal(x)
        self._whole = Normal(x + step, factor)
        self._loose = Normal((x + step)[:, self._firm :], factor[:, self._firm :, self._firm :])

    def place(self, z: Float[Array, "group k"]) -> tuple[Float[Array, "group k"], Float[Array, ""]]:
        """Coordinates of the geometry of sampled ones, and the log determinant."""
        f = self._firm
        x = self._whole.at(z.at[:, :f].set(0.0))  # the first ones where the others make them likely
        if f == 0:
            return x, self._whole.log_det
        firm = self._given(x)
        placed = jnp.concatenate([firm.at(z[:, :f]), x[:, f:]], axis=1)
        return placed, self._loose.log_det + firm.log_det

    def displaced(self, x: Float[Array, "group k"]) -> Float[Array, "group k"]:
        """The inverse of `place`."""
        f = self._firm
        loose = self._loose.distance(x[:, f:])
        if f == 0:
            return loose
        likely = self._whole.at(jnp.pad(loose, ((0, 0), (f, 0))))
        return jnp.concatenate([self._given(likely).distance(x[:, :f]), loose], axis=1)

    def _given(self, x: Float[Array, "group k"]) -> Normal:
        """The first coordinates given the others, with the runs expanded at x."""
        step, factor = self._normal(x, self._firm)
        return Normal(x[:, : self._firm] + step, factor)

    def _normal(
        self, x: Float[Array, "group k"], rows: int | None = None
    ) -> tuple[Float[Array, "group j"], Float[Array, "group j j"]]:
        """Step from x to the mean of its first `rows`, and their precision's factor."""
        sites, law, structure, runs = self._model
        theta = self.geometry.forward(x.T)
        by_x = self._slopes(x, rows)
        own = told(theta, sites, law, structure, runs)
        scaled = by_x / self._scale.T[:, :, None]
        precision = jnp.einsum("gki,gkj->gij", scaled, scaled)
        precision = precision + jnp.einsum("gki,gkj->gij", by_x, own.information @ by_x)
        back = ((self._location - theta) / self._scale).T
        push = jnp.einsum("gki,gk->gi", by_x, own.push)
        push = push + jnp.einsum("gki,gk->gi", scaled, back)
        factor = cholesky(precision)
        return lower_solve(factor, lower_solve(factor, push), transposed=True), factor

    def _slopes(self, x: Float[Array, "group k"], rows: int | None) -> Float[Array, "group k j"]:
        """Derivatives of the coefficients by the first `rows` coordinates."""

        def along(direction: Float[Array, " k"]) -> Float[Array, "k group"]:
            tangent = jnp.broadcast_to(direction[:, None], x.T.shape)
            moved: Array = jax.jvp(self.geometry.forward, (x.T,), (tangent,))[1]
            return moved

        columns = jax.vmap(along)(jnp.eye(x.shape[1])[:rows])
        return columns.transpose(2, 1, 0)
