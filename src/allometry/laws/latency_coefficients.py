"""Coefficients of the latency law, each with its weakly informative default prior."""

import math
from dataclasses import dataclass
from typing import Literal

Mixer = Literal["attention", "recurrent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCoefficient:
    """One coefficient of the latency law, with its weakly informative default prior.

    Attributes
    ----------
    name, meaning : str
        Name in the posterior file, and what it is.
    kind : {"flops", "bandwidth", "share", "log"}
        A share of that ceiling (on the logit scale; on the log scale where no ceiling is known), a
        share of something else (on the logit scale), or the log of a positive number.
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
    kind: Literal["flops", "bandwidth", "share", "log"]
    loc: float
    scale: float
    between: float = 0.5
    mixers: tuple[Mixer, ...] = ("attention", "recurrent")
    two_kernels: bool = False

    @property
    def timed(self) -> bool:
        """The coefficient is in seconds, and no number of a kernel alone."""
        return "seconds" in self.name or self.name.startswith(("launch", "call"))

    @property
    def slope(self) -> float:
        """By how much log seconds of its term grow with it on the sampler's scale; 0: no term."""
        return -1.0 if self.kind in ("flops", "bandwidth") else float(self.timed)

    def prior(self, *, bounded: bool) -> tuple[float, float]:
        """Location and scale on the sampler's scale; of the log share where there is no ceiling."""
        if bounded or self.kind in ("log", "share"):
            return self.loc, self.scale
        return -math.log1p(math.exp(-self.loc)), max(self.scale, 1.0)


COEFFICIENTS = (
    LatencyCoefficient(
        name="launch_one_row",
        meaning="seconds a layer to start a decode step of one sequence",
        kind="log",
        loc=-10.4,  # 30 us: half of what several rows take, for want of a better guess
        scale=1.0,
    ),
    LatencyCoefficient(
        name="row_channel_seconds",
        meaning="seconds a layer in which products of one row walk past one channel of the width: "
        "a row is reduced along the width by few blocks, however wide the memory is",
        kind="log",
        loc=-18.0,  # 15 ns: about ten reductions and norms, a load of 500 ns for every 300 channels
        scale=1.0,
    ),
    LatencyCoefficient(
        name="launch_more_rows",
        meaning="further seconds a layer when products have several rows: other kernels are taken",
        kind="log",
        loc=-10.4,  # 30 us: with the above 60 us, a dozen kernels of a few microseconds each
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
        name="queue_overlap",
        meaning="sharpness, less one, of the maximum of launches and work in a prefill: near zero "
        "where the device waits for each launch",
        kind="log",
        loc=-1.0,
        scale=0.7,
        between=0.5,
    ),
    LatencyCoefficient(
        name="call_step",
        meaning="seconds of a step whatever its layers: embedding, head and choice of the token",
        kind="log",
        loc=-9.0,  # 120 us: a dozen kernels, and the host's own loop over tokens
        scale=1.0,
    ),
    LatencyCoefficient(
        name="call_prefill",
        meaning="the same of a prefill, which also makes the cache",
        kind="log",
        loc=-8.5,  # 200 us
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
        meaning="share of peak FLOP/s of the layers' products in a step, one row a sequence: "
        "near prefill_rate on matrix units, a tenth of it where they run as batched vectors",
        kind="flops",
        loc=-1.0,
        scale=1.5,
        between=1.0,
    ),
    LatencyCoefficient(
        name="weight_bandwidth",
        meaning="share of peak bandwidth at which a step reads weights: streaming kernels reach 85 "
        "to 95 %",
        kind="bandwidth",
        loc=2.5,
        scale=0.3,
        between=0.2,
    ),
    LatencyCoefficient(
        name="prefill_weight_bandwidth",
        meaning="the same of a prefill, whose products are tiled for many rows",
        kind="bandwidth",
        loc=2.0,
        scale=0.5,
        between=0.3,
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
        meaning="share of the prompt's other tokens whose logits are computed though nobody asked: "
        "near one or near zero",
        kind="share",
        loc=0.0,
        scale=1.0,
        between=1.0,  # sd sqrt(2) with the scale above: as flat as a logit-normal gets
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
        name="sequence_channel_seconds",
        meaning="seconds of a step for one channel of one layer of one sequence, besides products, "
        "traffic and the walk: element-wise kernels that are not fused, copies; heads are padded",
        kind="log",
        loc=-22.5,  # 0.2 ns
        scale=1.0,
        between=1.0,
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
        name="key_line_seconds",
        meaning="further seconds for each line of memory that the key of one head takes up",
        kind="log",
        loc=-19.1,  # 5 ns: 128 bytes at one block's share of some terabytes a second
        scale=0.4,
        between=0.3,
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
