"""The Transformer and the xLSTM, in PyTorch."""

if __name__ != "allometry.models":
    raise ImportError(f"imported as {__name__!r}; import allometry.models instead")

from allometry.models.attention import KVCache
from allometry.models.build import Model, build, skeleton
from allometry.models.checkpoint import load_model, save_model
from allometry.models.convert import from_published, load_published, to_published
from allometry.models.initialization import initialize, weight_decay_groups
from allometry.models.loss import IGNORED, linear_cross_entropy, next_token_loss
from allometry.models.transformer import Transformer
from allometry.models.xlstm import XLSTM, RecurrentState

__all__ = [
    "IGNORED",
    "XLSTM",
    "KVCache",
    "Model",
    "RecurrentState",
    "Transformer",
    "build",
    "from_published",
    "initialize",
    "linear_cross_entropy",
    "load_model",
    "load_published",
    "next_token_loss",
    "save_model",
    "skeleton",
    "to_published",
    "weight_decay_groups",
]
