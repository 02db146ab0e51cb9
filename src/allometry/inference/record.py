"""What a posterior knows of its own making, as plain JSON in the file's root attributes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from allometry.accounting import CostModel
from allometry.errors import InputError
from allometry.inference.convergence import Convergence
from allometry.inference.drift import Drift
from allometry.inference.import_report import ImportOutcome
from allometry.inference.loss_priors import LossPriors
from allometry.laws import Scale

SCHEMA_VERSION = 1


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
        Of the runs table.
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

    def to_attributes(self) -> dict[str, str]:
        """One JSON text for each field, with the schema version."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document["cost"] = self.cost.to_dict()
        for name in ("scale", "drift", "convergence", "priors"):
            document[name] = asdict(document[name])
        document["imported"] = [asdict(outcome) for outcome in self.imported]
        texts = {name: json.dumps(value) for name, value in document.items()}
        return {"allometry_schema": json.dumps(SCHEMA_VERSION)} | texts

    @staticmethod
    def from_attributes(attributes: Mapping[str, Any], *, source: str) -> "Record":
        """The record that `to_attributes` wrote.

        Raises
        ------
        InputError
            If the attributes are not those of a posterior, or of another schema version.
        """
        if "allometry_schema" not in attributes:
            hint = "Give a file that allometry fit wrote."
            raise InputError("not a posterior of allometry", where=source, hint=hint)
        try:
            version = json.loads(attributes["allometry_schema"])
            if version != SCHEMA_VERSION:
                what = f"schema version {version}, this package reads {SCHEMA_VERSION}"
                raise InputError(what, where=source, hint="Fit again with this version.")
            texts = {"imported": "[]"} | dict(attributes)  # absent in files of older versions
            document = {field.name: json.loads(texts[field.name]) for field in fields(Record)}
            convergence = document["convergence"]
            for name in ("reasons", "advice"):
                convergence[name] = tuple(convergence[name])
            return Record(
                **document
                | {
                    "by": tuple(document["by"]),
                    "parents": tuple(document["parents"]),
                    "excluded": tuple(document["excluded"]),
                    "warnings": tuple(document["warnings"]),
                    "scale": Scale(**document["scale"]),
                    "cost": CostModel.from_dict(document["cost"]),
                    "drift": Drift(**document["drift"]),
                    "priors": LossPriors.from_json(document["priors"]),
                    "convergence": Convergence(**convergence),
                    "imported": tuple(map(ImportOutcome.from_json, document["imported"])),
                }
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            what = f"damaged record ({type(error).__name__}: {error})"
            raise InputError(what, where=source, hint="Fit again.") from error
