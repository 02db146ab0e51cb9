"""What a plan costs: devices by name, time at a stated share of their peak, and money."""

import math
from dataclasses import dataclass, replace

import pandas as pd

from allometry import accounting
from allometry.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Something that trains.

    Attributes
    ----------
    name : str
        As in the table, or ``cpu``.
    peak_flops : float
        Dense bfloat16 FLOP/s by the data sheet; for ``cpu`` float32, measured or given.
    mfu : float
        Share of the peak that training reaches.
    source : str
        Where the peak is from.
    """

    name: str
    peak_flops: float
    mfu: float
    source: str

    @property
    def flops_per_second(self) -> float:
        """What training reaches."""
        return self.peak_flops * self.mfu


_DEFAULT_MFU = 0.4
_CPU_MFU = 0.3

_SHEETS = {**accounting.DEVICES} | {
    "h100": accounting.DEVICES["h100-sxm"],
    "a100": accounting.DEVICES["a100-80gb"],
}

DEVICES = {
    name: Device(name=name, peak_flops=sheet.flops, mfu=_DEFAULT_MFU, source="data sheet")
    for name, sheet in _SHEETS.items()
}
"""Dense bfloat16 peaks of data sheets; the MFU is a usual one."""


def device_named(
    name: str, *, mfu: float | None = None, flops_per_second: float | None = None, threads: int = 1
) -> Device:
    """Device by name, with the MFU replaced if one is given.

    Parameters
    ----------
    name : str
        One of `DEVICES`, or ``cpu``: float32 matrix products measured here, a tenth of a second.
    mfu : float, optional
        Share of the peak, above 0 and at most 1.
    flops_per_second : float, optional
        What training reaches, instead of peak and MFU.
    threads : int
        Of the measurement.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise InputError(f"mfu must be above 0 and at most 1, got {mfu}")
    if flops_per_second is not None:
        if not 0 < flops_per_second < math.inf:
            what = f"flops_per_second must be a positive number, got {flops_per_second}"
            raise InputError(what)
        return Device(name=name, peak_flops=flops_per_second, mfu=1.0, source="given")
    if threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    if name == "cpu":
        peak = _measured_cpu_peak(threads)
        return Device(name="cpu", peak_flops=peak, mfu=mfu or _CPU_MFU, source="measured here")
    if name not in DEVICES:
        hint = f"Known: {', '.join(DEVICES)}, cpu; or give --flops-per-second."
        raise InputError(f"no device named {name!r}", hint=hint)
    return replace(DEVICES[name], mfu=mfu or _DEFAULT_MFU)


def require_price(price_per_hour: float | None) -> None:
    """Refuse a price that is negative or no number."""
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        what = f"price_per_hour must be a number and not negative, got {price_per_hour}"
        raise InputError(what)


def price_plan(
    plan: pd.DataFrame, device: Device, *, price_per_hour: float | None = None
) -> pd.DataFrame:
    """Plan with the columns device, hours and, where a price is known, cost (same money).

    Hours are of one device alone: a run on several takes the same device-hours.
    """
    require_price(price_per_hour)
    hours = plan["flops"] / device.flops_per_second / 3600
    priced = plan.assign(device=device.name, hours=hours)
    if price_per_hour is not None:
        priced = priced.assign(cost=hours * price_per_hour)
    priced.attrs = dict(plan.attrs)
    return priced


def _measured_cpu_peak(threads: int) -> float:
    import torch

    from allometry.harness.training.device import measured_peak

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return measured_peak("cpu", torch.float32, threads)
    finally:
        torch.set_num_threads(before)
