r"""The latency law: seconds of a prefill or of a decode step, one curve for all sizes.

.. math:: t = o_L\,t_{launch} + o_W\,(t_{blocks} + t_{weights} + t_{mixing} + t_{elementwise})

Kernels of a model run one after another, so their times add up; inside one kernel, computing and
reading overlap, so that kernel takes a smooth maximum of the two. Effective rates are shares of the
device's ceilings. Small models reach a smaller share because element-wise kernels move bytes in
proportion to the width while the products compute in proportion to its square: the law has that
term, so no rate has to depend on the size.

Two mechanisms that no roofline of weights and cache has:

*The serial walk.* A kernel that gives each (sequence, head) to one block of threads walks along the
keys (attention, decode) or along the chunks (recurrent, prefill) alone. B sequences of H heads on U
multiprocessors take ceil(B H / U) rounds of that walk, however much bandwidth is idle.

*Logits of the whole prompt.* An implementation that computes logits for every prompt token, not
only for the last, multiplies each of them with the vocabulary.

Derivation and evidence: ``docs/latency.md``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.errors import InputError

Mixer = Literal["attention", "recurrent"]
LatencyValues = Mapping[str, Float[Array, "*points"]]
"""One array a coefficient in its natural unit: a share of a ceiling, seconds, or a plain number."""

_NOTHING = 1e-30
"""Seconds that stand for none, so that logarithms and their gradients stay finite."""
_KERNEL_SHARPNESS = 4.0
"""Exponent of the smooth minimum and maximum inside one attention or cell kernel: at a tie the
result is 19 % off the sharp one, a factor of two away 1.5 %."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("decode", "many_rows", "layers", "linear_flops", "prompt_logit_flops", "weight_bytes"),
        *("activation_bytes", "cache_bytes", "pair_flops", "channels", "key_rounds"),
        *("chunk_rounds", "blocks", "peak_flops", "peak_bandwidth"),
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
    linear_flops, prompt_logit_flops : Array
        Products with weights, head of the last token included; head of the other prompt tokens.
    weight_bytes, activation_bytes, cache_bytes : Array
        As counted by `allometry.accounting`: KV cache or recurrent state in the last one.
    pair_flops : Array
        Score and value products of a prefill's attention.
    channels : Array
        Layers x width x tokens of a prefill with attention.
    key_rounds : Array
        Layers x rounds x keys that one block walks along (attention, decode).
    chunk_rounds : Array
        Layers x rounds x chunks that one block walks along (recurrent, prefill).
    blocks : Array
        Layers x sequences x heads: blocks of threads that a decode step starts.
    peak_flops, peak_bandwidth : Array
        Ceilings in FLOP/s and bytes/s.
    """

    decode: Float[Array, "*points"]
    many_rows: Float[Array, "*points"]
    layers: Float[Array, "*points"]
    linear_flops: Float[Array, "*points"]
    prompt_logit_flops: Float[Array, "*points"]
    weight_bytes: Float[Array, "*points"]
    activation_bytes: Float[Array, "*points"]
    cache_bytes: Float[Array, "*points"]
    pair_flops: Float[Array, "*points"]
    channels: Float[Array, "*points"]
    key_rounds: Float[Array, "*points"]
    chunk_rounds: Float[Array, "*points"]
    blocks: Float[Array, "*points"]
    peak_flops: Float[Array, "*points"]
    peak_bandwidth: Float[Array, "*points"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["launch", "blocks", "compute", "memory", "walk", "overlapped"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyParts:
    """Seconds by what they are spent on, before what overlaps is taken once.

    Attributes
    ----------
    launch : Array, shape (*points)
        Starting kernels, layer by layer.
    blocks : Array
        Starting a block of threads for every sequence and head.
    compute : Array
        FLOPs at the effective rates.
    memory : Array
        Weights, activations and cache at the effective bandwidths.
    walk : Array
        The serial walk along keys or chunks.
    overlapped : Array
        ``blocks`` and the three above as they run: less than their sum, at least each of them.
    """

    launch: Float[Array, "*points"]
    blocks: Float[Array, "*points"]
    compute: Float[Array, "*points"]
    memory: Float[Array, "*points"]
    walk: Float[Array, "*points"]
    overlapped: Float[Array, "*points"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCoefficient:
    """One coefficient of the latency law, with its weakly informative default prior.

    Attributes
    ----------
    name, meaning : str
        Name in the posterior file, and what it is.
    kind : {"flops", "bandwidth", "log"}
        A share of that ceiling (on the logit scale; on the log scale where no ceiling is known), or
        the log of a positive number.
    loc, scale : float
        Normal prior of the mean over architectures, on that scale.
    between : float
        Standard deviation between architectures. Fixed: two architectures do not determine one.
    mixers : tuple of str
        Token mixers that the coefficient concerns.
    two_kernels : bool
        Only in the law with two attention kernels.
    """

    name: str
    meaning: str
    kind: Literal["flops", "bandwidth", "log"]
    loc: float
    scale: float
    between: float = 0.5
    mixers: tuple[Mixer, ...] = ("attention", "recurrent")
    two_kernels: bool = False

    def prior(self, *, bounded: bool) -> tuple[float, float]:
        """Location and scale on the sampler's scale; of the log share where there is no ceiling."""
        if bounded or self.kind == "log":
            return self.loc, self.scale
        return -math.log1p(math.exp(-self.loc)), max(self.scale, 1.0)


