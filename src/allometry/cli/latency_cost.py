"""``allometry latency cost``: what a model costs over its life."""

from pathlib import Path
from typing import TYPE_CHECKING

from allometry.cli.asking import answered, check_picture, write_picture
from allometry.cli.latency_asking import AS_TIMED, Numbers, Serving, Words, loaded_both

if TYPE_CHECKING:
    import pandas as pd


def cost_command(
    loss: Path,
    latency: Path,
    *,
    target_loss: float,
    served: Numbers,
    context_length: int,
    architecture: Words | None = None,
    batch_size: int = 32,
    training_share: float = 0.4,
    price_per_hour: float | None = None,
    params: Numbers | None = None,
    serving: Serving = AS_TIMED,
    plot: Path | None = None,
    json: bool = False,
) -> int:
    """Device-hours, or money, of a model's life: train it to a loss, then generate tokens with it.

    Finds the size, and how long to train it, at the least device-hours in all. Training: FLOPs over
    a share of the peak. Serving: the timed law's seconds a step; reading prompts is not counted.
    ``allometry lifetime`` asks the same in FLOPs, without a latency posterior.

    Parameters
    ----------
    loss
        File written by ``allometry fit``.
    latency
        File written by ``allometry latency fit``.
    target_loss
        Loss to reach, in the loss posterior's unit.
    served
        Tokens generated over the model's life, such as ``--served 0 1e11 1e12 1e13``.
    context_length
        Mean context of a generated token; the loss is of the group trained at the nearest context.
    architecture
        One or more; by default all that were timed.
    batch_size
        Sequences that are served together.
    training_share
        Share of the device's peak FLOP/s that training reaches (MFU).
    price_per_hour
        Money a device-hour: adds the cost.
    params
        Sizes tried; by default a grid over those that were timed, or around a single one.
    plot
        Picture of params and device-hours against the demand: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from allometry.cli.output import stderr
    from allometry.decisions.serving_cost import lifetime_cost

    check_picture(plot)
    losses, timings = loaded_both(loss, latency)
    table = lifetime_cost(
        losses,
        timings,
        architecture or timings.record.architectures,
        target_loss=target_loss,
        served_tokens=served,
        context_length=context_length,
        batch_size=batch_size,
        training_share=training_share,
        price_per_hour=price_per_hour,
        params=params,
        **serving.target(),
    )
    for text in _doubts(table):
        stderr.print(f"warning: {text}", style="yellow", soft_wrap=True, highlight=False)
    if plot:
        from allometry.plots.latency_decide import draw_lifetime_cost

        write_picture(draw_lifetime_cost(table), plot)
    return answered(table, as_json=json)


def _doubts(table: "pd.DataFrame") -> list[str]:
    """What a table of `lifetime_cost` says against itself."""
    found = []
    first = table.iloc[0]
    if names := _named(table[table["probability_reachable"] < 0.5]):
        found.append(
            f"no size tried reaches a loss of {first['target_loss']:g} with more than even odds: "
            f"{names} (give a higher --target-loss, or larger --params)"
        )
    if names := _named(table[table["probability_fits"] < 0.5]):
        found.append(
            f"a batch of {first['batch_size']} at context {first['context_length']} does not fit "
            f"the device at the chosen size: {names} (give a smaller --batch-size)"
        )
    if (table["probability_at_edge"] > 0.5).any():
        found.append(
            "the smallest or largest size tried is the cheapest for some demand: give others "
            "(--params)"
        )
    return found


def _named(rows: "pd.DataFrame") -> str:
    return ", ".join(sorted(set(rows["architecture"])))
