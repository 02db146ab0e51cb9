"""What a latency posterior knows of its own making, as JSON in the file's root attributes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from allometry.accounting.devices import Device
from allometry.errors import InputError
from allometry.inference.convergence import Convergence

LATENCY_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyRecord:
    """How a latency posterior came to be, and what is needed to use it.

    Attributes
    ----------
    law, method : str
        Registry name of the latency law; nuts or laplace.
    architectures : tuple of str
        In the order of their index.
    device : Device
        Ceilings and units of the device that was timed, or stand-ins for them.
    bounded : bool
        The device's peaks are ceilings, from a data sheet; else the largest apparent rates.
    law_evidence : dict of str to float
        Laplace log evidence of each law that was compared, in nats; empty if one was asked for.
    convergence : Convergence
        Diagnostics and verdict.
    source, sha256 : str
        Of the latency table.
    excluded : tuple of (int, str)
        Count of rows left out, and why.
    warnings : tuple of str
        What stands but may surprise.
    seed : int
        Seed of everything random in the fit.
    versions : dict of str to str
        Packages that made it.
    """

    law: str
    method: str
    architectures: tuple[str, ...]
    device: Device
    bounded: bool
    law_evidence: dict[str, float]
    convergence: Convergence
    source: str
    sha256: str
    excluded: tuple[tuple[int, str], ...]
    warnings: tuple[str, ...]
    seed: int
    versions: dict[str, str]

    def to_attributes(self) -> dict[str, str]:
        """One JSON text for each field, with the schema version."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("device", "convergence"):
            document[name] = asdict(document[name])
        texts = {name: json.dumps(value) for name, value in document.items()}
        return {"allometry_latency_schema": json.dumps(LATENCY_SCHEMA_VERSION)} | texts

    @staticmethod
    def from_attributes(attributes: Mapping[str, Any], *, source: str) -> "LatencyRecord":
        """The record that `to_attributes` wrote.

        Raises
        ------
        InputError
            If the attributes are not those of a latency posterior, or of another schema version.
        """
        if "allometry_latency_schema" not in attributes:
            hint = "Give a file that allometry latency fit wrote."
            raise InputError("not a latency posterior of allometry", where=source, hint=hint)
        try:
            found = json.loads(attributes["allometry_latency_schema"])
            if found != LATENCY_SCHEMA_VERSION:
                what = f"schema version {found}, this package reads {LATENCY_SCHEMA_VERSION}"
                raise InputError(what, where=source, hint="Fit again with this version.")
            values = {f.name: json.loads(attributes[f.name]) for f in fields(LatencyRecord)}
            convergence = values["convergence"]
            for name in ("reasons", "advice"):
                convergence[name] = tuple(convergence[name])
            return LatencyRecord(
                **values
                | {
                    "architectures": tuple(values["architectures"]),
                    "device": Device(**values["device"]),
                    "convergence": Convergence(**convergence),
                    "excluded": tuple((int(n), str(why)) for n, why in values["excluded"]),
                    "warnings": tuple(values["warnings"]),
                }
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            what = f"damaged record ({type(error).__name__}: {error})"
            raise InputError(what, where=source, hint="Fit again.") from error
