"""Prior files without a fit behind them."""

import numpy as np

from allometry.laws import Scale, get_law
from allometry.priors import Mixture, PriorFile, Quantity, Units
from allometry.priors.file import NOISE_QUANTITIES, law_quantities

CENTRE = {"log_loss": 0.02, "log_slope_params": -2.8, "log_slope_tokens": -2.9}
CENTRE |= {"logit_reducible": -0.6, "logit_params_share": 0.3, "log_gamma": -0.6}
CENTRE |= {"log_noise": -5.6, "log_off_valley": -5.2}


def correlated(sd, rng):
    """A positive definite matrix with those standard deviations."""
    d = len(sd)
    mixing = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    covariance = mixing @ mixing.T
    unit = np.sqrt(np.diag(covariance))
    scaled = covariance / np.outer(unit, unit) * np.outer(sd, sd)
    return (scaled + scaled.T) / 2


def prior_file(
    *,
    kind="new-group",
    groups=(),
    sd=0.15,
    components=2,
    df=None,
    reference=None,
    units=None,
    noise=True,
    level=True,
    law="pnorm",
    seed=0,
    **fields,
) -> PriorFile:
    """A prior with a made-up distribution near what studies say."""
    rng = np.random.default_rng(seed)
    names = list(law_quantities(get_law(law), "centre"))
    names = names if level else names[1:]
    scatter = list(NOISE_QUANTITIES) if noise else []
    if kind == "groups":
        indices = range(len(groups))
        quantities = [Quantity(name=n, group=g) for g in indices for n in names]
        if noise:
            quantities += [Quantity(name="log_noise", group=g) for g in indices]
            quantities.append(Quantity(name="log_off_valley"))
    else:
        quantities = [Quantity(name=n) for n in (*names, *scatter)]
    mean = np.array([CENTRE[q.name] for q in quantities])
    sds = np.full(len(mean), sd)
    weights = np.arange(1.0, components + 1)
    return PriorFile(
        name=fields.pop("name", "made up"),
        description="for a test",
        kind=kind,
        law=law,
        parameterisation="centre",
        reference=reference or Scale(params=2e8, tokens=5e9, loss=2.9),
        units=units or Units(),
        quantities=tuple(quantities),
        groups=tuple(groups),
        mixture=Mixture(
            weights=weights / weights.sum(),
            means=np.stack([mean + 0.5 * sd * rng.normal(size=len(mean)) for _ in weights]),
            scales=np.stack([correlated(sds, rng) for _ in weights]),
            df=df,
        ),
        **fields,
    )
