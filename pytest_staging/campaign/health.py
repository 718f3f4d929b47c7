"""Was the load what it was meant to be? A cell whose generator was the bottleneck is invalid: neither slow nor fast."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_staging.model.benchmark import Load
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.ports import CpuTime, LoadResult
from pytest_staging.stats.summary import percentile

MIN_PACE = 0.95
MIN_SHORTFALL = 5
IDLE_SHARE = 0.5
MAX_OF_CAPACITY = 0.9
FLOOR_MARGIN = 1.25
OURS = "the load generator"


@dataclass(frozen=True, kw_only=True)
class GeneratorUse:
    """What the load tool used in the load window: `cpus` of the `cpus_usable` that it could use at most.

    `waited` is the share of the window in which it was ready to run and had no CPU, over all its threads. `parts` are
    the same of each generator, where the load came from such.
    """

    cpus: float | None
    waited: float | None
    cpus_usable: float
    parts: Mapping[str, GeneratorUse] = field(default_factory=dict)

    def facts(self) -> dict[str, float]:
        """For the cell's summary."""
        known = {"cpus": self.cpus, "cpu_wait": self.waited, "cpus_usable": self.cpus_usable}
        return {name: round(value, 3) for name, value in known.items() if value is not None}


def use_of(
    before: CpuTime | None,
    after: CpuTime | None,
    duration_s: float,
    usable: float | None,
    parts: Mapping[str, float | None] | None = None,
) -> GeneratorUse:
    """From CPU times at both ends of the load window. `usable` is the tool's own word; None is all of the machine.

    `parts` are what is usable on each generator.
    """
    shares = {
        name: use_of(before.parts.get(name), after.parts.get(name), duration_s, one)
        for name, one in (parts or {}).items()
        if before and after
    }
    cpus_usable = usable or float(os.cpu_count() or 1)
    if before is None or after is None:
        return GeneratorUse(cpus=None, waited=None, cpus_usable=cpus_usable)
    known = after.waited_s is not None and before.waited_s is not None
    return GeneratorUse(
        cpus=max(0.0, after.used_s - before.used_s) / duration_s,
        # A thread that ended takes its waiting along.
        waited=max(0.0, (after.waited_s or 0.0) - (before.waited_s or 0.0)) / duration_s if known else None,
        cpus_usable=cpus_usable,
        parts=shares,
    )


def unhealthy_reason(result: LoadResult, use: GeneratorUse, load: Load, calibration: Calibration | None) -> str | None:
    """Why the cell says more about the generator than about the service, or None.

    A slow service also keeps an open load from its pace, while all users wait for it: that is a result, and no fault of
    the generator. Without a calibration nothing is known of the tool's floor and capacity here, and nothing is said.
    """
    machines = {f"{OURS} {name}": part for name, part in use.parts.items()} or {OURS: use}
    own = [check(who, one, load) for who, one in machines.items() for check in (_saturated, _starved)]
    others = (_idle_off_pace(result, load), _at_capacity(result, load, calibration), _at_floor(result, calibration))
    return next((reason for reason in (*own, *others) if reason), None)


def _saturated(who: str, use: GeneratorUse, load: Load) -> str | None:
    if use.cpus is None or use.cpus <= load.generator_limits.cpu_share * use.cpus_usable:
        return None
    return (
        f"{who} was saturated: it used {use.cpus:.2f} of the {use.cpus_usable:g} CPUs that it can use. "
        "Send less, or take a tool that can send more"
    )


def _starved(who: str, use: GeneratorUse, load: Load) -> str | None:
    if use.waited is None or use.waited <= load.generator_limits.wait_share:
        return None
    return (
        f"{who} was starved: for {use.waited:.0%} of the load it waited for a CPU that others had. "
        "Leave it one of its own"
    )


def _idle_off_pace(result: LoadResult, load: Load) -> str | None:
    pace, median = result.pace, _median(result)
    if pace is None or median is None or pace.achieved_rps >= MIN_PACE * pace.intended_rps:
        return None
    # In a short window one request more or less is many per cent.
    if (pace.intended_rps - pace.achieved_rps) * load.duration_s < MIN_SHORTFALL:
        return None
    if pace.achieved_rps * median / 1000 >= IDLE_SHARE * load.users:
        return None
    return (
        f"the load generator sent {pace.achieved_rps:.1f} of the intended {pace.intended_rps:g} requests/s, while most "
        f"of its {load.users} users were idle. See what its log says"
    )


def _at_capacity(result: LoadResult, load: Load, calibration: Calibration | None) -> str | None:
    rate = result.requests / (result.duration_s or load.duration_s)
    if calibration is None or rate <= MAX_OF_CAPACITY * calibration.capacity_rps:
        return None
    return (
        f"{rate:.0f} requests/s are at the load generator's own capacity, {calibration.capacity_rps:.0f} requests/s "
        f"against a service that does nothing ({calibration.measured_at}). Send less, or take a tool that can send more"
    )


def _at_floor(result: LoadResult, calibration: Calibration | None) -> str | None:
    floor = calibration.floor_ms.get("p50") if calibration else None
    median = _median(result)
    if floor is None or median is None or median > FLOOR_MARGIN * floor:
        return None
    return (
        f"its median latency of {median:.3g} ms lies within the load tool's own floor of {floor:.3g} ms: the service "
        "cannot be told from nothing. Take a tool with a lower floor, or give the service more to do"
    )


def _median(result: LoadResult) -> float | None:
    return percentile(result.latencies_ms, 50.0) if result.latencies_ms else result.percentiles_ms.get("p50")
