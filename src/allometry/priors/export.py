"""A posterior as a prior for the next study."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.fitted_range import Cells
from allometry.inference.imported import to_file
from allometry.inference.population import new_theta
from allometry.laws import Law
from allometry.priors.file import (
    NOISE_QUANTITIES,
    Kind,
    Parameterisation,
    PriorFile,
    Quantity,
    Units,
    law_quantities,
)
from allometry.priors.mixture import Mixture, choose_mixture
from allometry.priors.worth import worth_of_file

Array = npt.NDArray[np.float64]

NEVER_RUN = "one that was never run"
"""Stands for an architecture (or another level) that no group has."""


def as_prior(
    posterior: Posterior,
    *,
    kind: Kind = "new-group",
    discount: float = 1.0,
    architecture: str | None = None,
    context_length: float | None = None,
    name: str = "",
    description: str = "",
    units: Units | None = None,
    seed: int = 0,
    force: bool = False,
) -> PriorFile:
    """What a study knows, for the next one.

    Parameters
    ----------
    posterior : Posterior
    kind : {"new-group", "groups"}
        The prediction for a group that was never run, with the spread between groups: what a new
        study wants. Or the posterior of the groups themselves: to go on with the same study.
    discount : float
        Power that the likelihood is raised to, above 0 and at most 1: .5 counts each run half.
    architecture : str, optional
        ``new-group``: of this architecture, whose own effect is then kept. ``groups``: its groups.
    context_length : float, optional
        ``new-group``: at this context length. ``groups``: the groups of it.
    name, description : str
        By default from the posterior's source.
    units : Units, optional
        By default params with embeddings and the posterior's unit of loss.
    seed : int
    force : bool
        Export although the fit did not converge.

    Raises
    ------
    InputError
        If an argument is out of range, a group is unknown, or there are too few draws.
    """
    posterior.require_converged(force=force)
    if not 0 < discount <= 1:
        raise InputError(f"discount must be above 0 and at most 1, got {discount}", where="prior")
    if kind not in ("new-group", "groups"):
        raise InputError(f"kind must be new-group or groups, got {kind!r}", where="prior")
    record = posterior.record
    draws, quantities, groups = quantity_draws(
        posterior, kind, architecture=architecture, context_length=context_length, seed=seed
    )
    mixture, goodness = choose_mixture(draws, seed=seed)
    if discount < 1:
        before = quantity_draws(
            of_prior(posterior),
            kind,
            architecture=architecture,
            context_length=context_length,
            seed=seed + 1,
        )[0]
        mixture = discounted(mixture, before, discount)
    file = PriorFile(
        name=name or f"{_plain_name(record.source)} ({kind})",
        description=description or _describe(posterior, kind, groups),
        kind=kind,
        law=posterior.law.name,
        parameterisation=parameterisation_of(posterior.law),
        reference=record.scale,
        units=units or Units(loss=record.loss_unit),
        quantities=quantities,
        groups=groups,
        mixture=mixture,
        discount=discount,
        # Not of a new group of one study: what all of its groups' laws take up alike is not in
        # the spread between them, as it is between studies.
        fitted_over=_cells(posterior) if kind == "groups" else (),
        goodness=goodness,
        provenance={
            "source": record.source,
            "sha256": record.sha256,
            "runs": int(posterior.idata["constant_data"].sizes["run"]),
            "groups": [str(g) for g in posterior.idata["posterior"]["group"].to_numpy()],
            "versions": dict(record.versions),
            "converged": record.convergence.converged,
        },
    )
    return replace(file, worth_runs=worth_of_file(file, posterior))


def _cells(posterior: Posterior) -> Cells:
    """Cells of the studies whose law the study itself imported, for whoever goes on with it."""
    ranges = posterior.record.fitted_ranges
    return tuple(cell for one in ranges if one.weight > 0.5 for cell in one.cells)


def parameterisation_of(law: Law) -> Parameterisation:
    """How a law's quantities are written: at its centre, where it has one."""
    return "coefficients" if law.geometry is None else "centre"


def of_prior(posterior: Posterior) -> Posterior:
    """The posterior with draws of its prior in place of its own."""
    tree = posterior.idata.copy()
    tree["posterior"] = tree["prior"]
    return replace(posterior, idata=tree)


