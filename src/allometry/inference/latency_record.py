"""What a latency posterior knows of its own making, as JSON in the file's root attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from allometry.accounting.devices import Device
from allometry.inference.convergence import Convergence
from allometry.inference.record_json import (
    RecordFormat,
    convergence_from,
    plain,
    read_record,
    record_texts,
)

FORMAT = RecordFormat(
    attribute="allometry_latency_schema",
    version=6,  # 6: part of what the law misses is common to sizes
    kind="a latency posterior of allometry",
    command="allometry latency fit",
)


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
        return record_texts(FORMAT, plain(document, ("device", "convergence")))

    @staticmethod
    def from_attributes(attributes: Mapping[str, Any], *, source: str) -> "LatencyRecord":
        """The record that `to_attributes` wrote.

        Raises
        ------
        InputError
            If the attributes are not those of a latency posterior, or of another schema version.
        """
        names = [field.name for field in fields(LatencyRecord)]
        return read_record(FORMAT, attributes, names, _from_document, source=source)


def _from_document(document: dict[str, Any]) -> LatencyRecord:
    return LatencyRecord(
        **document
        | {
            "architectures": tuple(document["architectures"]),
            "device": Device(**document["device"]),
            "convergence": convergence_from(document["convergence"]),
            "excluded": tuple((int(n), str(why)) for n, why in document["excluded"]),
            "warnings": tuple(document["warnings"]),
        }
    )
