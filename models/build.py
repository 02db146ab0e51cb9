"""From a shape to a model."""

import torch

from allometry.accounting import Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError
from allometry.models.initialization import initialize
from allometry.models.transformer import Transformer
from allometry.models.xlstm import XLSTM

Model = Transformer | XLSTM


def build(
    shape: Shape,
    *,
    seed: int | torch.Generator = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Model:
    """Model of a shape with freshly drawn parameters.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        For instance ``allometry.accounting.preset("xlstm-160m")``.
    seed : int or torch.Generator
        Source of the parameters; an int draws on the CPU, the same on every device. The global
        generator is neither read nor moved on.
    device : torch.device or str
        Where the parameters live; "meta" for shapes without memory or values.
    dtype : torch.dtype
        Of the parameters. To compute in bfloat16 over float32 parameters, use autocast.

    Returns
    -------
    Transformer or XLSTM

    Raises
    ------
    InputError
        If `shape` is neither of the two shapes.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> model = build(preset("transformer-tiny"))
    >>> tuple(model(torch.zeros(1, 5, dtype=torch.int64)).shape)
    (1, 5, 1000)
    """
    model = skeleton(shape, dtype=dtype)
    if torch.device(device).type == "meta":
        return model
    model = model.to_empty(device=device)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    initialize(model, generator)
    return model


def skeleton(shape: Shape, *, dtype: torch.dtype = torch.float32) -> Model:
    """Model of a shape on the meta device: names and sizes, no memory."""
    with torch.device("meta"):
        if isinstance(shape, TransformerShape):
            return Transformer(shape).to(dtype)
        if isinstance(shape, XLSTMShape):
            return XLSTM(shape).to(dtype)
    what = f"shape must be a TransformerShape or an XLSTMShape, got {type(shape).__name__}"
    raise InputError(what, hint='For instance allometry.accounting.preset("xlstm-160m").')
