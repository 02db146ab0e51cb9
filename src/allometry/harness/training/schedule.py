"""Learning rate by step, and the peak rates and batches of the reference study."""

import math

from allometry.harness.training.config import TrainConfig

STUDY_WARMUP = 750
STUDY_COOLDOWN = 1000
STUDY_STEPS = 15_000
"""Steps of a run at which the study's warm-up and cool-down are 5 % and 6.7 % of it. Shorter runs
keep these shares; in longer ones 750 and 1000 steps stay, as in the study."""
FLOOR = 0.1
"""Where the cosine ends, as a share of the peak."""
WSD_COOLDOWN = 0.2
"""Share of a WSD run in which the rate falls to zero (Hägele et al. 2024, arXiv:2405.18392)."""


def schedule_parts(config: TrainConfig) -> tuple[int, int]:
    """Steps of warm-up and of cool-down: as configured, or by the schedule's rule."""
    share = min(1.0, config.steps / STUDY_STEPS)
    cooldown = round(STUDY_COOLDOWN * share)
    if config.schedule == "wsd":
        cooldown = round(WSD_COOLDOWN * config.steps)
    warmup = config.warmup_steps or max(1, round(STUDY_WARMUP * share))
    return min(warmup, config.steps), min(config.cooldown_steps or max(1, cooldown), config.steps)


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """Rate of a step, counted from 0, taken in the middle of the step so that none has rate 0.

    ``study``: linear from 0 to the peak, cosine from the peak to a tenth of it, linear from there
    to 0 (arXiv:2510.02228; there 750 and 1000 steps for the linear parts). ``wsd``: linear to the
    peak, constant, linear to 0.

    Examples
    --------
    >>> from allometry.accounting import TransformerShape
    >>> config = TrainConfig(
    ...     shape=TransformerShape(d_model=64, n_layers=2, n_heads=4, vocab_size=256),
    ...     corpus="c", context_length=128, batch_size=8, steps=15_000, learning_rate=3e-3,
    ... )
    >>> [round(learning_rate_at(config, step), 7) for step in (0, 749, 13_999, 14_999)]
    [2e-06, 0.002998, 0.0003, 2e-07]
    """
    warmup, cooldown = schedule_parts(config)
    at = step + 0.5
    end = max(config.steps - cooldown, warmup)
    if at < warmup:
        share = at / warmup
    elif at < end:
        cosine = 0.5 * (1 + math.cos(math.pi * (at - warmup) / (end - warmup)))
        share = 1.0 if config.schedule == "wsd" else FLOOR + (1 - FLOOR) * cosine
    else:
        top = 1.0 if config.schedule == "wsd" else FLOOR
        share = top * (config.steps - at) / (config.steps - end)
    return config.learning_rate * share
