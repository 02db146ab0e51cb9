"""What a prefill or a decode step has to do, and the seconds it spends on it."""

from dataclasses import dataclass
from functools import partial

import jax
from jaxtyping import Array, Float


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("decode", "many_rows", "layers", "row_channels", "linear_flops", "head_flops"),
        *("prompt_logit_flops", "prompt_logit_bytes", "weight_bytes", "activation_bytes"),
        *("cache_bytes", "pair_flops", "channels", "key_rounds", "key_line_rounds"),
        *("chunk_rounds", "sequence_channels", "peak_flops", "peak_bandwidth"),
    ],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a prefill or a decode step of a batch has to do; zero where a kind of work is absent.

    Attributes
    ----------
    decode : Array, shape (*points)
        One for a decode step, zero for a prefill.
    many_rows : Array
        One if matrix products have more than one row (batch x tokens above 1).
    layers : Array
        Blocks of the model.
    row_channels : Array
        Layers x width of a step whose products have one row; zero with more rows.
    linear_flops, head_flops : Array
        Products with weights of all layers; with the vocabulary, for one token a sequence.
    prompt_logit_flops, prompt_logit_bytes : Array
        Head of the prompt's other tokens, if their logits are computed, and what is moved then.
    weight_bytes, activation_bytes, cache_bytes : Array
        As counted by `allometry.accounting`: KV cache or recurrent state in the last one.
    pair_flops : Array
        Score and value products of a prefill's attention.
    channels : Array
        Layers x width x tokens of a prefill with attention.
    key_rounds : Array
        Layers x rounds x keys that one block walks along (attention, decode).
    key_line_rounds : Array
        The same times the lines of memory that a key of one head takes up.
    chunk_rounds : Array
        Layers x rounds x chunks that one block walks along (recurrent, prefill).
    sequence_channels : Array
        Sequences x layers x heads x padded head width of a decode step.
    peak_flops, peak_bandwidth : Array
        Ceilings in FLOP/s and bytes/s.
    """

    decode: Float[Array, "*points"]
    many_rows: Float[Array, "*points"]
    layers: Float[Array, "*points"]
    row_channels: Float[Array, "*points"]
    linear_flops: Float[Array, "*points"]
    head_flops: Float[Array, "*points"]
    prompt_logit_flops: Float[Array, "*points"]
    prompt_logit_bytes: Float[Array, "*points"]
    weight_bytes: Float[Array, "*points"]
    activation_bytes: Float[Array, "*points"]
    cache_bytes: Float[Array, "*points"]
    pair_flops: Float[Array, "*points"]
    channels: Float[Array, "*points"]
    key_rounds: Float[Array, "*points"]
    key_line_rounds: Float[Array, "*points"]
    chunk_rounds: Float[Array, "*points"]
    sequence_channels: Float[Array, "*points"]
    peak_flops: Float[Array, "*points"]
    peak_bandwidth: Float[Array, "*points"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("launch", "sequences", "compute", "memory", "walk", "mixing", "overlapped", "sharpness"),
    ],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyParts:
    """Seconds by what they are spent on, before what overlaps is taken once.

    Attributes
    ----------
    launch : Array, shape (*points)
        Starting kernels, layer by layer, and what a call costs whatever its depth.
    sequences : Array
        What a step costs for each sequence besides products, traffic and the walk.
    compute : Array
        FLOPs at the effective rates.
    memory : Array
        Weights, activations and cache at the effective bandwidths.
    walk : Array
        The serial walk along keys, chunks, or the channels of a single row.
    mixing : Array
        Attention or recurrence as they run: the part of ``overlapped`` that depends on the prompt.
    overlapped : Array
        ``sequences`` and the three above as they run: less than their sum, at least each of them.
    sharpness : Array
        Exponent of the smooth maximum of ``launch`` and ``overlapped``: one where they add up.
    """

    launch: Float[Array, "*points"]
    sequences: Float[Array, "*points"]
    compute: Float[Array, "*points"]
    memory: Float[Array, "*points"]
    walk: Float[Array, "*points"]
    mixing: Float[Array, "*points"]
    overlapped: Float[Array, "*points"]
    sharpness: Float[Array, "*points"]