_COEFFICIENTS = (
    LatencyCoefficient(
        name="launch_one_row",
        meaning="seconds a layer to start a decode step of one sequence",
        kind="log",
        loc=-10.0,  # 45 us: about ten kernels of a few microseconds each
        scale=1.0,
    ),
    LatencyCoefficient(
        name="launch_more_rows",
        meaning="further seconds a layer when products have several rows: other kernels are taken",
        kind="log",
        loc=-11.5,  # 10 us
        scale=1.0,
    ),
    LatencyCoefficient(
        name="launch_prefill",
        meaning="seconds a layer to start a prefill",
        kind="log",
        loc=-9.7,  # 60 us
        scale=1.0,
    ),
    LatencyCoefficient(
        name="prefill_rate",
        meaning="share of peak FLOP/s of matrix products over a prompt",
        kind="flops",
        loc=0.0,
        scale=1.0,
    ),
    LatencyCoefficient(
        name="decode_rate",
        meaning="share of peak FLOP/s of matrix products of a decode step, one row a sequence: "
        "near prefill_rate on matrix units, a tenth of it where they run as batched vectors",
        kind="flops",
        loc=-1.0,
        scale=1.5,
        between=1.0,
    ),
    LatencyCoefficient(
        name="weight_bandwidth",
        meaning="share of peak bandwidth at which weights are read: streaming kernels reach 80 to "
        "95 %",
        kind="bandwidth",
        loc=2.2,
        scale=0.3,
        between=0.2,
    ),
    LatencyCoefficient(
        name="activation_bandwidth",
        meaning="share of peak bandwidth at which element-wise kernels move activations",
        kind="bandwidth",
        loc=0.7,
        scale=0.5,
    ),
    LatencyCoefficient(
        name="cache_bandwidth",
        meaning="share of peak bandwidth at which the KV cache or the state is read and written",
        kind="bandwidth",
        loc=2.0,
        scale=0.5,
        between=0.3,
    ),
    LatencyCoefficient(
        name="prompt_logits",
        meaning="work on the logits of the prompt's other tokens, over that of their product with "
        "the vocabulary: one if they are computed, more with caps and casts, near zero if not",
        kind="log",
        loc=0.0,
        scale=1.2,
        between=1.0,
    ),
    LatencyCoefficient(
        name="prefill_overlap",
        meaning="sharpness, less one, of the maximum of computing and reading weights in a prefill",
        kind="log",
        loc=0.5,
        scale=0.7,
    ),
    LatencyCoefficient(
        name="decode_overlap",
        meaning="the same in a decode step; near zero where the two do not overlap",
        kind="log",
        loc=0.0,
        scale=1.0,
        between=1.0,
    ),
    LatencyCoefficient(
        name="block_seconds",
        meaning="seconds of a whole device to start one block of a decode step's mixer",
        kind="log",
        loc=-18.0,  # 15 ns: about 2 us of one of a hundred multiprocessors
        scale=1.0,
    ),
    LatencyCoefficient(
        name="key_seconds",
        meaning="seconds in which one block walks past one key of the cache",
        kind="log",
        loc=-17.0,  # 40 ns
        scale=1.0,
        mixers=("attention",),
    ),
    LatencyCoefficient(
        name="pair_rate",
        meaning="share of peak FLOP/s of a prompt's attention (where there are two kernels: of the "
        "one without set-up, which computes and masks every pair)",
        kind="flops",
        loc=-1.5,
        scale=1.2,
        mixers=("attention",),
    ),
    LatencyCoefficient(
        name="causal_pair_rate",
        meaning="the same of the kernel that skips masked pairs",
        kind="flops",
        loc=-0.5,
        scale=1.0,
        mixers=("attention",),
        two_kernels=True,
    ),
    LatencyCoefficient(
        name="causal_setup_seconds",
        meaning="seconds a token and channel that the second kernel takes besides its pairs",
        kind="log",
        loc=-24.0,  # 40 ps: 20 numbers of 2 bytes at 1 TB/s
        scale=1.0,
        mixers=("attention",),
        two_kernels=True,
    ),
    LatencyCoefficient(
        name="chunk_seconds",
        meaning="seconds in which one block walks past one chunk of the prompt",
        kind="log",
        loc=-12.5,  # 4 us
        scale=1.0,
        mixers=("recurrent",),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyLaw:
    """A latency law of the registry.

    Attributes
    ----------
    name, meaning : str
        Registry name; what it assumes.
    coefficients : tuple of LatencyCoefficient
        In the order of the sampler's vector.
    parts : callable
        ``(values, work, bounded) -> LatencyParts``; broadcasts. `bounded`: shares are below one.
    """

    name: str
    meaning: str
    coefficients: tuple[LatencyCoefficient, ...]
    parts: Callable[[LatencyValues, Work], LatencyParts]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients, in order."""
        return tuple(coefficient.name for coefficient in self.coefficients)


def natural_values(
    law: LatencyLaw, theta: Float[Array, "k *rest"], *, bounded: bool
) -> Float[Array, "k *rest"]:
    """Coefficients in their natural units from the sampler's scale, in the law's order.

    Shares of a ceiling are between zero and one if it is one (`bounded`), else positive.
    """
    shares = jax.nn.sigmoid if bounded else jnp.exp
    rows = [
        jnp.exp(x) if coefficient.kind == "log" else shares(x)
        for coefficient, x in zip(law.coefficients, theta, strict=True)
    ]
    return jnp.stack(rows)


def log_seconds(
    parts: LatencyParts,
    launch_effect: Float[Array, "*points"] | float = 0.0,
    work_effect: Float[Array, "*points"] | float = 0.0,
) -> Float[Array, "*points"]:
    """Log of the time, with log effects of a shape on its launches and on its work."""
    launch = jnp.log(parts.launch) + launch_effect
    return jnp.logaddexp(launch, jnp.log(parts.overlapped) + work_effect)


def _smooth_max(
    a: Float[Array, "*points"],
    b: Float[Array, "*points"],
    sharpness: Float[Array, "*points"] | float,
) -> Float[Array, "*points"]:
    log_a, log_b = (jnp.log(jnp.maximum(x, _NOTHING)) for x in (a, b))
    return jnp.exp(jnp.logaddexp(sharpness * log_a, sharpness * log_b) / sharpness)


def _smooth_min(a: Float[Array, "*points"], b: Float[Array, "*points"]) -> Float[Array, "*points"]:
    log_a, log_b = (jnp.log(jnp.maximum(x, _NOTHING)) for x in (a, b))
    return jnp.exp(
        -jnp.logaddexp(-_KERNEL_SHARPNESS * log_a, -_KERNEL_SHARPNESS * log_b) / _KERNEL_SHARPNESS
    )


def _launch(values: LatencyValues, work: Work) -> Float[Array, "*points"]:
    step = values["launch_one_row"] + work.many_rows * values["launch_more_rows"]
    return work.layers * jnp.where(work.decode > 0, step, values["launch_prefill"])


def _pair_seconds(values: LatencyValues, work: Work, two_kernels: bool) -> Float[Array, "*points"]:
    at_peak = work.pair_flops / work.peak_flops
    if not two_kernels:
        return at_peak / values["pair_rate"]
    setup = work.channels * values["causal_setup_seconds"]
    second = at_peak / values["causal_pair_rate"] + setup
    return _smooth_min(at_peak / values["pair_rate"], second)


def _parts(values: LatencyValues, work: Work, *, two_kernels: bool) -> LatencyParts:
    decode = work.decode > 0
    rate = jnp.where(decode, values["decode_rate"], values["prefill_rate"])
    flops = work.linear_flops + work.prompt_logit_flops * values["prompt_logits"]
    products = flops / (work.peak_flops * rate)
    weights = work.weight_bytes / (work.peak_bandwidth * values["weight_bandwidth"])
    overlap = jnp.where(decode, values["decode_overlap"], values["prefill_overlap"])
    linear = _smooth_max(products, weights, 1.0 + overlap)

    pairs = _pair_seconds(values, work, two_kernels)
    cache = work.cache_bytes / (work.peak_bandwidth * values["cache_bandwidth"])
    keys = work.key_rounds * values["key_seconds"]
    walk = keys + work.chunk_rounds * values["chunk_seconds"]
    mixing = _smooth_max(walk, cache, _KERNEL_SHARPNESS) + pairs
    elementwise = work.activation_bytes / (work.peak_bandwidth * values["activation_bandwidth"])
    blocks = work.blocks * values["block_seconds"]
    return LatencyParts(
        launch=_launch(values, work),
        blocks=blocks,
        compute=products + pairs,
        memory=weights + cache + elementwise,
        walk=walk,
        overlapped=linear + mixing + elementwise + blocks,
    )


_REGISTRY = {
    law.name: law
    for law in (
        LatencyLaw(
            name="roofline",
            meaning="one attention kernel for prompts",
            coefficients=tuple(c for c in _COEFFICIENTS if not c.two_kernels),
            parts=partial(_parts, two_kernels=False),
        ),
        LatencyLaw(
            name="roofline-two-kernels",
            meaning="prompts take the faster of two attention kernels: one without set-up that "
            "computes masked pairs too, one that skips them after a set-up a token",
            coefficients=_COEFFICIENTS,
            parts=partial(_parts, two_kernels=True),
        ),
    )
}


def latency_law(law: str | LatencyLaw) -> LatencyLaw:
    """Return the latency law of that name, or the law itself.

    Raises
    ------
    InputError
        If no latency law has that name.
    """
    if isinstance(law, LatencyLaw):
        return law
    if law not in _REGISTRY:
        raise InputError(f"no latency law named {law!r}; known: {', '.join(latency_law_names())}")
    return _REGISTRY[law]


def latency_law_names() -> tuple[str, ...]:
    """Names of all latency laws."""
    return tuple(sorted(_REGISTRY))
