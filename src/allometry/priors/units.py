"""Units of a prior file in those of a study: what can be converted, and why the rest cannot."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from allometry.errors import InputError
from allometry.inference.importing import ImportingStudy
from allometry.priors.embeddings import without_embeddings
from allometry.priors.file import PriorFile

NATS = {"nats": 1.0, "bits": float(np.log(2.0))}
PER = ("per token", "per byte")
LARGEST_MISFIT = 0.05
"""Log error of params without embeddings as a power of those with: a third of it, times the params
term's share of about 15 %, is a loss wrong by .2 %, less than runs scatter."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conversion:
    """What makes a file's reference run comparable with a study's.

    Attributes
    ----------
    shift : ndarray, shape (3,)
        log(file's reference in this study's units / this study's reference) of N0, D0, L0.
    log_slope : float
        Log of the slope of log N as the file counts it in log N as this study does.
    notes : tuple of str
    """

    shift: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    log_slope: float = 0.0
    notes: tuple[str, ...] = ()


def convert(
    file: PriorFile, study: ImportingStudy, *, level: bool, bytes_per_token: float | None
) -> Conversion:
    """Conversion of a file's units into a study's.

    Parameters
    ----------
    file, study
    level : bool
        Whether the absolute level of loss matters: if not, its unit does not either.
    bytes_per_token : float or None
        Of the study's tokenizer.

    Raises
    ------
    InputError
        If the units do not convert, or the law cannot change its reference run.
    """
    notes: list[str] = []
    ours, theirs = study.scale, file.reference
    log_params, log_slope = _params(file, study, notes)
    tokens_ratio = 1.0
    if file.units.bytes_per_token is not None and bytes_per_token is not None:
        tokens_ratio = file.units.bytes_per_token / bytes_per_token
        if tokens_ratio != 1.0:
            notes.append(f"{file.name}: tokens converted by {tokens_ratio:.4g}, bytes a token")
    log_loss = 0.0
    if level:
        factor = _loss_factor(file, study.loss_unit, bytes_per_token)
        if factor != 1.0:
            notes.append(f"{file.name}: loss converted from {file.units.loss} by {factor:.4g}")
        log_loss = float(np.log(theirs.loss * factor / ours.loss))
    log_tokens = float(np.log(theirs.tokens * tokens_ratio / ours.tokens))
    shift = np.array([log_params, log_tokens, log_loss])
    if study.law.rereference is None and float(np.abs(shift).max()) > 1e-9:
        what = (
            f"law {study.law.name} cannot be moved from the file's reference run (N0 "
            f"{theirs.params:.4g}, D0 {theirs.tokens:.4g}) to this study's ({ours.params:.4g}, "
            f"{ours.tokens:.4g})"
        )
        raise InputError(what, where=file.name, hint="Use --law pnorm or chinchilla.")
    return Conversion(shift=shift, log_slope=log_slope, notes=tuple(notes))


def _loss_factor(file: PriorFile, loss_unit: str, bytes_per_token: float | None) -> float:
    """What the file's losses are multiplied by to be in this study's unit."""
    if file.units.loss == loss_unit and PER[0] not in loss_unit:
        return 1.0
    theirs, ours = _parse(file.units.loss), _parse(loss_unit)
    hint = "Use the prior for a new group, whose shape of the law has no unit of loss."
    if theirs is None or ours is None:
        if file.units.loss == loss_unit:
            return 1.0
        what = f"loss is in {file.units.loss}, this study's in {loss_unit}: no conversion is known"
        raise InputError(what, where=file.name, hint=hint)
    factor = NATS[theirs[0]] / NATS[ours[0]]
    file_bytes, our_bytes = file.units.bytes_per_token, bytes_per_token
    if theirs[1] == ours[1]:
        if theirs[1] == PER[0] and file_bytes is not None and our_bytes is not None:
            factor *= our_bytes / file_bytes  # per token of another length
        return factor
    needed = file_bytes if theirs[1] == PER[0] else our_bytes
    if needed is None:
        whose = "the file's" if theirs[1] == PER[0] else "this study's"
        what = (
            f"loss is in {file.units.loss}, this study's in {loss_unit}, and {whose} bytes per "
            "token are not known"
        )
        raise InputError(what, where=file.name, hint="Give bytes_per_token (--bytes-per-token).")
    return factor / needed if theirs[1] == PER[0] else factor * needed


def _parse(unit: str) -> tuple[str, str] | None:
    for name in NATS:
        for per in PER:
            if unit == f"{name} {per}":
                return name, per
    return None


def _params(file: PriorFile, study: ImportingStudy, notes: list[str]) -> tuple[float, float]:
    """Log shift of N0, and log slope of the file's count of params in this study's."""
    ours, theirs = study.scale.params, file.reference.params
    if file.units.params != "without embeddings":
        if file.units.params == "unknown":
            notes.append(f"{file.name}: whether its params count embeddings is not known")
        return float(np.log(theirs / ours)), 0.0
    counted = without_embeddings(study.table)
    if counted is None:
        what = "its params are without embeddings, and this study has params with them alone"
        hint = "Add a column params_non_embedding, or d_model, n_layers and n_heads, to the table."
        raise InputError(what, where=file.name, hint=hint)
    both = np.stack([study.table["params"].to_numpy(dtype=np.float64), counted], axis=1)
    if not (np.isfinite(both) & (both > 0)).all():
        what = "column params_non_embedding must be positive in every run to convert the prior"
        raise InputError(what, where=file.name)
    x, y = np.log(both[:, 0] / ours), np.log(both[:, 1])
    slope, at_reference = np.polyfit(x, y, 1)
    misfit = float(np.abs(y - np.polyval([slope, at_reference], x)).max())
    if not (misfit <= LARGEST_MISFIT and slope > 0):
        what = (
            "its params are without embeddings, and over this study's sizes those are no power of "
            f"params (off by up to {misfit:.0%})"
        )
        hint = "Use a prior whose params count embeddings, or fewer small models."
        raise InputError(what, where=file.name, hint=hint)
    notes.append(f"{file.name}: params without embeddings go as params to the {slope:.3f}")
    return float(np.log(theirs) - at_reference), float(np.log(slope))
