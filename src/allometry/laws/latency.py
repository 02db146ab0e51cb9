r"""The latency law: seconds of a prefill or of a decode step, one curve for all sizes.

.. math:: t^p = (o_L\,t_{launch})^p +
   (o_W\,(t_{sequences} + t_{weights} + t_{mixing} + t_{elementwise}))^p

Kernels of a model run one after another, so their times add up; inside one kernel, computing and
reading overlap, so that kernel takes a smooth maximum of the two. Launches of a prefill queue up
ahead of the device and are partly hidden behind work (p > 1); in a step they are not (p = 1).

Effective rates are shares of the device's ceilings. Small models reach a smaller share because
element-wise kernels move bytes in proportion to the width while the products compute in proportion
to its square: the law has that term, so no rate has to depend on the size.

Three mechanisms that no roofline of weights and cache has:

*The serial walk.* A kernel that gives each (sequence, head) to one block of threads walks along the
keys (attention, decode) or along the chunks (recurrent, prefill) alone. B sequences of H heads on U
multiprocessors take ceil(B H / U) rounds of that walk, however much bandwidth is idle.

*The walk of a single row.* A product with one row is a reduction along the width, which few blocks
walk: a step of one sequence takes seconds in proportion to layers times width. Small models wait
for it; in large ones the weights take longer. Its kernels are taken where they are faster: those of
several rows would do as well, so that one sequence never takes longer than two.

*Logits of the whole prompt.* An implementation that computes logits for every prompt token, not
only for the last, multiplies each of them with the vocabulary, and moves and casts the result.

Derivation and evidence: ``docs/latency.md``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.errors import InputError
from allometry.laws.latency_coefficients import COEFFICIENTS, LatencyCoefficient
from allometry.laws.latency_parts import LatencyParts, Work

LatencyValues = Mapping[str, Float[Array, "*points"]]
"""One array a coefficient in its natural unit: a share of a ceiling, seconds, or a plain number."""

_NOTHING = 1e-15
"""Seconds that stand for none, so that logarithms, quotients and their gradients stay finite."""
_KERNEL_DOUBLINGS = 2
"""Sharpness 2^2 of the smooth minimum and maximum inside one attention or cell kernel: at a tie the
result is 19 % off the sharp one, a factor of two away 1.5 %."""

_ROW_DOUBLINGS = 1
"""Sharpness 2 for the reading of weights and the walk along a single row, over a whole layer whose
products differ in shape: at a tie 41 % off."""

_CHOICE_DOUBLINGS = 8
"""Sharpness 256 for the choice between kernels of one row and of several, which take as long as
each other in large models: at a tie 0.3 % off."""


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

    Shares of a ceiling are between zero and one if it is one (`bounded`), else positive; other
    shares are always below one.
    """
    below_one = {"share"} | ({"flops", "bandwidth"} if bounded else set())
    chosen = jnp.asarray([coefficient.kind in below_one for coefficient in law.coefficients])
    chosen = chosen.reshape(-1, *(1 for _ in theta.shape[1:]))
    # All at once: a function a coefficient takes longer to compile than all else.
    return jnp.where(chosen, jax.nn.sigmoid(theta), jnp.exp(jnp.where(chosen, 0.0, theta)))


def log_seconds(
    parts: LatencyParts,
    launch_effect: Float[Array, "*points"] | float = 0.0,
    work_effect: Float[Array, "*points"] | float = 0.0,
) -> Float[Array, "*points"]:
    """Log of the time, with log effects of a shape on its launches and on its work."""
    launch = jnp.log(parts.launch) + launch_effect
    work = jnp.log(parts.overlapped) + work_effect
    return jnp.logaddexp(parts.sharpness * launch, parts.sharpness * work) / parts.sharpness


def time_shares(parts: LatencyParts) -> Float[Array, "*points 3"]:
    """By how much log seconds grow with those of launches, of products and of mixing; sum one.

    Element-wise work and what a sequence costs are with the products.
    """
    apart = jnp.log(parts.launch) - jnp.log(parts.overlapped)
    launch = jax.nn.sigmoid(parts.sharpness * apart)
    mixing = (1.0 - launch) * parts.mixing / parts.overlapped
    return jnp.stack([launch, 1.0 - launch - mixing, mixing], axis=-1)


def _smooth_max(
    a: Float[Array, "*points"],
    b: Float[Array, "*points"],
    sharpness: Float[Array, "*points"] | float,
) -> Float[Array, "*points"]:
    log_a, log_b = (jnp.log(jnp.maximum(x, _NOTHING)) for x in (a, b))
    return jnp.exp(jnp.logaddexp(sharpness * log_a, sharpness * log_b) / sharpness)


def _sharp_max(
    a: Float[Array, "*points"], b: Float[Array, "*points"], doublings: int
) -> Float[Array, "*points"]:
    """Smooth maximum of sharpness 2^doublings."""
    longer = jnp.maximum(jnp.maximum(a, b), _NOTHING)
    return longer * _rounding(jnp.minimum(a, b) / longer, doublings)


