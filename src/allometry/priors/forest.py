"""A prior's groups beside other priors, quantity by quantity, at one reference run."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from allometry.errors import InputError
from allometry.laws import Scale, get_law
from allometry.priors.file import NOISE_QUANTITIES, PriorFile, law_quantities
from allometry.priors.mixture import Array
from allometry.priors.tables import DRAWS, prior_table, table_of_draws


def forest_table(
    file: PriorFile, beside: Sequence[PriorFile] = (), *, seed: int = 0
) -> pd.DataFrame:
    """Intervals of each quantity of each group of a prior, and of other priors beside them.

    Parameters
    ----------
    file : PriorFile
        Of groups, or for a new one.
    beside : sequence of PriorFile
        For a new group, of the same law; moved to the reference run of `file`. Their loss is
        left out where it is not of the same reference run: levels do not compare across studies.
    seed : int

    Returns
    -------
    DataFrame
        The columns of `prior_table` and ``kind``: ``group``, or ``predictive`` of a prior for a new
        group, whose ``group`` is its name.

    Raises
    ------
    InputError
        If a prior beside is of groups, of another law, or of a law that cannot change its reference
        run.
    """
    own = prior_table(file, seed=seed)
    if file.kind == "groups":
        parts = [own[own["group"] != ""].assign(kind="group")]
    else:
        parts = [own.assign(group=file.name, kind="predictive")]
    for other in beside:
        if other.kind != "new-group":
            hint = "Give a prior for a new group."
            raise InputError("is of groups", where=other.name, hint=hint)
        if other.law != file.law:
            what = f"is of law {other.law}, {file.name} of {file.law}"
            raise InputError(what, where=other.name, hint="Show them one by one.")
        rows = prior_table(other, seed=seed)
        if other.reference != file.reference:
            moved = moved_to(other, file.reference, seed=seed)
            rows = table_of_draws(other, moved)
            rows = rows[rows["quantity"] != "loss"]
        rows = rows[rows["quantity"].isin(parts[0]["quantity"])]
        parts.append(rows.assign(group=other.name, kind="predictive"))
    return pd.concat(parts, ignore_index=True)


def moved_to(file: PriorFile, reference: Scale, *, seed: int = 0) -> Array:
    """Draws (draw, quantity) of a prior for a new group, its law at another reference run.

    Its loss, where it has one, becomes that at the new reference run over the file's own L0.
    """
    law = get_law(file.law)
    names = law_quantities(law, file.parameterisation)
    draws = file.mixture.draw(DRAWS, np.random.default_rng([seed, 15]))
    here = [i for i, q in enumerate(file.quantities) if q.name not in NOISE_QUANTITIES]
    if not here:
        return draws
    if law.rereference is None or law.geometry is None or file.parameterisation != "centre":
        what = f"law {law.name} cannot be moved to another reference run"
        raise InputError(what, where=file.name, hint="Show it alone.")
    rows = draws[:, here].T
    if len(here) < len(names):  # without its level: shape and slopes do not depend on it
        rows = np.concatenate([np.zeros((1, len(draws))), rows])
    pairs = ((reference.params, file.reference.params), (reference.tokens, file.reference.tokens))
    shift = np.array([*(np.log(new / old) for new, old in pairs), 0.0])
    with jax.enable_x64(True):
        theta = law.geometry.forward(jnp.asarray(rows))
        moved = np.asarray(law.geometry.inverse(law.rereference(theta, jnp.asarray(shift))))
    found = draws.copy()
    found[:, here] = moved[len(names) - len(here) :].T
    return found
