"""The work that is timed: reading a prompt, and writing tokens after it."""

from collections.abc import Callable
from typing import Any

import torch

from allometry.harness.latency.plan import BenchPlan, BenchPoint
from allometry.models import Model

Work = Callable[[], Any]


def prepare(model: Model, point: BenchPoint, plan: BenchPlan) -> tuple[Work, int, str]:
    """Function to time for a point, the steps in one call of it, and how it runs.

    Returns
    -------
    work : callable
        Does the same thing at every call.
    steps : int
        Its time is divided by this.
    backend : str
        ``eager``, or ``cuda graph``.
    """
    device = torch.device(plan.device)
    generator = torch.Generator().manual_seed(plan.seed)
    size = (point.batch_size, point.prefill_length)
    tokens = torch.randint(model.shape.vocab_size, size, generator=generator).to(device)
    room = point.prefill_length + plan.generation_length
    if point.quantity == "ttft":

        def first_token() -> torch.Tensor:
            logits, _ = model.prefill(tokens, max_length=room)
            return logits.argmax(dim=-1)

        return first_token, 1, "eager"
    logits, state = model.prefill(tokens, max_length=room)
    first = logits.argmax(dim=-1)

    def generate() -> torch.Tensor:
        # Steps from the state after the prompt: it is not changed, but for memory behind its end.
        token, after = first, state
        for _ in range(plan.generation_length):
            found, after = model.step(token, after)  # type: ignore[arg-type]
            token = found.argmax(dim=-1)
        return token

    if device.type == "cuda" and (graph := _captured(generate)) is not None:
        return graph.replay, plan.generation_length, "cuda graph"
    return generate, plan.generation_length, "eager"


def _captured(work: Work) -> torch.cuda.CUDAGraph | None:
    """Graph of some work; None where an operation cannot be captured."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped in torch
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # capture needs warm libraries and a stream of its own
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph
