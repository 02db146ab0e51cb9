"""Figures to files, whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

from allometry.errors import InputError
from allometry.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in .png, .pdf, .svg or another suffix that matplotlib knows; its folder is made.
    dpi : int
        Dots per inch of a bitmap.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        what = f"no format is called {suffix!r}"
        raise InputError(what, where=str(target), hint=f"Use one of {', '.join(sorted(known))}.")
    # No date in the file: the same figure is the same bytes.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    with writing(target) as partial:
        figure.savefig(partial, format=suffix, dpi=dpi, metadata=metadata)
    return target
