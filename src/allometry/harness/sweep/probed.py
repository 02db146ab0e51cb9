"""Peak learning rates of a plan from a probe on the corpus: measured at the smallest size, scaled.

The reference study's rates fall with width (`allometry.accounting.study_learning_rate`), but belong
to its corpus and to batches of a million tokens. A probe finds the rate of the narrowest model on
another corpus and batch; the others take it times the ratio of the study's rates for the two
widths. The rule is a convention: a probe at one width cannot measure it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from allometry.accounting import study_learning_rate
from allometry.errors import RunError
from allometry.harness.sweep.entry import train_config
from allometry.harness.sweep.folder import SweepConfig

if TYPE_CHECKING:  # torch loads when a run is made, not when one is planned
    from allometry.harness.training import Listener


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbedRate:
    """What a probe found for one architecture.

    Attributes
    ----------
    architecture : str
    run_id : str
        Row that was trained at several rates: of the least params, then of the least FLOPs.
    d_model : int
        Its width, for which the rate is.
    learning_rate : float
        Best peak rate.
    losses : Mapping[float, float | None]
        Loss by rate; None where the run diverged.
    """

    architecture: str
    run_id: str
    d_model: int
    learning_rate: float
    losses: Mapping[float, float | None]

    def rate_at(self, d_model: int) -> float:
        """Peak rate for another width."""
        wanted, probed = (
            study_learning_rate(self.architecture, width) for width in (d_model, self.d_model)
        )
        return self.learning_rate * wanted / probed


def probe_plan(
    plan: pd.DataFrame,
    folder: Path,
    config: SweepConfig,
    *,
    rates: Sequence[float] | None = None,
    progress: "Listener | None" = None,
) -> list[ProbedRate]:
    """Train the smallest run of each architecture at several rates and choose.

    Parameters
    ----------
    plan : DataFrame
        From `plan_isoflop` or `plan_token_param`.
    folder : Path
        Holds one run's folder for each architecture and rate; a probe that was stopped goes on.
    config : SweepConfig
        Corpus, threads and settings, as the sweep will have them.
    rates : sequence of float, optional
        Default: six from 5e-4 to 1.6e-2.
    progress : Listener, optional
        Told of every row of every run.

    Raises
    ------
    RunError
        If the best rate is the lowest or the highest of those tried.
    """
    from allometry.harness.training.probe import RATES, probe_learning_rates

    found = []
    for architecture, rows in plan.groupby("architecture", sort=True):
        row = _plain(rows.sort_values(["params", "flops"]).iloc[0])
        runs = folder / str(architecture)
        probe = probe_learning_rates(
            train_config(row, config), runs, rates=rates or RATES, progress=progress
        )
        losses = {run.learning_rate: run.loss for run in probe.runs}
        if not probe.inside:
            what = f"{architecture}: the best rate, {probe.learning_rate:.3g}, is at the edge of "
            what += f"the rates tried, {min(losses):.3g} to {max(losses):.3g}"
            hint = "Give --learning-rate, or change --batch-tokens or the smallest size."
            raise RunError(what, where=str(runs), hint=hint)
        found.append(
            ProbedRate(
                architecture=str(architecture),
                run_id=row["run_id"],
                d_model=int(row["d_model"]),
                learning_rate=probe.learning_rate,
                losses=losses,
            )
        )
    return found


def with_rates(plan: pd.DataFrame, probed: Sequence[ProbedRate]) -> pd.DataFrame:
    """Give every row of a probed architecture its rate, rounded to three digits."""
    rates = {probe.architecture: probe for probe in probed}
    rows = zip(plan.architecture, plan.d_model, plan.learning_rate, strict=True)
    scaled = [
        float(f"{rates[name].rate_at(int(width)):.3g}") if name in rates else rate
        for name, width, rate in rows
    ]
    return plan.assign(learning_rate=scaled)


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}
