"""What the policy says at an instant: the fields that the API publishes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pytest_staging.model.throughput import FAIL_SAFE_PRESET, Level, ThroughputPolicy
from pytest_staging.throughput.machine import (
    Instant,
    PolicyState,
    Telemetry,
    blind_reason,
    observed_level,
    severity,
)

ASKED_STALE = Telemetry(None, "evaluated as stale, because telemetry_stale was given")


@dataclass(frozen=True)
class Effect:
    """The preset in force, whether it acts, and why. A fail-safe wins over all, then an override, then pressure."""

    preset: str
    active: bool
    reason: str
    fail_safe_reason: str = ""


def effect_of(policy: ThroughputPolicy, state: PolicyState, telemetry: Telemetry, now: Instant) -> Effect:
    """Of a state that `step` gave for the same arguments."""
    if why := state.trouble or blind_reason(policy, telemetry, now):
        return Effect(FAIL_SAFE_PRESET, True, "fail-safe", why)
    if state.override and state.override.remaining_s(now) > 0:
        return Effect(state.override.preset, True, f"override of {state.override.who or 'an operator'}")
    if state.warning.on:
        return Effect(state.requested, True, f"{state.level.value} queue pressure")
    return Effect(state.requested, False, "no policy is active")


def preview(
    state: PolicyState, telemetry: Telemetry, preset: str | None, stale: bool
) -> tuple[PolicyState, Telemetry]:  # fmt: skip
    """What would be there if that preset were set, or the telemetry were stale."""
    if preset is not None:
        state = replace(state, requested=preset, override=None)
    return state, ASKED_STALE if stale else telemetry


def build_status(policy: ThroughputPolicy, state: PolicyState, telemetry: Telemetry, now: Instant) -> dict[str, Any]:
    """The published status. Seconds are rounded to tenths."""
    effect = effect_of(policy, state, telemetry, now)
    blind = blind_reason(policy, telemetry, now)
    reading = None if blind else telemetry.reading
    lasted_s = (state.seen_s or 0.0) - state.pressed_since_s if state.pressed_since_s is not None else 0.0
    return {
        "requested_preset": state.requested,
        "active_preset": effect.preset,
        "policy_active": effect.active,
        "queue_pressure_level": (observed_level(policy, reading) if reading else Level.UNKNOWN).value,
        "fail_safe": bool(effect.fail_safe_reason),
        "fail_safe_reason": effect.fail_safe_reason or None,
        "sustained_seconds": round(lasted_s, 1),
        "sustained_seconds_required": policy.pressure.sustained_s,
        "cooldown_remaining_seconds": round(_cooldown_left_s(policy, state), 1),
        "class_states": [_class_state(policy, state, effect, name) for name in policy.classes],
        "queue_states": [_queue_state(policy, telemetry, bool(blind), name) for name in policy.queues],
    }


def _cooldown_left_s(policy: ThroughputPolicy, state: PolicyState) -> float:
    if not state.warning.on:
        return 0.0
    calm_since_s, seen_s = state.warning.since_s, state.seen_s
    calm_s = seen_s - calm_since_s if calm_since_s is not None and seen_s is not None else 0.0
    return max(0.0, policy.pressure.cooldown_s - calm_s)


def _class_state(policy: ThroughputPolicy, state: PolicyState, effect: Effect, name: str) -> dict[str, Any]:
    share, spec = policy.presets[effect.preset][name], policy.classes[name]
    parallelism, reason = (share.parallelism if effect.active else spec.parallelism), effect.reason
    if effect.active and state.level is Level.CRITICAL and name in policy.expensive:
        parallelism, reason = share.floor, f"{reason}; at its floor, because the pressure is critical"
    return {
        "class_name": name,
        "active_parallelism": parallelism,
        "minimum_floor": share.floor,
        "deferred_admission": parallelism < spec.parallelism,
        "reason": reason,
    }


def _queue_state(policy: ThroughputPolicy, telemetry: Telemetry, blind: bool, name: str) -> dict[str, Any]:
    """The last depth that is known, also when it is too old to act on; its severity is unknown then."""
    limits = policy.queues[name]
    depth = telemetry.reading.depths.get(name) if telemetry.reading else None
    return {
        "queue": name,
        "queued_messages": depth,
        "warning_threshold": limits.warning,
        "critical_threshold": limits.critical,
        "severity": (Level.UNKNOWN if blind and depth is not None else severity(limits, depth)).value,
    }
