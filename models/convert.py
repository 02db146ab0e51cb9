"""Published xLSTM-7B-style parameters to ours and back.

Outside the blocks:

| here | published |
|---|---|
| embedding.weight | embedding.weight (xlstm), backbone.embeddings.weight (transformers) |
| final_norm.weight | backbone.out_norm.weight |
| head.weight | lm_head.weight |

In block N, ``blocks.N.`` here and ``backbone.blocks.N.`` there; rows are stacked in the order
given:

| here | published |
|---|---|
| mixer_norm.weight | norm_mlstm.weight |
| mixer.qkvo.weight | mlstm_layer.{q, k, v, ogate_preact}.weight |
| mixer.gates.{weight, bias} | mlstm_layer.{igate_preact, fgate_preact}.{weight, bias} |
| mixer.head_norm.weight | mlstm_layer.multihead_norm.weight |
| mixer.out.weight | mlstm_layer.out_proj.weight |
| feed_forward_norm.weight | norm_ffn.weight |
| feed_forward.{gate, up, down}.weight | ffn.{proj_up_gate, proj_up, proj_down}.weight |

These are the names of ``weight_mode="single"``, in which checkpoints are published. The stacked
ones of ``"fused"`` (qkv_opreact, ifgate_preact, proj_up_gate_z) are read too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allometry.accounting import XLSTMShape
from allometry.errors import InputError
from allometry.models.checkpoint import model_from, read_config, read_tensors
from allometry.models.xlstm import XLSTM

_OUTER: dict[str, tuple[str, ...]] = {
    "embedding.weight": ("embedding.weight",),
    "final_norm.weight": ("backbone.out_norm.weight",),
    "head.weight": ("lm_head.weight",),
}
_PER_BLOCK = {
    "mixer_norm.weight": ("norm_mlstm.weight",),
    "mixer.qkvo.weight": tuple(f"mlstm_layer.{x}.weight" for x in ("q", "k", "v", "ogate_preact")),
    "mixer.gates.weight": ("mlstm_layer.igate_preact.weight", "mlstm_layer.fgate_preact.weight"),
    "mixer.gates.bias": ("mlstm_layer.igate_preact.bias", "mlstm_layer.fgate_preact.bias"),
    "mixer.head_norm.weight": ("mlstm_layer.multihead_norm.weight",),
    "mixer.out.weight": ("mlstm_layer.out_proj.weight",),
    "feed_forward_norm.weight": ("norm_ffn.weight",),
    "feed_forward.gate.weight": ("ffn.proj_up_gate.weight",),
    "feed_forward.up.weight": ("ffn.proj_up.weight",),
    "feed_forward.down.weight": ("ffn.proj_down.weight",),
}
# weight_mode="fused": the published name, and the names of "single" whose rows it stacks.
_FUSED = {
    "mlstm_layer.qkv_opreact": ("q", "k", "v", "ogate_preact"),
    "mlstm_layer.ifgate_preact": ("igate_preact", "fgate_preact"),
    "ffn.proj_up_gate_z": ("proj_up_gate", "proj_up"),
}


def from_published(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> XLSTM:
    """Model from the configuration and the parameters of a published model.

    Parameters
    ----------
    config : mapping
        Fields of ``xLSTMLargeConfig`` (package xlstm) or of ``xLSTMConfig`` (transformers).
    tensors : mapping of str to Tensor
        State dict under either package's names; see the table of this module.
    device, dtype
        Where the parameters go and what they become; dtype by default as given.

    Raises
    ------
    InputError
        If the model has a part that ours has not, or a tensor is missing, unknown or misshapen.
    """
    shape = shape_from_published(config)
    left = _unfused(tensors, shape)
    ours: dict[str, Tensor] = {}
    for name, parts in published_names(shape.n_layers).items():
        if all(part in left for part in parts):
            found = [left.pop(part) for part in parts]
            ours[name] = found[0] if len(found) == 1 else torch.cat(found)
    model = model_from(shape, ours | left, device=device, dtype=dtype, where="published tensors")
    assert isinstance(model, XLSTM)  # the shape is an XLSTMShape
    return model


def to_published(model: XLSTM) -> dict[str, Tensor]:
    """State dict under the names of package xlstm, ``weight_mode="single"``; views, not copies.

    The embedding's name in transformers is ``backbone.embeddings.weight``.
    """
    published: dict[str, Tensor] = {}
    parameters = dict(model.named_parameters())
    for name, parts in published_names(model.shape.n_layers).items():
        parameter = parameters[name].detach()
        single = len(parts) == 1
        rows = [len(parameter)] if single else [_rows(part, model.shape) for part in parts]
        published.update(zip(parts, parameter.split_with_sizes(rows), strict=True))
    return published


def shape_from_published(config: Mapping[str, Any]) -> XLSTMShape:
    """Shape of a published configuration; fields and errors as in `from_published`."""
    width = _first(config, "embedding_dim", "hidden_size")
    blocks = _first(config, "num_blocks", "num_hidden_layers")
    heads = _first(config, "num_heads")
    wanted = {"use_bias": False, "add_out_norm": True, "tie_word_embeddings": False, "eps": 1e-6}
    if faults := [f"{k} {config[k]!r}" for k, v in wanted.items() if config.get(k, v) != v]:
        what = f"cannot hold {', '.join(faults)}; needs {wanted}"
        raise InputError(what, where="published config")
    multiple = int(config.get("ffn_round_up_to_multiple_of", 64))
    up = width * float(config.get("ffn_proj_factor", 2.6667))
    return XLSTMShape(
        d_model=width,
        n_layers=blocks,
        n_heads=heads,
        head_dim_v=int(width * float(config.get("v_dim_factor", 1.0))) // heads,
        head_dim_qk=int(width * float(config.get("qk_dim_factor", 0.5))) // heads,
        # As the packages round: whole multiples in (up + multiple - 1), without a ceil first.
        d_ff=int((up + multiple - 1) // multiple * multiple),
        vocab_size=_first(config, "vocab_size"),
        chunk_size=int(config.get("chunk_size", 64)),
        norm_eps=float(config.get("norm_eps", 1e-6)),
        gate_soft_cap=float(config.get("gate_soft_cap", 15.0)),
        logit_soft_cap=float(config.get("output_logit_soft_cap", 30.0)),
    )


def load_published(
    folder: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> XLSTM:
    """Model from a downloaded folder: ``config.json`` and one or more ``*.safetensors``.

    Parameters and errors as in `from_published`. The layout of transformers (for instance
    NX-AI/xLSTM-7b); for a ``config.yaml`` of package xlstm, read it and call `from_published`.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        what = "needs config.json and at least one .safetensors file"
        raise InputError(what, where=str(folder), hint="Download the whole repository.")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)[0]
    config = read_config(folder / "config.json")
    return from_published(config, tensors, device=device, dtype=dtype)


