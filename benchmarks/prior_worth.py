"""What a prior is worth to a new study of a few runs, on runs that it has not seen.

    python benchmarks/prior_worth.py --work FOLDER --tables TABLES [--designs spread near]

Each public study is left out: the typical law is made of the others (posteriors as
``make_prior_library.py`` keeps them in FOLDER), a few runs (--sizes) of one of its groups with at
most a tenth of its largest compute are fitted, and the larger runs of the group are predicted, as
is what a fit to all of its runs says of the best size and its loss. The few runs are spread over
all params and tokens, or (near) over those within a factor of five of 20 tokens a param, as isoflop
sweeps lie. The fits (--arms), from least to most that other studies told them:

practice    the additive law by least squares on a Huber loss, with bootstrap intervals
vague       the default law, with every prior scale three times the default one and a discrepancy
            whose scale is known to a factor of nine either way (90 %)
default     the default priors, and a discrepancy as large as public studies have it
typical     the typical law of the other studies besides
whole       the same, with all of the discrepancy besides, part of which those laws have taken up
placed      as typical, half of the runs chosen by ``design_runs`` after a fit to the other half for
            the loss at the group's largest compute, all of them for what the design's first 16 cost
same-study  instead, the prediction of the other groups of the same study, where it has some
lab-noise   the typical law, with the noise of the other groups of the same study, where it has some
own-noise   the typical law, told how much all of the study's own runs scatter (to a fifth)
alike       the typical law if studies were half as unlike

Scores are kept in FOLDER/worth.jsonl, one line a fit: what is there is not fitted again. What is
printed of them is in ``prior_worth_report.py``.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from prior_worth_report import MANY, ORDER, report
from public_studies import UNITS, PublicStudies
from small_studies import (
    DESIGNS,
    GROUPS,
    MOST_DESIGN,
    Group,
    design,
    groups_of,
    reference_of,
    score,
    score_practice,
)

from allometry.cli.runtime import prepare_jax
from allometry.criticism.baseline import huber_fit
from allometry.decisions import design_runs
from allometry.inference import (
    Drift,
    LossPriors,
    Posterior,
    Sampler,
    default_drift,
    default_priors,
    fit,
    group_runs,
)
from allometry.inference.discrepancy import study_scale
from allometry.laws import get_law
from allometry.priors import PriorFile, PriorUse, as_prior, typical_prior
from allometry.priors.file import NOISE_QUANTITIES
from allometry.priors.studies import summarise_study

SIZES = (8, 12, 16, 24)
WIDER = 3.0
"""Scales of vague priors over those of the default ones."""

SAMPLER = Sampler(method="laplace", chains=2, starts=2, draws=300)
BOOTSTRAPS = 50
NOISE_TOLD = 0.2
"""Standard deviation of the log of a noise that is known."""

ALIKE = 0.5

LEAST_VAGUE = 16
"""With fewer runs and vague priors the noise is open towards zero: chains take minutes, and some
do not agree."""

Scores = dict[str, object]


def vague_priors() -> LossPriors:
    """The default priors with every scale wider."""
    known = default_priors(get_law("pnorm"))
    return replace(
        known,
        coefficients=tuple(replace(c, scale=WIDER * c.scale) for c in known.coefficients),
        noise=replace(known.noise, log_sd=WIDER * known.noise.log_sd),
        off_valley=replace(known.off_valley, log_sd=WIDER * known.off_valley.log_sd),
    )


def vague_drift() -> Drift:
    """A discrepancy of which hardly more is known than that it is a share of the loss."""
    known = default_drift(1)
    return replace(known, log_sd=WIDER * known.log_sd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """Posteriors of the public studies, and what they leave for one of them that is left out."""

    studies: PublicStudies

    def typical(self, left_out: str) -> PriorFile:
        """The typical law of the other studies."""
        return _typical(self.studies, left_out)

    def own_noise(self, study: str) -> PriorFile:
        """The typical law of the other studies, with the noise of all runs of this one."""
        typical, own = self.typical(study), summarise_study(self.studies.posterior(study))
        noise = len(typical.quantities) - len(NOISE_QUANTITIES)
        centre, scale = typical.mixture.mean, np.ones(len(typical.quantities))
        centre[noise:] = own.mean[noise:]
        sd = np.sqrt(np.diag(typical.mixture.covariance))
        scale[noise:] = NOISE_TOLD / sd[noise:]
        return moved(typical, centre, scale)

    def alike(self, study: str) -> PriorFile:
        """The typical law of the other studies, closer to its mean."""
        typical = self.typical(study)
        return moved(typical, typical.mixture.mean, np.full(len(typical.quantities), ALIKE))

    def same_study(self, group: Group) -> PriorFile | None:
        """The prediction that the other groups of its study make for a group."""
        if len(self.studies.posterior(group.study).groups) == 1:
            return None
        name = f"{group.study} without {group.own.replace('/', ' ')}"
        path = self.studies.work / f"{name}.nc"
        if not path.exists():
            runs = self.studies.runs(group.study)
            grouping = group_runs(runs.table, runs.by or None)
            others = np.asarray(grouping.names)[grouping.index] != group.own
            fit(runs.table[others].reset_index(drop=True), by=runs.by, library=False).save(path)
        architecture = group.own.split("/")[0] if "/" in group.own else None
        return as_prior(
            Posterior.load(path),
            architecture=architecture,
            name=name,
            units=UNITS[group.study],
            force=True,
        )


@cache
def _typical(studies: PublicStudies, left_out: str) -> PriorFile:
    others = [studies.posterior(name) for name in studies.names if name != left_out]
    return typical_prior(others, summaries=[summarise_study(posterior) for posterior in others])


def moved(prior: PriorFile, centre: np.ndarray, scale: np.ndarray) -> PriorFile:
    """A prior about another centre, its quantities apart by these shares of what they were."""
    mixture = prior.mixture
    means = centre + scale * (mixture.means - mixture.mean)
    scales = mixture.scales * np.outer(scale, scale)
    return replace(prior, mixture=replace(mixture, means=means, scales=scales))


def placed(group: Group, spread: pd.DataFrame, n: int, prior: PriorFile) -> pd.DataFrame:
    """The first half of a design, and what is to be run next of those that it would go on with.

    Fewer runs may be larger ones: together they cost what `MANY` of the design do.
    """
    known, rest = spread[: n // 2], spread[n // 2 :].reset_index(drop=True)
    posterior = fit(known, by=(), prior=[prior], library=False, sampler=SAMPLER)
    missing = n - len(known)
    found = design_runs(
        posterior,
        float((6.0 * rest["params"] * rest["tokens"])[: MANY - len(known)].sum()),
        "loss",
        at=float(group.budgets[2]),
        candidates=rest[["params", "tokens"]].assign(group="all"),
        runs=missing,
        least_gain=1e-6,
        force=True,
    )
    wanted = pd.MultiIndex.from_frame(found[["params", "tokens"]])
    chosen = pd.MultiIndex.from_frame(rest[["params", "tokens"]]).isin(wanted)
    # Where fewer runs are worth their compute, the spread design goes on.
    picked = pd.concat([rest[chosen], rest[~chosen]])[:missing]
    return pd.concat([known, picked], ignore_index=True)


def scored(
    group: Group, kind: str, arm: str, n: int, repeat: int, library: Library
) -> Scores | None:
    """Scores of one small study; None if the group has too few runs, or no such prior."""
    chosen = design(group.small, MOST_DESIGN, np.random.default_rng([17, repeat]), kind=kind)
    if n > len(chosen) or (arm == "vague" and n < LEAST_VAGUE) or (arm == "placed" and n >= MANY):
        return None
    reference = reference_of(group, SAMPLER)
    began = time.process_time()
    if arm == "practice":
        found = huber_fit(chosen[:n], bootstraps=BOOTSTRAPS)
        rng = np.random.default_rng([12, repeat])
        scores: Scores = dict(score_practice(found, group, reference, rng))
        return scores | {"cpu": time.process_time() - began}
    prior = None
    runs = chosen[:n]
    if arm in ("typical", "whole", "placed"):
        prior = library.typical(group.study)
        prior = replace(prior, fitted_over=()) if arm == "whole" else prior
        runs = placed(group, chosen, n, prior) if arm == "placed" else runs
    elif arm == "own-noise":
        prior = library.own_noise(group.study)
    elif arm == "alike":
        prior = library.alike(group.study)
    elif arm in ("same-study", "lab-noise"):
        prior = library.same_study(group)
        if prior is None:
            return None
    imported = [] if prior is None else [PriorUse(file=prior)]
    if arm == "lab-noise":
        law = PriorUse(file=library.typical(group.study), parts=("law",))
        imported = [law, replace(imported[0], parts=("noise",))]
    posterior = fit(
        runs,
        by=(),
        prior=imported,
        priors=vague_priors() if arm == "vague" else None,
        drift=vague_drift() if arm == "vague" else None,
        library=False,
        sampler=SAMPLER,
    )
    record = posterior.record
    return {
        **score(posterior, group, reference),
        "vague_weight": record.imported[0].posterior_weights[0] if prior else np.nan,
        "worth_runs": record.imported[0].worth_runs if prior else np.nan,
        "method": record.method,
        "max_rhat": record.convergence.max_rhat,
        "k_hat": record.convergence.pareto_k,
        "flops": float((6.0 * runs["params"] * runs["tokens"]).sum()),
        "cpu": time.process_time() - began,
    }


def score_all(
    groups: list[Group],
    kinds: list[str],
    arms: list[str],
    sizes: list[int],
    repeats: int,
    kept: Path,
    score_one: Callable[[Group, str, str, int, int], Scores | None],
) -> pd.DataFrame:
    """Scores of every fit that is asked for; those of fits that are kept are read."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    names = ("design", "repeat", "arm", "group", "runs")
    done = {tuple(row[name] for name in names) for row in rows}
    for kind, repeat, arm, group, n in product(kinds, range(repeats), arms, groups, sizes):
        case = (kind, repeat, arm, group.name, n)
        if case in done:
            continue
        found = score_one(group, kind, arm, n, repeat)
        if found is None:
            continue
        row = dict(zip(names, case, strict=True)) | found
        rows.append(row)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return pd.DataFrame(rows)


