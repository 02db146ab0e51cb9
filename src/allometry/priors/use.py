"""A prior file in terms of a new study: groups matched, units converted, or a reason why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from allometry.errors import InputError
from allometry.inference.drift import Drift
from allometry.inference.fitted_range import Cells
from allometry.inference.imported import ImportedSource, LawPart, MixtureArrays, Target
from allometry.inference.importing import (
    BoundPrior,
    ImportingStudy,
    default_covariances,
    default_noise,
)
from allometry.priors.file import NOISE_QUANTITIES, PriorFile
from allometry.priors.mixture import Mixture, inverse_factors
from allometry.priors.units import Conversion, convert

Array = npt.NDArray[np.float64]
Part = Literal["law", "noise", "drift"]
PARTS: tuple[Part, ...] = ("law", "noise", "drift")

VAGUE = 0.2
"""Prior weight of the default prior beside an imported one (Schmidli et al. 2014 suggest .1-.5)."""

PADDED = 4
"""Components of a mixture are padded to a multiple of this: one compiled program serves many."""

NORMAL_DF = 1e7
"""A Student-t that differs from a normal by less than 1e-5 nats where draws lie."""

TINY = 1e-300

LEVEL_COEFFICIENTS = ("log_E", "log_u", "log_v")
SAME_CURVE = ({"pnorm", "gamma"},)
"""Laws whose sampled coefficients mean the same."""


def name_and_parts(text: str, default: tuple[Part, ...] = PARTS) -> tuple[str, tuple[Part, ...]]:
    """The name of a prior and what of it is used, where a text such as ``typical:law`` says so.

    Examples
    --------
    >>> name_and_parts("typical:law")
    ('typical', ('law',))
    >>> name_and_parts("ours.json:noise,drift")
    ('ours.json', ('noise', 'drift'))
    >>> name_and_parts("C:/ours.json")
    ('C:/ours.json', ('law', 'noise', 'drift'))
    """
    name, _, told = text.rpartition(":")
    asked = told.split(",")
    if name and set(asked) <= set(PARTS):
        return name, tuple(part for part in PARTS if part in asked)
    return text, default


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PriorUse:
    """How a prior file is to be used.

    Attributes
    ----------
    file : PriorFile
    vague : float
        Prior weight of the default prior beside it, 0 to below 1: what is left if the runs
        contradict the file. 0 trusts it wholly.
    parts : tuple of {"law", "noise", "drift"}
        What of it is used.
    level : bool
        ``new-group``: use the absolute level of its loss as well. Sensible for the same corpus,
        tokenizer and held-out text only.
    bytes_per_token : float or None
        Of this study's tokenizer, where known.
    """

    file: PriorFile
    vague: float = VAGUE
    parts: tuple[Part, ...] = PARTS
    level: bool = False
    bytes_per_token: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.vague < 1:
            what = f"the vague weight must be at least 0 and below 1, got {self.vague}"
            raise InputError(what, where="prior")
        if not self.parts or set(self.parts) - set(PARTS):
            got = ", ".join(self.parts) or "none"
            what = f"parts must be some of {', '.join(PARTS)}, got {got}"
            raise InputError(what, where="prior")
        if self.bytes_per_token is not None and not self.bytes_per_token > 0:
            raise InputError(f"bytes_per_token must be positive, got {self.bytes_per_token}")

    def bind(self, study: ImportingStudy) -> tuple[BoundPrior, ...]:
        """The file's densities in terms of the study.

        A prediction for a new group gives two, of the law and of the noise, so that noise that is
        unlike does not throw out the law; the posterior of groups is one, with its correlations.

        Raises
        ------
        InputError
            If law, groups or units do not go together.
        """
        file = self.file
        with_law = "law" in self.parts and file.covers_law
        with_noise = "noise" in self.parts and file.covers_noise
        drift = None
        if "drift" in self.parts and file.drift is not None:
            drift = Drift(**file.drift)
        if not (with_law or with_noise or drift):
            what = f"holds nothing of {', '.join(self.parts)}"
            raise InputError(what, where=file.name)
        if with_law:
            _require_law(file, study)
        target, columns, chosen, notes = _place(file, study)
        source = _Binding(self, study, target, columns, chosen)
        if file.kind == "groups":
            made = [source.bound(law=with_law, noise=with_noise)]
        else:
            made = [source.bound(law=True, noise=False)] if with_law else []
            made += [source.bound(law=False, noise=True)] if with_noise else []
        first, *others = made
        told = BoundPrior(
            name=first.name,
            about=first.about,
            source=first.source,
            vague=first.vague,
            notes=(*notes, *first.notes),
            drift=drift,
            fitted_over=source.fitted_over() if with_law else (),
        )
        return (told, *others)


def _require_law(file: PriorFile, study: ImportingStudy) -> None:
    name = study.law.name
    if name == file.law or any({name, file.law} <= same for same in SAME_CURVE):
        return
    what = f"is of law {file.law}, this fit's is {name}"
    hint = f"Fit with --law {file.law}, or take its noise alone (parts)."
    raise InputError(what, where=file.name, hint=hint)


def _place(
    file: PriorFile, study: ImportingStudy
) -> tuple[Target, tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """Target, its columns, the file's groups in that order, and notes."""
    labels = study.groups.labels
    if file.kind == "new-group":
        architecture = str(file.groups[0].get("architecture", "")) if file.groups else ""
        first = "architecture" in labels and labels.columns[0] == "architecture"
        if first and architecture in study.groups.parents and len(study.groups.parents) > 1:
            index = study.groups.parents.index(architecture)
            note = (f"{file.name}: for the groups of {architecture}",)
            if study.structure.nested:
                return "level", (index,), (0,), note
            return "groups", (index,), (0,), note  # one group each: its own
        return "population", (), (0,), ()
    columns, chosen = [], []
    for i, group in enumerate(file.groups):
        if not set(group) <= set(map(str, labels.columns)):
            continue
        match = np.ones(len(labels), dtype=bool)
        for name, value in group.items():
            match &= (labels[name].astype(str) == str(value)).to_numpy()
        if match.sum() == 1:
            columns.append(int(np.flatnonzero(match)[0]))
            chosen.append(i)
    if not columns:
        theirs = "; ".join("/".join(map(str, g.values())) for g in file.groups[:5])
        ours = "; ".join(study.groups.names[:5])
        hint = "For other groups, export the prediction for a new one (--kind new-group)."
        raise InputError(f"is of {theirs}; this study has {ours}", where=file.name, hint=hint)
    left = [i for i in range(len(file.groups)) if i not in chosen]
    note = (f"{file.name}: {len(left)} of its {len(file.groups)} groups are not in this study",)
    return "groups", tuple(columns), tuple(chosen), note if left else ()