def published_names(n_layers: int) -> dict[str, tuple[str, ...]]:
    """Our parameter names, and the published ones whose rows they stack."""
    names = dict(_OUTER)
    for block in range(n_layers):
        for ours, parts in _PER_BLOCK.items():
            there = tuple(f"backbone.blocks.{block}.{part}" for part in parts)
            names[f"blocks.{block}.{ours}"] = there
    return names


def _unfused(tensors: Mapping[str, Tensor], shape: XLSTMShape) -> dict[str, Tensor]:
    """State dict with the embedding's name of xlstm and all matrices single."""
    single: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block, dot, kind = name.rpartition(".")
        stem = next((stem for stem in _FUSED if block.endswith(stem)), None)
        if name == "backbone.embeddings.weight":  # transformers
            single["embedding.weight"] = tensor
        elif stem is None:
            single[name] = tensor
        else:
            prefix = block[: len(block) - len(stem)] + stem.rpartition(".")[0] + "."
            parts = [f"{prefix}{part}{dot}{kind}" for part in _FUSED[stem]]
            rows = [_rows(part, shape) for part in parts]
            if sum(rows) != len(tensor):
                what = f"{name} has {len(tensor)} rows, the config wants {sum(rows)}"
                raise InputError(what, where="published tensors")
            single.update(zip(parts, tensor.split_with_sizes(rows), strict=True))
    return single


def _rows(published_name: str, shape: XLSTMShape) -> int:
    """Rows of a published matrix or bias that is stacked with others."""
    part = published_name.split(".")[-2]
    if part in ("q", "k"):
        return shape.n_heads * shape.head_dim_qk
    if part in ("v", "ogate_preact"):
        return shape.n_heads * shape.head_dim_v
    return shape.d_ff if part.startswith("proj_up") else shape.n_heads


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if config.get(name) is not None:
            return int(config[name])
    raise InputError(f"no {' or '.join(names)}", where="published config")
