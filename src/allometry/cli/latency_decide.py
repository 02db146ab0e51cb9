"""``allometry latency``: frontier, crossover, break-even, largest-batch."""

from pathlib import Path
from typing import Literal

from allometry.cli.asking import answered, check_picture, write_picture
from allometry.cli.latency_asking import (
    AS_TIMED,
    BY_STEPS,
    Compared,
    Numbers,
    Quantity,
    Serving,
    Whole,
    Words,
    device_named,
    loaded_both,
    loaded_timings,
)

Bound = Literal["context", "batch"]


def frontier_command(
    loss: Path,
    latency: Path,
    *,
    context_length: int,
    batch_size: int = 1,
    params: Numbers | None = None,
    compared: Compared = BY_STEPS,
    serving: Serving = AS_TIMED,
    plot: Path | None = None,
    json: bool = False,
) -> int:
    """Loss against latency, size by size, of every architecture.

    Parameters
    ----------
    loss
        File written by ``allometry fit``.
    latency
        File written by ``allometry latency fit``.
    context_length
        Tokens of the prompt, or context of the step.
    batch_size
        Sequences.
    params
        Sizes; by default a grid over those that were timed, or around a single one.
    plot
        Picture of loss against latency: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from allometry.decisions.serving import serving_frontier

    check_picture(plot)
    table = serving_frontier(
        *loaded_both(loss, latency),
        context_length=context_length,
        batch_size=batch_size,
        params=params,
        tokens_per_param=compared.tokens_per_param,
        quantity=compared.quantity,
        **serving.target(),
    )
    if plot:
        from allometry.plots.latency_decide import draw_frontier

        write_picture(draw_frontier(table), plot)
    return answered(table, as_json=json)


def crossover_command(
    posterior: Path,
    *,
    architecture: Words,
    params: Numbers,
    of: Bound = "context",
    batch_sizes: Whole | None = None,
    context_lengths: Whole | None = None,
    quantity: Quantity | None = None,
    serving: Serving = AS_TIMED,
    plot: Path | None = None,
    json: bool = False,
) -> int:
    """Context at which a step takes twice as long as at none; or batch at which computing decides.

    Parameters
    ----------
    posterior
        File written by ``allometry latency fit``.
    architecture
        One or more architectures that were timed.
    params
        Sizes; the timed model of that many params is taken, or the family's shape.
    of
        context: from which the cache costs a step as much as all the rest, at each batch. batch:
        from which computing takes longer than memory, at each context.
    batch_sizes
        Sequences, for --of context; by default 1.
    context_lengths
        Tokens of the prompt, or context of the step, for --of batch; by default 2048.
    quantity
        ttft or step_time, for --of batch; by default step_time.
    plot
        Picture of the crossover against batch or context: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from itertools import product

    import pandas as pd

    from allometry.decisions.crossover import crossover_batch, crossover_context
    from allometry.errors import InputError

    check_picture(plot)
    idle: dict[str, dict[str, object]] = {
        "context": {"--context-lengths": context_lengths, "--quantity": quantity},
        "batch": {"--batch-sizes": batch_sizes},
    }
    for option, given in idle[of].items():
        if given is not None:
            what = f"{option} says nothing of a crossover of {of}"
            raise InputError(what, where="latency crossover", hint="See --of.")
    loaded = loaded_timings(posterior)
    models = product(architecture, params)
    if of == "context":
        rows = [
            crossover_context(loaded, name, size, batch_size=batch, **serving.target())
            for (name, size), batch in product(models, batch_sizes or [1])
        ]
    else:
        rows = [
            crossover_batch(
                loaded,
                name,
                size,
                context_length=context,
                quantity=quantity or "step_time",
                **serving.target(),
            )
            for (name, size), context in product(models, context_lengths or [2048])
        ]
    table = pd.concat(rows, ignore_index=True)
    if plot:
        from allometry.plots.latency_decide import draw_crossover

        write_picture(draw_crossover(table), plot)
    return answered(table, as_json=json)


def break_even_command(
    loss: Path,
    latency: Path,
    a: str,
    b: str,
    *,
    params: Numbers,
    batch_sizes: Whole | None = None,
    compared: Compared = BY_STEPS,
    serving: Serving = AS_TIMED,
    plot: Path | None = None,
    json: bool = False,
) -> int:
    """Context beyond which one architecture is faster than another of equal loss.

    Parameters
    ----------
    loss
        File written by ``allometry fit``.
    latency
        File written by ``allometry latency fit``.
    a
        An architecture, such as transformer.
    b
        The one that is asked about, such as xlstm: from where it is faster.
    params
        Sizes of the first; the second takes the size of equal loss.
    batch_sizes
        Sequences; by default 1.
    plot
        Picture of the context against the batch: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from itertools import product

    import pandas as pd

    from allometry.decisions.serving import break_even_context

    check_picture(plot)
    losses, timings = loaded_both(loss, latency)
    rows = [
        break_even_context(
            losses,
            timings,
            a,
            b,
            params=size,
            batch_size=batch,
            tokens_per_param=compared.tokens_per_param,
            quantity=compared.quantity,
            **serving.target(),
        )
        for size, batch in product(params, batch_sizes or [1])
    ]
    table = pd.concat(rows, ignore_index=True)
    if plot:
        from allometry.plots.latency_decide import draw_crossover

        write_picture(draw_crossover(table), plot)
    return answered(table, as_json=json)


def largest_batch_command(
    posterior: Path,
    *,
    architecture: Words,
    params: Numbers,
    context_lengths: Whole,
    serving: Serving = AS_TIMED,
    json: bool = False,
) -> int:
    """Largest batch that fits the device's memory, prompts included.

    Points that ran out of memory tell it; without them the interval is that of the prior.

    Parameters
    ----------
    posterior
        File written by ``allometry latency fit``.
    architecture
        One or more architectures that were timed.
    params
        Sizes; the timed model of that many params is taken, or the family's shape.
    context_lengths
        Tokens of the prompt of each sequence.
    json
        Print one JSON document.
    """
    from itertools import product

    import pandas as pd

    from allometry.decisions.serving import largest_batch

    sheet = device_named(serving.device)
    loaded = loaded_timings(posterior)
    loaded.require_converged(force=serving.force)
    rows = [
        largest_batch(
            loaded,
            name,
            size,
            context_length=context,
            memory_bytes=None if sheet is None else sheet.memory_bytes,
            dtype=serving.dtype,
        )
        for name, size, context in product(architecture, params, context_lengths)
    ]
    return answered(pd.concat(rows, ignore_index=True), as_json=json)
