"""Where training starts: parameters drawn as in the study, and which of them decay.

| parameter | start |
|---|---|
| embedding, q, k, v, output gate, feed-forward up and gate | Normal, sd sqrt(2 / (5 d)) |
| head | Normal, half of that |
| mixer output, feed-forward down | Normal, sd 2 / (n_layers sqrt(d)) |
| gate weights | 0 |
| input gate bias; forget gate bias | -10; evenly spaced from 3 to 6 over the heads |
| norm scales | 1 |

sqrt(2 / (5 d)) is "small init" (Nguyen and Salazar 2019, arXiv:1910.05895), 2 / (n sqrt(d)) the
output init of Wang and Komatsuzaki 2021 (GPT-J); xLSTM 7B (arXiv:2503.13427) uses both, and the
Transformer here the same, so that the two differ in the mixer alone.
The head is drawn at half of small init, which the study uses: its logits have variance s^2 d, and
the loss starts s^2 d / 2 above log(vocab_size): 0.05 nats instead of 0.2, which of a byte
vocabulary's 5.5 nats would be 4 %.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from allometry.models.transformer import Transformer
from allometry.models.xlstm import XLSTM

INPUT_GATE_BIAS = -10.0
FORGET_GATE_BIAS = (3.0, 6.0)  # of the first and of the last head


@torch.no_grad()
def initialize(model: Transformer | XLSTM, generator: torch.Generator) -> None:
    """Draw every parameter in place, in the order of `model.named_parameters()`.

    Parameters
    ----------
    model : Transformer or XLSTM
        With memory: not on the meta device.
    generator : torch.Generator
        Numbers are drawn in float32 on its device and then rounded and moved to the parameter's,
        so a seed gives the same weights on every device and, up to rounding, in every dtype.
    """
    shape = model.shape
    small = math.sqrt(2 / (5 * shape.d_model))
    into_residual = 2 / (shape.n_layers * math.sqrt(shape.d_model))
    for name, parameter in model.named_parameters():
        layer, kind = name.rsplit(".", 2)[-2:]
        if kind == "bias":
            parameter.copy_(_gate_bias(parameter.shape[0] // 2))
        elif layer.endswith("norm"):
            parameter.fill_(1.0)
        elif layer == "gates":
            parameter.fill_(0.0)
        elif layer in ("out", "down"):
            _normal(parameter, into_residual, generator)
        else:
            _normal(parameter, small / 2 if layer == "head" else small, generator)


def weight_decay_groups(
    model: Transformer | XLSTM, *, weight_decay: float = 0.1
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: matrices decay; norm scales and biases do not.

    Parameters
    ----------
    model : Transformer or XLSTM
        The embedding of the Transformer decays, that of the xLSTM does not, as in the study
        (arXiv:2510.02228).
    weight_decay : float
        Of the first group.

    Returns
    -------
    list of dict
        Two groups with keys ``params`` and ``weight_decay``, for `torch.optim.AdamW`. Every
        parameter is in one of them.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> from allometry.models import build
    >>> decayed, kept = weight_decay_groups(build(preset("xlstm-tiny"), seed=0))
    >>> decayed["weight_decay"], kept["weight_decay"]
    (0.1, 0.0)
    """
    exempt = {id(model.embedding.weight)} if isinstance(model, XLSTM) else set()
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        decays = parameter.ndim > 1 and id(parameter) not in exempt
        (decayed if decays else kept).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def _normal(parameter: Tensor, sd: float, generator: torch.Generator) -> None:
    drawn = torch.empty(parameter.shape, dtype=torch.float32, device=generator.device)
    parameter.copy_(drawn.normal_(0.0, sd, generator=generator))


def _gate_bias(n_heads: int) -> Tensor:
    inputs = torch.full((n_heads,), INPUT_GATE_BIAS)
    return torch.cat((inputs, torch.linspace(*FORGET_GATE_BIAS, n_heads)))
