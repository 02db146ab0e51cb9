"""Options and words that every command which asks a loss posterior shares."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from allometry.accounting import CostModel
    from allometry.decisions.asking import Which
    from allometry.inference import Posterior

_MOST = 1e60  # FLOPs or anything else that is counted; powers of more overflow


def _countable(_type: object, values: list[float] | None) -> None:
    if too_many := [value for value in values or () if value > _MOST]:
        raise ValueError(f"Must be at most {_MOST:g}, got {too_many[0]:g}.")


Budgets = Annotated[list[float], Parameter(consume_multiple=True, validator=_countable)]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**32))]
Cost = Literal["accounting", "table", "6nd"]
VocabSize = Annotated[int, Parameter(validator=Number(gte=1, lte=10**8))]
STUDY_VOCAB = 50_304  # allometry.accounting.VOCAB_SIZE, which takes a while to import
PLOT_FORMATS = (".png", ".pdf", ".svg")
POSTERIOR_FORMATS = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")
"""A posterior under the name of a table would take the table's place."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Which groups a command asks.

    Parameters
    ----------
    architecture
        Only this architecture.
    context_length
        Only this context length. One that was never run is predicted from the population of groups,
        and that is said.
    group
        Any group columns: ``--group architecture=transformer,context_length=4096``.
    unseen
        Allow an architecture (or another name) that was never run, too.
    force
        Answer although the fit did not converge.
    """

    architecture: str | None = None
    context_length: int | None = None
    group: str | None = None
    unseen: Annotated[bool, Parameter(negative=())] = False
    force: Annotated[bool, Parameter(negative=())] = False

    def which(self) -> "Which":
        """As decisions ask for it."""
        return {
            "architecture": self.architecture,
            "context_length": self.context_length,
            "group": parse_group(self.group),
            "unseen": self.unseen,
            "force": self.force,
        }


EVERY_GROUP = Groups()


def parse_group(text: str | None, *, option: str = "--group") -> dict[str, object] | None:
    """Group columns and values of ``architecture=transformer,context_length=4096``."""
    from allometry.errors import InputError

    if text is None:
        return None
    found: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value) or name in found:
            hint = f"Write {option} architecture=transformer,context_length=4096."
            raise InputError(f"not a group: {text!r}", where=option, hint=hint)
        found[name] = int(value) if value.isdecimal() else value
    return found


def open_posterior(path: Path) -> "Posterior":
    """A loss posterior, with this process's cache of compiled programs made ready."""
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import Posterior

    prepare_jax()
    return Posterior.load(path)


def other_cost(posterior: "Posterior", cost: Cost | None) -> "CostModel | None":
    """The cost model that ``--cost`` names."""
    from allometry.inference.costs import cost_of_posterior

    return cost_of_posterior(posterior, cost) if cost else None


@contextmanager
def notes() -> Iterator[None]:
    """Say on stderr, once each, what answers warn of: groups never run, sizes without a shape."""
    from allometry.decisions.asking import UnseenGroupWarning
    from allometry.decisions.buildable import NoShapeWarning

    told = (UnseenGroupWarning, NoShapeWarning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = {str(w.message) for w in caught if issubclass(w.category, told)}
    for w in caught:
        if not issubclass(w.category, told):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    for text in sorted(said):
        print(f"note: {text}", file=sys.stderr)


def short(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table a person reads: medians and 90 % ends; --json has all.

    What its distances have meant in other studies is said on stderr: one sentence, of the farthest,
    for all of which the same is known.
    """
    kept = [name for name in table.columns if not name.endswith(("_q25", "_q75", "reach"))]
    if "reach" in table:
        from allometry.inference.reach import far_outside

        told: dict[str, tuple[float, float, str]] = {}
        columns = (table[name] for name in ("extrapolation_factor", "distance_outside", "reach"))
        for factor, aside, sentence in zip(*columns, strict=True):
            known = sentence.partition(": ")[2]
            place = (factor, aside) if factor > 1.0 else (0.0, aside)
            if far_outside(factor, aside):
                told[known] = max(told.get(known, (-1.0, 0.0, "")), (*place, sentence))
        for *_, sentence in told.values():
            print(sentence, file=sys.stderr)
    if "unseen" in kept and not table["unseen"].any():
        kept.remove("unseen")
    return table[kept]


def answered(table: "pd.DataFrame", *, as_json: bool) -> int:
    """Print an answer, whole as JSON and short for people; exit code 0."""
    from allometry.cli.output import emit

    emit(table if as_json else short(table), as_json=as_json)
    return 0


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a file of another kind, or that cannot be written, before anything is computed."""
    from allometry.errors import InputError
    from allometry.files import check_writable

    if path.suffix.lower() not in suffixes:
        what = f"suffix {path.suffix or 'none'}"
        raise InputError(what, where=str(path), hint=f"Use {', '.join(suffixes)}.")
    check_writable(path)


def check_picture(path: Path | None) -> None:
    """`check_output` of a picture, where one is asked for."""
    if path is not None:
        check_output(path, PLOT_FORMATS)


def check_shapes(posterior: "Posterior", groups: Groups) -> None:
    """Refuse shapes to build of an architecture that has none, before anything is computed."""
    from allometry.decisions.asking import wanted_labels
    from allometry.decisions.buildable import shapes_near
    from allometry.inference.costs import ARCHITECTURES

    asked = wanted_labels(posterior, groups.which())
    known = posterior.groups
    for name, value in asked.items():
        known = known[known[name].astype(str) == str(value)]
    found = known["architecture"].astype(str) if "architecture" in known else ["None"]
    names = {str(asked["architecture"])} if "architecture" in asked else set(found)
    for name in sorted(names - set(ARCHITECTURES)):
        shapes_near(name, 1.0)  # raises, and says which there are


def write_picture(figure: "Figure", path: Path) -> None:
    """Write a figure and say where."""
    from allometry.plots.writing import save_figure

    print(f"plot: {save_figure(figure, path)}", file=sys.stderr)
