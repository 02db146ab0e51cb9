"""Plots of the fit as images inside the page."""

import base64
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xarray as xr

from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.sampling import Stage, tell
from allometry.plots import Request, draw_figure
from allometry.report.html import Html, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 400
"""Draws behind a picture: its bands are as wide as the line that draws them is exact."""

MOST_GROUPS = 12
"""Groups that a picture with one panel each can show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One picture: its kind, title, and what a reader should see in it."""

    name: str
    title: str
    words: str
    panels: bool = False
    of_runs: bool = False  # drawn at the runs themselves: any law, whatever else it needs


KINDS = (
    Kind(
        name="valleys",
        title="The runs, and the law through them",
        words="Each curve is one training budget: too small a model on the left, too little data "
        "on the right, the best size in between. Points are finished runs; bands are where a new "
        "run would end with 50 and 90 % probability.",
        panels=True,
    ),
    Kind(
        name="fan",
        title="Loss beyond the runs",
        words="Loss of the best run at each budget. Beyond the largest run the line is dashed and "
        "the bands widen: the law may drift there.",
    ),
    Kind(
        name="growth",
        title="How size and tokens grow with the budget",
        words="The best number of params and of tokens. A straight line is a power law; points are "
        "the runs of least loss at each budget.",
    ),
    Kind(
        name="exponents",
        title="The exponents of growth",
        words="How fast the best size (left) and the best number of tokens (right) grow: 0.5 means "
        "that a hundred times the compute asks for ten times as much of it.",
    ),
    Kind(
        name="residuals",
        title="What the law leaves over",
        words="Distance of each run from the law. A cloud without shape is what a good law leaves; "
        "a slope or a bend is something that it misses.",
        of_runs=True,
    ),
)


def pictures(
    posterior: Posterior, *, force: bool = False, progress: Stage | None = None
) -> tuple[list[Html], list[str]]:
    """The figures as markup, and what was left out, each with its reason."""
    drawn, left = [], []
    few = _without_formulas(posterior.thinned(DRAWS))
    run = int((~posterior.unseen).sum())
    needs = ", ".join(posterior.law.columns)
    kinds = [kind for kind in KINDS if kind.of_runs or not needs]
    if needs:
        left.append(f"Pictures of the law over params, tokens and budgets: it needs {needs} too.")
    for done, kind in enumerate(kinds):
        tell(progress, f"drawing {kind.name}", done, len(kinds))
        if kind.panels and run > MOST_GROUPS:
            left.append(f"{kind.title}: {run} groups are too many for one picture.")
            continue
        try:
            figure = draw_figure(few, kind.name, Request(force=force))
        except InputError as error:
            left.append(f"{kind.title}: {error}.")
            continue
        drawn.append(_figure(kind, figure))
    return drawn, left


def _without_formulas(posterior: Posterior) -> Posterior:
    """The same posterior, its labels such that matplotlib takes none of them for a formula."""
    dataset = posterior.idata["posterior"].to_dataset()
    escaped = {
        name: (values.dims, [str(v).replace("$", r"\$") for v in values.to_numpy()])
        for name, values in dataset.coords.items()
        if values.dtype.kind in "OUT" and any("$" in str(v) for v in values.to_numpy())
    }
    if not escaped:
        return posterior
    tree = posterior.idata.copy()
    tree["posterior"] = xr.DataTree(dataset.assign_coords(escaped))
    return replace(posterior, idata=tree)


def _figure(kind: Kind, figure: "Figure") -> Html:
    image = tag("img", src=data_uri(figure), alt=f"{kind.title}. {kind.words}", loading="lazy")
    caption = tag("figcaption", kind.words)
    return tag("figure", tag("h3", kind.title), tag("div", image, class_="picture"), caption)


def data_uri(figure: "Figure") -> str:
    """A figure as SVG in a data URI: inside of an image, where nothing of it can be run."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "allometry"}  # small; the same bytes again
    with mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
