"""Round numbers for axes."""

from __future__ import annotations

import math
from collections.abc import Sequence


def value_axis(known: Sequence[float], log: bool, unit: str) -> tuple[float, float, list[float]]:
    """(lowest, highest, ticks) for these values, in their unit; bytes get round numbers of MiB."""
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low == high == 0.0:
        return -1.0, 1.0, [0.0]
    if log:
        low, high = low / 1.25, high * 1.25
    else:
        air = (high - low) * 0.1 or abs(high) * 0.1
        low, high = low - air, high + air
    size = 2.0**20 if unit == "bytes" else 1.0
    ticks = log_ticks(low / size, high / size) if log else round_ticks(low / size, high / size)
    kept = [tick for tick in ticks if tick >= 0 or min(known) < 0]
    return low, high, [float(f"{tick:.6g}") * size for tick in kept]


def round_ticks(low: float, high: float) -> list[float]:
    """At most six multiples of 1, 2 or 5 times a power of ten between the two."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(power * one for one in (1, 2, 5, 10, 20) if (high - low) / (power * one) <= 5)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the two, or only the powers when that would be more than six."""
    powers = [10.0**one for one in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = [tick for power in powers for one in (1, 2, 5) if low <= (tick := power * one) <= high]
    coarse = [power for power in powers if low <= power <= high]
    return fine if len(fine) <= 6 or len(coarse) < 2 else coarse[:: -(-len(coarse) // 6)]