def quantity_draws(
    posterior: Posterior,
    kind: Kind,
    *,
    architecture: str | None = None,
    context_length: float | None = None,
    seed: int = 0,
) -> tuple[Array, tuple[Quantity, ...], tuple[dict[str, Any], ...]]:
    """Draws (draw, quantity) of what a prior file describes, its quantities, and group labels."""
    law = posterior.law
    names = law_quantities(law, parameterisation_of(law))
    noise, off_valley = NOISE_QUANTITIES
    if kind == "groups":
        context = None if context_length is None else int(context_length)
        chosen = posterior.select(architecture=architecture, context_length=context)
        theta = posterior.draws("theta")[:, :, chosen]
        scatter = posterior.log_noise(chosen)
        labels = tuple(
            {str(k): _label(v) for k, v in row.items()}
            for row in posterior.groups.iloc[chosen].to_dict("records")
        )
        indices: list[int | None] = list(range(len(chosen)))
    else:
        rng = np.random.default_rng([seed, 12])
        theta = _new_group_theta(posterior, architecture, context_length)
        between = posterior.record.priors.noise_between
        scatter = posterior.draws("log_noise") + between * rng.normal(size=len(theta))
        scatter = scatter[:, None]
        tokens = context_length
        if tokens is not None and float(tokens).is_integer():  # as groups are labelled
            tokens = int(tokens)
        known = {"architecture": architecture, "context_length": tokens}
        kept = {key: value for key, value in known.items() if value is not None}
        labels = (kept,) if kept else ()
        indices = [None]
    y = _to_file_draws(law, theta)  # [draw, k, g]
    by_group = y.transpose(0, 2, 1).reshape(len(y), -1)
    draws = np.concatenate([by_group, scatter, posterior.draws("log_off_valley")[:, None]], axis=1)
    quantities = (
        *(Quantity(name=n, group=g) for g in indices for n in names),
        *(Quantity(name=noise, group=g) for g in indices),
        Quantity(name=off_valley),
    )
    return draws, quantities, labels


def _new_group_theta(
    posterior: Posterior, architecture: str | None, context_length: float | None
) -> Array:
    """Coefficients (draw, k, 1) of a group that was never run; what is not said is new as well."""
    record = posterior.record
    asked = {"architecture": architecture, "context_length": context_length}
    if context_length is not None and not context_length > 0:
        raise InputError(f"context_length must be positive, got {context_length}", where="prior")
    if unknown := [n for n, v in asked.items() if v is not None and n not in record.by]:
        raise posterior.not_grouped_by(unknown)
    row: dict[str, Any] = {}
    for name in posterior.groups.columns:
        default = record.context_reference if name == "context_length" else NEVER_RUN
        row[str(name)] = default if asked.get(str(name)) is None else asked[str(name)]
    return new_theta(posterior, pd.DataFrame([row]))


def _to_file_draws(law: Law, theta: Array) -> Array:
    """Quantities of a file from coefficients (draw, k, g), relative to the same reference run."""
    with jax.enable_x64(True):
        columns = jnp.asarray(np.moveaxis(theta, 1, 0))
        return np.moveaxis(np.asarray(to_file(law, columns, jnp.zeros(3))[0]), 0, 1)


def discounted(mixture: Mixture, before: Array, discount: float) -> Mixture:
    """The mixture with the runs' information raised to a power, component by component.

    The prior that the study began with, as a normal of its draws `before` (draw, quantity), has
    precision P0; a component of precision P becomes one of precision ``P0 + discount (P - P0)``.
    In directions where the runs left a component wider than that prior it stays as it is.
    """
    centre = before.mean(axis=0)
    root = np.linalg.cholesky(np.cov(before.T))
    inverse = np.linalg.inv(root)
    means, scales = [], []
    for mean, scale in zip(mixture.means, mixture.scales, strict=True):
        variances, turn = np.linalg.eigh(inverse @ scale @ inverse.T)
        place = turn.T @ inverse @ (mean - centre)
        gained = np.maximum(1.0 / variances - 1.0, 0.0)
        precision = np.where(gained > 0, 1.0 + discount * gained, 1.0 / variances)
        # Natural parameters mix as precisions do; the prior's own is zero in these coordinates.
        moved = np.where(gained > 0, discount * place / variances / precision, place)
        back = root @ turn
        means.append(centre + back @ moved)
        scales.append((back / precision) @ back.T)
    widened = np.stack([(scale + scale.T) / 2 for scale in scales])
    return replace(mixture, means=np.stack(means), scales=widened)


def _label(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _plain_name(source: str) -> str:
    """A source as part of a name: the file's name, without what a name may not have."""
    last = source.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c if c.isalnum() or c in " .,:()+-_" else "_" for c in last)[:80] or "study"


def _describe(posterior: Posterior, kind: Kind, groups: tuple[Mapping[str, Any], ...]) -> str:
    runs = int(posterior.idata["constant_data"].sizes["run"])
    n_groups = len(posterior.groups)
    if kind == "groups":
        named = "; ".join("/".join(map(str, g.values())) for g in groups)
        return f"Posterior of {named} from {runs} runs of {posterior.record.source}"
    of = " of " + "/".join(str(v) for g in groups for v in g.values()) if groups else ""
    return (
        f"A group{of} that was never run, as {runs} runs in {n_groups} "
        f"{'group' if n_groups == 1 else 'groups'} of {posterior.record.source} predict it"
    )
