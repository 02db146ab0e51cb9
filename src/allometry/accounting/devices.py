"""Ceilings of named devices, from their data sheets."""

from dataclasses import dataclass

from allometry.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What a device can do at most.

    Attributes
    ----------
    name : str
        Short name.
    flops : float
        Dense 16-bit matrix FLOP/s; float32 on a processor without 16-bit units.
    bandwidth : float
        Bytes a second between memory and processor.
    memory_bytes : float
        Memory for weights, cache and activations.
    units : int
        Multiprocessors of a GPU, or threads of a CPU: blocks of work that run at the same time.
    """

    name: str
    flops: float
    bandwidth: float
    memory_bytes: float
    units: int

    def __post_init__(self) -> None:
        numbers = (self.flops, self.bandwidth, self.memory_bytes, self.units)
        if not all(number > 0 for number in numbers):
            what = "flops, bandwidth, memory_bytes and units must be positive"
            raise InputError(what, where=f"device {self.name}")


DEVICES = {
    device.name: device
    for device in (
        # NVIDIA data sheets, dense bfloat16 without sparsity; memory as sold, in units of 1e9.
        Device(name="h100-sxm", flops=989e12, bandwidth=3.35e12, memory_bytes=80e9, units=132),
        Device(name="h100-pcie", flops=756e12, bandwidth=2.0e12, memory_bytes=80e9, units=114),
        Device(name="h200", flops=989e12, bandwidth=4.8e12, memory_bytes=141e9, units=132),
        Device(name="b200", flops=2250e12, bandwidth=8.0e12, memory_bytes=180e9, units=148),
        Device(name="a100-40gb", flops=312e12, bandwidth=1.555e12, memory_bytes=40e9, units=108),
        Device(name="a100-80gb", flops=312e12, bandwidth=2.039e12, memory_bytes=80e9, units=108),
        Device(name="l40s", flops=362e12, bandwidth=0.864e12, memory_bytes=48e9, units=142),
        Device(name="l4", flops=121e12, bandwidth=0.3e12, memory_bytes=24e9, units=58),
        Device(name="rtx-4090", flops=165e12, bandwidth=1.008e12, memory_bytes=24e9, units=128),
        # AMD's data sheet.
        Device(name="mi300x", flops=1307e12, bandwidth=5.3e12, memory_bytes=192e9, units=304),
    )
}
"""Data-sheet ceilings by short name."""

_PARTS = {
    "h100-sxm": (("h100", "hbm3"), ("h100", "sxm")),
    "h100-pcie": (("h100", "pcie"),),
    "h200": (("h200",),),
    "b200": (("b200",),),
    "a100-40gb": (("a100", "40gb"),),
    "a100-80gb": (("a100", "80gb"),),
    "l40s": (("l40s",),),
    "l4": (("nvidia l4",),),
    "rtx-4090": (("4090",),),
    "mi300x": (("mi300x",),),
}


def find_device(name: str) -> Device | None:
    """Device of a short name, or of the name that a driver reports; None if none is known.

    Examples
    --------
    >>> find_device("NVIDIA H100 80GB HBM3").name
    'h100-sxm'
    >>> find_device("cpu, 2 threads") is None
    True
    """
    wanted = name.strip().lower()
    if wanted in DEVICES:
        return DEVICES[wanted]
    for short, alternatives in _PARTS.items():
        if short == "l4" and "l40" in wanted:
            continue
        if any(all(part in wanted for part in parts) for parts in alternatives):
            return DEVICES[short]
    return None


def named_device(name: str) -> Device:
    """Device of that name.

    Raises
    ------
    InputError
        If no data sheet of it is known.
    """
    device = find_device(name)
    if device is None:
        hint = (
            "Name the one most like it; from Python, Device(name=, flops=, bandwidth=, "
            "memory_bytes=, units=) describes any other by its data sheet."
        )
        raise InputError(f"no device {name!r}; known: {', '.join(DEVICES)}", hint=hint)
    return device
