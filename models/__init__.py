"""The Transformer and the xLSTM, in PyTorch."""

if __name__ != "allometry.models":
    raise ImportError(f"imported as {__name__!r}; import allometry.models instead")

from allometry.models.attention import KVCache
from allometry.models.build import Model, build, skeleton
from allometry.models.initialization import initialize, weight_decay_groups
from allometry.models.transformer import Transformer
from allometry.models.xlstm import XLSTM, RecurrentState

__all__ = [
    "XLSTM",
    "KVCache",
    "Model",
    "RecurrentState",
    "Transformer",
    "build",
    "initialize",
    "skeleton",
    "weight_decay_groups",
]
