"""What a prior file is worth, in runs of the study that it came from."""

import jax.numpy as jnp
import numpy as np

from allometry.inference import Posterior
from allometry.inference.imported import LawPart
from allometry.inference.worth import (
    location_information,
    prior_precision,
    run_information,
    runs_worth,
)
from allometry.laws import Point
from allometry.priors.file import NOISE_QUANTITIES, PriorFile

NORMAL_DF = 1e7
"""Stands for the degrees of freedom of a normal."""

NEW_STUDY_RUNS = 8.0
"""Runs that the prior is beside: without any, the level of loss would swamp everything else."""


def worth_of_file(file: PriorFile, posterior: Posterior) -> float | None:
    """Further runs of the study's own design that tell as much of a run at ten times its largest.

    For the groups of a study, the mean over them. None if the file is about the noise alone.
    """
    if not file.covers_law:
        return None
    law, record = posterior.law, posterior.record
    k = len(law.names)
    data = posterior.idata["constant_data"]
    scale = record.scale
    reference = {"params": scale.params, "tokens": scale.tokens}
    logs = {name: np.log(data[name].to_numpy() / at) for name, at in reference.items()}
    own = data["group_index"].to_numpy()
    spreads = np.array([c.scale**2 + c.between**2 for c in record.priors.coefficients])
    default = np.diag(1.0 / spreads)
    theta = posterior.draws("theta").mean(axis=0)
    centred = file.parameterisation == "centre" and file.kind == "new-group"
    part: LawPart = "shape" if centred else "full"  # as it is used by default
    first = [i for i, q in enumerate(file.quantities) if q.name not in NOISE_QUANTITIES]
    if part == "shape":
        first = [i for i in first if file.quantities[i].name != "log_loss"]
    width = k if part == "full" else k - 1
    found = []
    for i in range(max(len(file.groups), 1) if file.kind == "groups" else 1):
        mixture = file.mixture.marginal(first[i * width : (i + 1) * width])
        known = location_information(
            mixture.weights, mixture.means, mixture.scales, mixture.df or NORMAL_DF
        )
        if file.kind == "groups":
            labels = file.groups[i]
            same = [posterior.groups[n].astype(str) == str(v) for n, v in labels.items()]
            group = int(np.flatnonzero(np.logical_and.reduce(same))[0])
            centre, chosen = theta[:, group], own == group
        else:
            centre, chosen = theta.mean(axis=1), np.ones(len(own), dtype=bool)
        at = Point(
            log_params=jnp.asarray(logs["params"][chosen]),
            log_tokens=jnp.asarray(logs["tokens"][chosen]),
            columns={n: jnp.asarray(data[n].to_numpy()[chosen]) for n in law.columns},
            log_reference=(float(np.log(scale.params)), float(np.log(scale.tokens))),
        )
        information, ahead = run_information(
            law,
            centre,
            at,
            log_noise=float(posterior.draws("log_noise").mean()),
            log_off_valley=float(posterior.draws("log_off_valley").mean()),
        )
        precision = prior_precision(
            law,
            centre,
            known,
            np.zeros(3),
            law_part=part,
            level=np.ones(k),
            default_precision=np.diag(default),
        )
        found.append(runs_worth(default, precision, information, ahead, runs=NEW_STUDY_RUNS))
    return float(np.mean(found))