@dataclass(frozen=True, slots=True, eq=False)
class _Binding:
    """A file's place in a study, from which its densities are made."""

    use: PriorUse
    study: ImportingStudy
    target: Target
    columns: tuple[int, ...]
    chosen: tuple[int, ...]

    def bound(self, *, law: bool, noise: bool) -> BoundPrior:
        file, study = self.use.file, self.study
        part = self._law_part(law)
        conversion = self._conversion(part)
        index = self._quantities(part, noise)
        places = self.columns if self.target == "groups" else (-1,)
        about = [f"law of {self.target} {c}" for c in self.columns or ("",)] if law else []
        about += ["noise"] if noise else []
        covariances, weights = default_covariances(study, self.columns, target=self.target)
        if part == "shape":  # one normal for each coefficient: the level is integrated out
            covariances = np.einsum("n,knij->kij", weights, covariances)[:, None]
            weights = np.ones(1)
        factors, peaks = inverse_factors(covariances, None)
        mean, covariance = default_noise(study, len(places))
        if self.target == "groups" and study.structure.pooled:
            covariance[:-1, :-1] += study.priors.noise_between**2 * np.eye(len(places))
        noise_factor, noise_peak = inverse_factors(covariance, None)
        names = study.law.names
        level = [float(name in LEVEL_COEFFICIENTS) for name in names]
        return BoundPrior(
            name=file.name,
            about=tuple(about),
            source=ImportedSource(
                mixture=mixture_arrays(file.mixture.marginal(index)),
                shift=jnp.asarray(conversion.shift),
                offset=jnp.asarray([conversion.log_slope * (n == "log_alpha") for n in names]),
                level=jnp.asarray(level),
                loc=jnp.asarray([c.loc for c in study.priors.coefficients]),
                factors=jnp.asarray(factors),
                log_norms=jnp.asarray(peaks + np.log(weights)),
                noise_loc=jnp.asarray(mean),
                noise_factor=jnp.asarray(noise_factor),
                noise_log_norm=jnp.asarray(noise_peak),
                target=self.target,
                columns=self.columns,
                law_part=part,
                noise=noise,
            ),
            vague=self.use.vague,
            notes=conversion.notes if law else (),
        )

    def fitted_over(self) -> Cells:
        """The file's cells in the study's units.

        None for a law that reads more than N and D, or if it is of some of the study's groups only.
        """
        file, study = self.use.file, self.study
        every = self.target == "groups" and len(self.columns) == study.groups.n_groups
        if not file.fitted_over or study.law.columns or not (every or self.target == "population"):
            return ()
        conversion = self._conversion(self._law_part(law=True))
        c, r, count = np.asarray(file.fitted_over).T
        ours, theirs = study.scale, file.reference
        moved = conversion.shift[:2] / np.log(10.0)  # of the reference run, as the file counts
        params = (c - r) / 2 - np.log10(theirs.params) + moved[0]
        params = np.log10(ours.params) + np.exp(-conversion.log_slope) * params
        tokens = (c + r) / 2 - np.log10(theirs.tokens) + moved[1] + np.log10(ours.tokens)
        placed = np.stack([params + tokens, tokens - params, count], axis=1)
        return tuple((float(c), float(r), float(n)) for c, r, n in placed)

    def _law_part(self, law: bool) -> LawPart:
        if not law:
            return "none"
        file = self.use.file
        if file.kind == "groups" or file.parameterisation == "coefficients":
            return "full"
        if self.use.level and not file.covers_level:
            what = "knows no absolute level of loss"
            raise InputError(what, where=file.name, hint="Use it without level.")
        return "full" if self.use.level else "shape"

    def _conversion(self, part: LawPart) -> Conversion:
        if part == "none":
            return Conversion()
        return convert(
            self.use.file,
            self.study,
            level=part == "full",
            bytes_per_token=self.use.bytes_per_token,
        )

    def _quantities(self, part: LawPart, noise: bool) -> Sequence[int]:
        """Indices of the file's quantities in the model's order."""
        quantities = self.use.file.quantities
        groups: list[int | None] = [None]
        if self.use.file.kind == "groups":
            groups = list(self.chosen)
        index = []
        if part != "none":
            for group in groups:
                index += [
                    i
                    for i, q in enumerate(quantities)
                    if q.group == group
                    and q.name not in NOISE_QUANTITIES
                    and not (part == "shape" and q.name == "log_loss")
                ]
        if noise:
            index += [
                next(i for i, q in enumerate(quantities) if (q.name, q.group) == ("log_noise", g))
                for g in groups
            ]
            index += [i for i, q in enumerate(quantities) if q.name == "log_off_valley"]
        return index


def mixture_arrays(mixture: Mixture) -> MixtureArrays:
    """A mixture as the model evaluates it, padded with components of no weight."""
    df = NORMAL_DF if mixture.df is None else mixture.df
    factors, peaks = inverse_factors(mixture.scales, df)
    padding = -len(mixture.weights) % PADDED
    last = np.arange(len(mixture.weights) + padding).clip(max=len(mixture.weights) - 1)
    weights = np.append(mixture.weights / mixture.weights.sum(), np.zeros(padding))
    return MixtureArrays(
        log_weights=jnp.asarray(np.log(np.maximum(weights, TINY))),
        means=jnp.asarray(mixture.means[last]),
        factors=jnp.asarray(factors[last]),
        log_norms=jnp.asarray(peaks[last]),
        df=jnp.asarray(df),
    )
