"""Params without embeddings of a study's runs: as its table says, or counted from their shapes."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Shape, TransformerShape, XLSTMShape, count_params
from allometry.errors import InputError

SHAPES: dict[str, type[TransformerShape] | type[XLSTMShape]] = {
    "transformer": TransformerShape,
    "xlstm": XLSTMShape,
}
WIDTHS = ("d_model", "n_layers", "n_heads")


def without_embeddings(table: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """Params without embeddings and head of each run, shape (run,); None if nothing tells them.

    The column ``params_non_embedding``, NaN where it has a gap; else what the accounting counts for
    the columns ``d_model, n_layers, n_heads`` (and ``d_ff``) of known architectures.
    """
    if "params_non_embedding" in table:
        found = pd.to_numeric(table["params_non_embedding"], errors="coerce")
        return found.to_numpy(dtype=np.float64)
    if not {"architecture", *WIDTHS} <= set(table.columns):
        return None
    if not (
        table["architecture"].isin(list(SHAPES)).all() and table[[*WIDTHS]].notna().all(axis=None)
    ):
        return None
    try:
        shapes = [_shape(row) for _, row in table.iterrows()]
    except InputError:  # widths that its architecture cannot have
        return None
    return np.array([count_params(s).without_embedding_and_head for s in shapes], dtype=np.float64)


def _shape(row: "pd.Series[float]") -> Shape:
    d_ff = row.get("d_ff", np.nan)
    return SHAPES[str(row["architecture"])](
        **{name: int(row[name]) for name in WIDTHS}, d_ff=0 if pd.isna(d_ff) else int(d_ff)
    )
