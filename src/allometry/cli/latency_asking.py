"""Options and words that every command which asks a latency posterior shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from cyclopts import Parameter

if TYPE_CHECKING:
    from allometry.accounting import Device
    from allometry.inference import LatencyPosterior, Posterior

Whole = Annotated[list[int], Parameter(consume_multiple=True)]
Numbers = Annotated[list[float], Parameter(consume_multiple=True)]
Words = Annotated[list[str], Parameter(consume_multiple=True)]
Quantity = Literal["ttft", "step_time"]


class Target(TypedDict):
    """What every decision on latency takes beside its points."""

    device: "Device | None"
    dtype: str | None
    force: bool


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """What runs the model.

    Parameters
    ----------
    device
        Another device than the one timed, by name: wider intervals.
    dtype
        Of the weights, such as bfloat16, fp8 or q4_k; by default as timed. Bytes alone differ: what
        narrower weights lose, or gain in rate, is not counted.
    force
        Answer although a fit did not converge.
    """

    device: str | None = None
    dtype: str | None = None
    force: Annotated[bool, Parameter(negative=())] = False

    def target(self) -> Target:
        """As decisions ask for it."""
        return {
            "device": device_named(self.device),
            "dtype": self.dtype,
            "force": self.force,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What models are compared by.

    Parameters
    ----------
    tokens_per_param
        Training tokens over params, of every model.
    quantity
        ttft or step_time.
    """

    tokens_per_param: float = 22.0
    quantity: Quantity = "step_time"


AS_TIMED = Serving()
BY_STEPS = Compared()


def device_named(name: str | None) -> "Device | None":
    """Data sheet of a device by name; None for none."""
    from allometry.accounting import named_device

    return None if name is None else named_device(name)


def loaded_timings(path: Path) -> "LatencyPosterior":
    """A latency posterior from its file, once JAX is set up."""
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import LatencyPosterior

    prepare_jax()
    return LatencyPosterior.load(path)


def loaded_both(loss: Path, latency: Path) -> "tuple[Posterior, LatencyPosterior]":
    """A loss and a latency posterior from their files."""
    from allometry.inference import Posterior

    timings = loaded_timings(latency)
    return Posterior.load(loss), timings