def main() -> None:
    """Leave each study out, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="tables of the studies outside the registry")
    parser.add_argument("--studies", nargs="*", help="whose groups are tried (default: all)")
    parser.add_argument("--designs", nargs="*", default=DESIGNS, choices=DESIGNS)
    parser.add_argument("--arms", nargs="*", default=ORDER, choices=ORDER)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    options = parser.parse_args()
    prepare_jax()
    studies = PublicStudies(work=options.work, tables=options.tables)
    library = Library(studies=studies)
    tried = options.studies or [name for name in studies.names if name in GROUPS]
    table = score_all(
        [group for name in tried for group in groups_of(studies, name)],
        list(options.designs),
        list(options.arms),
        list(options.sizes),
        options.repeats,
        options.work / "worth.jsonl",
        lambda group, kind, arm, n, repeat: scored(group, kind, arm, n, repeat, library),
    )
    for kind, part in table.groupby("design", sort=False):
        print(f"\n# Design: {kind}")
        report(part)
    print("\nExponent of N* and scale of the discrepancy by study: what few runs should be told")
    for name in studies.names:
        posterior = studies.posterior(name)
        medians = posterior.growth_law(force=True)["params_exponent_median"]
        told = ", ".join(f"{value:.2f}" for value in medians)
        print(f"{name}: {told}; {100 * study_scale(posterior).scale:.1f} %")


if __name__ == "__main__":
    main()
