"""The policy as a state machine. Pure: clock and telemetry are arguments, equal inputs give equal states.

Pressure counts by the instants of readings, not by those of questions: it has lasted ten seconds when a reading that is
ten seconds younger than the first one still shows it, and no gap between them was longer than telemetry may be old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_staging.model.throughput import Level, QueueLimits, ThroughputPolicy

ORDER = (Level.NORMAL, Level.WARNING, Level.CRITICAL)


@dataclass(frozen=True)
class Instant:
    """One instant on two clocks: the wall's, and one that only goes forward while the machine's `boot` lasts."""

    wall_s: float
    mono_s: float
    boot: str


@dataclass(frozen=True)
class Reading:
    """Messages per queue, as told at `at_s` of the monotonic clock."""

    at_s: float
    depths: Mapping[str, int]


@dataclass(frozen=True)
class Telemetry:
    """The last reading, if any, and why there is none that is younger."""

    reading: Reading | None = None
    problem: str = ""


@dataclass(frozen=True)
class Override:
    """An operator's preset for a time. It ends at whichever of its deadlines comes first, and with the boot.

    After a reboot nothing proves how much time went by, so an override does not outlive one.
    """

    preset: str
    ttl_s: float
    until_wall_s: float
    until_mono_s: float
    boot: str
    who: str = ""
    why: str = ""

    def remaining_s(self, now: Instant) -> float:
        """Seconds left; 0 when it is over."""
        if now.boot != self.boot:
            return 0.0
        return max(0.0, min(self.until_wall_s - now.wall_s, self.until_mono_s - now.mono_s, self.ttl_s))


def new_override(preset: str, ttl_s: float, now: Instant, who: str = "", why: str = "") -> Override:
    """Begins now."""
    return Override(preset, ttl_s, now.wall_s + ttl_s, now.mono_s + ttl_s, now.boot, who, why)


@dataclass(frozen=True)
class Latch:
    """Whether a level holds: on after pressure has lasted, off after calm has. `since_s` is when the change began."""

    on: bool = False
    since_s: float | None = None

    def seeing(self, pressed: bool, at_s: float, spec_on_s: float, spec_off_s: float) -> Latch:
        """After a reading of the instant `at_s`."""
        if pressed == self.on:
            return Latch(self.on)
        since_s = at_s if self.since_s is None else self.since_s
        if at_s - since_s >= (spec_on_s if pressed else spec_off_s):
            return Latch(pressed)
        return Latch(self.on, since_s)

    def interrupted(self) -> Latch:
        """After a gap: what was seen before it proves nothing about the time within."""
        return Latch(self.on)


@dataclass(frozen=True)
class PolicyState:
    """What the next state depends on. `trouble` is a fail-safe that lasts until an operator sets a preset."""

    requested: str
    previous: str | None = None
    override: Override | None = None
    warning: Latch = field(default_factory=Latch)
    critical: Latch = field(default_factory=Latch)
    pressed_since_s: float | None = None
    seen_s: float | None = None
    trouble: str = ""

    @property
    def level(self) -> Level:
        """The level that the policy acts on."""
        return Level.CRITICAL if self.critical.on else Level.WARNING if self.warning.on else Level.NORMAL


def severity(limits: QueueLimits, depth: int | None) -> Level:
    """Of one queue; `unknown` when its depth is not known."""
    if depth is None:
        return Level.UNKNOWN
    return Level.CRITICAL if depth >= limits.critical else Level.WARNING if depth >= limits.warning else Level.NORMAL


def observed_level(policy: ThroughputPolicy, reading: Reading) -> Level:
    """The worst of the queues."""
    found = [severity(limits, reading.depths.get(name)) for name, limits in policy.queues.items()]
    return max((one for one in found if one in ORDER), key=ORDER.index, default=Level.NORMAL)


def blind_reason(policy: ThroughputPolicy, telemetry: Telemetry, now: Instant) -> str:
    """Why the telemetry is nothing to act on; empty when it is."""
    reading, limit_s = telemetry.reading, policy.telemetry.max_age_s
    because = f"; {telemetry.problem}" if telemetry.problem else ""
    if reading is None:
        return f"there is no telemetry yet{because}"
    age_s = now.mono_s - reading.at_s
    if age_s > limit_s:
        return f"the telemetry is older than {limit_s:g} s{because}"
    absent = [name for name in policy.queues if name not in reading.depths]
    return f"the telemetry does not tell of {', '.join(absent)}{because}" if absent else ""


def step(policy: ThroughputPolicy, state: PolicyState, telemetry: Telemetry, now: Instant) -> PolicyState:
    """The state at `now`. The same telemetry may be given again and again."""
    if state.override and state.override.remaining_s(now) <= 0:
        state = replace(state, override=None)
    if blind_reason(policy, telemetry, now) or telemetry.reading is None:
        return _interrupted(state)
    reading = telemetry.reading
    if state.seen_s is not None and reading.at_s <= state.seen_s:
        return state
    if state.seen_s is not None and reading.at_s - state.seen_s > policy.telemetry.max_age_s:
        state = _interrupted(state)
    return _seen(policy, state, reading)


def _seen(policy: ThroughputPolicy, state: PolicyState, reading: Reading) -> PolicyState:
    rank = ORDER.index(observed_level(policy, reading))
    windows = (policy.pressure.sustained_s, policy.pressure.cooldown_s)
    since_s = reading.at_s if state.pressed_since_s is None else state.pressed_since_s
    return replace(
        state,
        warning=state.warning.seeing(rank >= 1, reading.at_s, *windows),
        critical=state.critical.seeing(rank >= 2, reading.at_s, *windows),
        pressed_since_s=since_s if rank else None,
        seen_s=reading.at_s,
    )


def _interrupted(state: PolicyState) -> PolicyState:
    return replace(
        state, warning=state.warning.interrupted(), critical=state.critical.interrupted(), pressed_since_s=None
    )  # fmt: skip


def set_preset(state: PolicyState, preset: str) -> PolicyState:
    """An operator's choice; it also ends a trouble, for the operator has seen it."""
    previous = state.requested if preset != state.requested else state.previous
    return replace(state, requested=preset, previous=previous, trouble="")
