"""What a posterior knows of its own making, as plain JSON in the file's root attributes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from allometry.accounting import CostModel
from allometry.inference.convergence import Convergence
from allometry.inference.drift import FORMER_LENGTH, Drift
from allometry.inference.fitted_range import FittedRange
from allometry.inference.import_report import ImportOutcome
from allometry.inference.loss_priors import LossPriors
from allometry.inference.record_json import (
    RecordFormat,
    convergence_from,
    plain,
    read_record,
    record_texts,
)
from allometry.laws import Scale

FORMAT = RecordFormat(
    attribute="allometry_schema",
    version=1,
    kind="a posterior of allometry",
    command="allometry fit",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """How a posterior came to be, and what is needed to use it.

    Attributes
    ----------
    law, method : str
        Registry name of the law; nuts, laplace or svi.
    by, parents : tuple of str
        Group columns; levels of the first one, in the order of their index.
    context_reference : float
        Context length in tokens at which the covariate is zero.
    scale : Scale
        The reference run.
    cost : CostModel
        Training FLOPs of a run of each group.
    drift : Drift
        Prior of the discrepancy beyond the data.
    priors : LossPriors
        Priors of the law and the noise.
    convergence : Convergence
        Diagnostics and verdict.
    source, sha256, loss_unit : str
        Of the runs table: its file's name without folders, or its registered one.
    excluded : tuple of dict
        Rows left out, each with its reason.
    warnings : tuple of str
        What stands but may surprise.
    seed : int
        Seed of everything random in the fit.
    versions : dict of str to str
        Packages that made it.
    imported : tuple of ImportOutcome
        What became of imported priors.
    fitted_ranges : tuple of FittedRange
        Where the runs lay that imported laws were fitted to: empty without such imports.
    settings : dict
        What the fit was asked for: method, chains, draws, options; empty in files of older
        versions.
    """

    law: str
    method: str
    by: tuple[str, ...]
    parents: tuple[str, ...]
    context_reference: float
    scale: Scale
    cost: CostModel
    drift: Drift
    priors: LossPriors
    convergence: Convergence
    source: str
    sha256: str
    loss_unit: str
    excluded: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    seed: int
    versions: dict[str, str]
    imported: tuple[ImportOutcome, ...] = ()
    fitted_ranges: tuple[FittedRange, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def provenance(self) -> dict[str, Any]:
        """From what and how the posterior was made, as JSON types."""
        return {
            "law": self.law,
            "method": self.method,
            "by": list(self.by),
            "source": self.source,
            "sha256": self.sha256,
            "loss_unit": self.loss_unit,
            "excluded": len(self.excluded),
            "settings": dict(self.settings),
            "seed": self.seed,
            "imported": [outcome.words for outcome in self.imported],
            "converged": self.convergence.converged,
            "versions": dict(self.versions),
        }

    def to_attributes(self) -> dict[str, str]:
        """One JSON text for each field, with the schema version."""
        document = {part.name: getattr(self, part.name) for part in fields(self)}
        document["cost"] = self.cost.to_dict()
        document["imported"] = [asdict(outcome) for outcome in self.imported]
        document["fitted_ranges"] = [asdict(one) for one in self.fitted_ranges]
        return record_texts(FORMAT, plain(document, ("scale", "drift", "convergence", "priors")))

    @staticmethod
    def from_attributes(attributes: Mapping[str, Any], *, source: str) -> "Record":
        """The record that `to_attributes` wrote.

        Raises
        ------
        InputError
            If the attributes are not those of a posterior, or of another schema version.
        """
        # Absent in files of older versions.
        texts = {"imported": "[]", "fitted_ranges": "[]", "settings": "{}"} | dict(attributes)
        names = [part.name for part in fields(Record)]
        return read_record(FORMAT, texts, names, _from_document, source=source)


def _from_document(document: dict[str, Any]) -> Record:
    return Record(
        **document
        | {
            "source": Path(document["source"]).name,  # older versions kept the folders as well
            "by": tuple(document["by"]),
            "parents": tuple(document["parents"]),
            "excluded": tuple(document["excluded"]),
            "warnings": tuple(document["warnings"]),
            "scale": Scale(**document["scale"]),
            "cost": CostModel.from_dict(document["cost"]),
            "drift": Drift(**{"length": FORMER_LENGTH} | document["drift"]),
            "priors": LossPriors.from_json(document["priors"]),
            "convergence": convergence_from(document["convergence"]),
            "imported": tuple(map(ImportOutcome.from_json, document["imported"])),
            "fitted_ranges": tuple(map(FittedRange.from_json, document["fitted_ranges"])),
            "settings": dict(document["settings"]),
        }
    )