def _sharp_min(
    a: Float[Array, "*points"], b: Float[Array, "*points"], doublings: int
) -> Float[Array, "*points"]:
    """Smooth minimum of sharpness 2^doublings."""
    shorter, longer = jnp.minimum(a, b), jnp.maximum(jnp.maximum(a, b), _NOTHING)
    return shorter / _rounding(shorter / longer, doublings)


def _rounding(ratio: Float[Array, "*points"], doublings: int) -> Float[Array, "*points"]:
    # (1 + ratio^s)^(1/s) for s = 2^doublings by squares and roots: a third off a gradient's time.
    for _ in range(doublings):
        ratio = ratio * ratio
    factor = 1.0 + ratio
    for _ in range(doublings):
        factor = jnp.sqrt(factor)
    return factor


def _launch(values: LatencyValues, work: Work) -> Float[Array, "*points"]:
    decode = work.decode > 0
    step = values["launch_one_row"] + work.many_rows * values["launch_more_rows"]
    call = jnp.where(decode, values["call_step"], values["call_prefill"])
    return call + work.layers * jnp.where(decode, step, values["launch_prefill"])


def _reading_seconds(
    values: LatencyValues, work: Work, weights: Float[Array, "*points"]
) -> Float[Array, "*points"]:
    """Weights as products read them: one row, by the faster of two kinds of kernels."""
    row_walk = work.row_channels * values["row_channel_seconds"]
    alone = _sharp_max(weights, row_walk, _ROW_DOUBLINGS)
    several = weights + work.layers * values["launch_more_rows"]
    one_row = (work.decode > 0) & (work.many_rows == 0)
    return jnp.where(one_row, _sharp_min(alone, several, _CHOICE_DOUBLINGS), alone)


def _pair_seconds(values: LatencyValues, work: Work, two_kernels: bool) -> Float[Array, "*points"]:
    at_peak = work.pair_flops / work.peak_flops
    if not two_kernels:
        return at_peak / values["pair_rate"]
    setup = work.channels * values["causal_setup_seconds"]
    second = at_peak / values["causal_pair_rate"] + setup
    return _sharp_min(at_peak / values["pair_rate"], second, _KERNEL_DOUBLINGS)


def _parts(values: LatencyValues, work: Work, *, two_kernels: bool) -> LatencyParts:
    decode = work.decode > 0
    rate = jnp.where(decode, values["decode_rate"], values["prefill_rate"])
    # The vocabulary is wide enough for matrix units in any phase.
    head = work.head_flops + work.prompt_logit_flops * values["prompt_logits"]
    products = (work.linear_flops / rate + head / values["prefill_rate"]) / work.peak_flops
    streamed = jnp.where(decode, values["weight_bandwidth"], values["prefill_weight_bandwidth"])
    weights = work.weight_bytes / (work.peak_bandwidth * streamed)
    overlap = jnp.where(decode, values["decode_overlap"], values["prefill_overlap"])
    reading = _reading_seconds(values, work, weights)
    row_walk = jnp.minimum(work.row_channels * values["row_channel_seconds"], reading)
    linear = _smooth_max(products, reading, 1.0 + overlap)

    pairs = _pair_seconds(values, work, two_kernels)
    cache = work.cache_bytes / (work.peak_bandwidth * values["cache_bandwidth"])
    keys = work.key_rounds * values["key_seconds"]
    keys += work.key_line_rounds * values["key_line_seconds"]
    mixer_walk = keys + work.chunk_rounds * values["chunk_seconds"]
    mixing = _sharp_max(mixer_walk, cache, _KERNEL_DOUBLINGS) + pairs
    moved = work.activation_bytes + work.prompt_logit_bytes * values["prompt_logits"]
    elementwise = moved / (work.peak_bandwidth * values["activation_bandwidth"])
    sequences = work.sequence_channels * values["sequence_channel_seconds"]
    return LatencyParts(
        launch=_launch(values, work),
        sequences=sequences,
        compute=products + pairs,
        memory=weights + cache + elementwise,
        walk=mixer_walk + row_walk,
        mixing=mixing,
        sharpness=1.0 + jnp.where(decode, 0.0, values["queue_overlap"]),
        overlapped=linear + mixing + elementwise + sequences,
    )


_REGISTRY = {
    law.name: law
    for law in (
        LatencyLaw(
            name="roofline",
            meaning="one attention kernel for prompts",
            coefficients=tuple(c for c in COEFFICIENTS if not c.two_kernels),
            parts=partial(_parts, two_kernels=False),
        ),
        LatencyLaw(
            name="roofline-two-kernels",
            meaning="prompts take the faster of two attention kernels: one without set-up that "
            "computes masked pairs too, one that skips them after a set-up a token",
            coefficients=COEFFICIENTS,
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
