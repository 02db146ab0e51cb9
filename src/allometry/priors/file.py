"""A prior as a file: what it is about, in which units, from where, and its distribution."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allometry.errors import InputError
from allometry.files import writing
from allometry.inference.fitted_range import Cells
from allometry.laws import Law, Scale
from allometry.priors.mixture import Mixture

if TYPE_CHECKING:
    from allometry.inference.importing import BoundPrior, ImportingStudy

SCHEMA_VERSION = 1
Kind = Literal["groups", "new-group"]
Parameterisation = Literal["centre", "coefficients"]

CENTRE_QUANTITIES = (
    "log_loss",
    "log_slope_params",
    "log_slope_tokens",
    "logit_reducible",
    "logit_params_share",
)
"""What two-term laws are described by at the reference run: see docs/priors.md. Further
coefficients of a law keep their names."""

NOISE_QUANTITIES = ("log_noise", "log_off_valley")

MEANINGS: Mapping[str, str] = {
    "log_loss": "log of the law's loss at the reference run over the reference loss",
    "log_slope_params": "log of -dlog(loss)/dlog(params) at the reference run",
    "log_slope_tokens": "log of -dlog(loss)/dlog(tokens) at the reference run",
    "logit_reducible": "logit of the reducible share of the loss at the reference run",
    "logit_params_share": "logit of the params term's share of the two terms there",
    "log_gamma": "log of gamma = 1/p",
    "log_noise": "log of the relative noise of a run near the valley",
    "log_off_valley": "log of the extra noise at one e-fold of imbalance",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What params, tokens and loss count.

    Attributes
    ----------
    params : {"with embeddings", "without embeddings", "unknown"}
    loss : str
        ``nats per token``, ``bits per token``, ``nats per byte``, ``bits per byte``, or other words
        that no other unit is converted to.
    tokenizer : str
        Its name, empty if it is not known.
    bytes_per_token : float or None
        Mean bytes of held-out text in one token.
    """

    params: str = "with embeddings"
    loss: str = "nats per token"
    tokenizer: str = ""
    bytes_per_token: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One quantity of the distribution: its name, and the index of its group (None: of all)."""

    name: str
    group: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PriorFile:
    """A prior that a study left for the next one.

    Attributes
    ----------
    name, description : str
    kind : {"groups", "new-group"}
        The posterior of these very groups, to go on with the same study; or the prediction for a
        group that was never run, which is what a new study wants.
    law : str
    parameterisation : {"centre", "coefficients"}
        Quantities at the reference run, or the law's own coefficients.
    reference : Scale
        N0, D0 and L0, in the file's units.
    units : Units
    quantities : tuple of Quantity
        In the order of the distribution.
    groups : tuple of dict
        Labels of the groups, such as ``{"architecture": "xlstm", "context_length": 8192}``.
    mixture : Mixture
    discount : float
        Power that the likelihood of the runs was raised to, above 0 and at most 1.
    drift : dict or None
        ``scale`` and ``shared`` of the discrepancy beyond the data, where the file speaks of it.
    worth_runs : float or None
        Runs of the study's own design that would teach a weakly informed fit as much about a run
        at ten times their largest budget.
    fitted_over : tuple of (float, float, float)
        Where the runs of the studies lay that its laws were fitted to, as cells of
        `allometry.inference.fitted_range`; empty of a law that is of one study.
    goodness : dict of str to float
        How well the mixture describes the draws.
    provenance : dict
        ``source, sha256, runs, versions, licence, citation, command`` and what else is known.
    """

    name: str
    description: str
    kind: Kind
    law: str
    parameterisation: Parameterisation
    reference: Scale
    units: Units
    quantities: tuple[Quantity, ...]
    groups: tuple[dict[str, Any], ...]
    mixture: Mixture
    discount: float = 1.0
    drift: dict[str, float] | None = None
    worth_runs: float | None = None
    fitted_over: Cells = ()
    goodness: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def covers_level(self) -> bool:
        """Whether the absolute level of loss is part of it."""
        named = {quantity.name for quantity in self.quantities}
        return "log_loss" in named or (
            self.parameterisation == "coefficients" and bool(named - set(NOISE_QUANTITIES))
        )

    @property
    def covers_law(self) -> bool:
        """Whether the law is part of it, and not the noise alone."""
        return any(quantity.name not in NOISE_QUANTITIES for quantity in self.quantities)

    @property
    def covers_noise(self) -> bool:
        """Whether the noise is part of it."""
        return any(quantity.name in NOISE_QUANTITIES for quantity in self.quantities)

    def bind(self, study: "ImportingStudy") -> "tuple[BoundPrior, ...]":
        """Its densities in terms of a study, used by default: see `allometry.priors.PriorUse`."""
        from allometry.priors.use import PriorUse

        return PriorUse(file=self).bind(study)

    def to_document(self) -> dict[str, Any]:
        """The file's content as plain JSON types, numbers in full precision."""
        units, scale = self.units, self.reference
        return {
            "allometry_prior": SCHEMA_VERSION,
            "name": self.name,
            "description": self.description,
            "kind": self.kind,
            "law": self.law,
            "parameterisation": self.parameterisation,
            "reference": {"params": scale.params, "tokens": scale.tokens, "loss": scale.loss},
            "units": {
                "params": units.params,
                "loss": units.loss,
                "tokenizer": units.tokenizer,
                "bytes_per_token": units.bytes_per_token,
            },
            "groups": [dict(group) for group in self.groups],
            "quantities": [
                {"name": q.name, "group": q.group, "meaning": MEANINGS.get(q.name, "")}
                for q in self.quantities
            ],
            "distribution": {
                "family": "normal" if self.mixture.df is None else "student-t",
                "df": self.mixture.df,
                "components": [
                    {"weight": float(weight), "mean": mean.tolist(), "scale": scale.tolist()}
                    for weight, mean, scale in zip(
                        self.mixture.weights, self.mixture.means, self.mixture.scales, strict=True
                    )
                ],
            },
            "discount": self.discount,
            "drift": self.drift,
            "worth_runs": self.worth_runs,
            "fitted_over": [list(cell) for cell in self.fitted_over],
            "goodness": self.goodness,
            "provenance": self.provenance,
        }

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Raises
        ------
        InputError
            If it cannot be written, or nobody could read it: its name or its units break a rule.
        """
        from allometry.priors.reading import parse_prior

        target, text = Path(path), document_text(self.to_document())
        try:
            parse_prior(text, source=str(target))
        except InputError as error:
            hint = "Give other ones (--name, --tokenizer, --bytes-per-token; name=, units=)."
            raise InputError(error.what, where=error.where, hint=hint) from error
        with writing(target) as partial:
            partial.write_text(text, encoding="utf-8")
        return target


def document_text(document: Mapping[str, Any]) -> str:
    """JSON that a person can read: one line a field, a row of a matrix, or a quantity."""
    lines = []
    for key, value in document.items():
        if key == "distribution":
            text = _distribution_text(value)
        elif isinstance(value, list) and value:
            rows = ",\n    ".join(json.dumps(row, allow_nan=False) for row in value)
            text = f"[\n    {rows}\n  ]"
        elif isinstance(value, dict) and value:
            text = json.dumps(value, allow_nan=False, indent=2).replace("\n", "\n  ")
        else:
            text = json.dumps(value, allow_nan=False)
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _distribution_text(distribution: Mapping[str, Any]) -> str:
    parts = []
    for component in distribution["components"]:
        rows = ",\n          ".join(json.dumps(r, allow_nan=False) for r in component["scale"])
        parts.append(
            "      {\n"
            f'        "weight": {json.dumps(component["weight"])},\n'
            f'        "mean": {json.dumps(component["mean"], allow_nan=False)},\n'
            f'        "scale": [\n          {rows}\n        ]\n      }}'
        )
    head = (
        f'"family": {json.dumps(distribution["family"])},\n    "df": '
        f"{json.dumps(distribution['df'])}"
    )
    return "{\n    " + head + ',\n    "components": [\n' + ",\n".join(parts) + "\n    ]\n  }"


def law_quantities(law: Law, parameterisation: Parameterisation) -> tuple[str, ...]:
    """Names of the law's quantities in a file, in the order of its coefficients or coordinates."""
    if parameterisation == "coefficients":
        return law.names
    return (*CENTRE_QUANTITIES, *law.names[len(CENTRE_QUANTITIES) :])
