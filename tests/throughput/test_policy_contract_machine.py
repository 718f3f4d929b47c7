"""The state machine: windows, cooldown, floors, overrides, fail-safe; by hand, and as properties of any history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policies import COOLDOWN_S, MAX_AGE_S, SUSTAINED_S, at, make_policy, seen

from pytest_staging.model.throughput import FAIL_SAFE_PRESET, ThroughputPolicy
from pytest_staging.throughput.machine import (
    Instant,
    PolicyState,
    Reading,
    Telemetry,
    new_override,
    set_preset,
    step,
)
from pytest_staging.throughput.status import build_status, preview

POLICY = make_policy()
CALM, WARM, HOT = {"heavy": 0}, {"heavy": 30}, {"heavy": 90}


def play(*seconds_and_depths: tuple[float, dict[str, int]], state: PolicyState | None = None) -> PolicyState:
    state = state or PolicyState("balanced")
    for seconds, depths in seconds_and_depths:
        state = step(POLICY, state, seen(seconds, **depths), at(seconds))
    return state


def every(first: float, last: float, depths: dict[str, int]) -> list[tuple[float, dict[str, int]]]:
    return [(first + 5.0 * number, depths) for number in range(int((last - first) // 5) + 1)]


def status(state: PolicyState, telemetry: Telemetry, now: Instant) -> dict[str, Any]:
    return build_status(POLICY, state, telemetry, now)


def parallelism(shown: dict[str, Any]) -> dict[str, int]:
    return {one["class_name"]: one["active_parallelism"] for one in shown["class_states"]}


def test_pressure_acts_only_after_it_has_lasted() -> None:
    """TP-02: nothing happens before the sustained window is over; then the expensive class loses parallelism."""
    before = play((0, WARM), (5, WARM), (9.9, WARM))
    shown = status(before, seen(9.9, **WARM), at(9.9))
    assert (shown["policy_active"], shown["sustained_seconds"]) == (False, 9.9)
    assert parallelism(shown) == {"quick": 8, "heavy": 6}
    after = step(POLICY, before, seen(10, **WARM), at(10))
    shown = status(after, seen(10, **WARM), at(10))
    assert (shown["policy_active"], shown["active_preset"]) == (True, "balanced")
    assert parallelism(shown) == {"quick": 8, "heavy": 3}
    deferred = {one["class_name"]: one["deferred_admission"] for one in shown["class_states"]}
    assert deferred == {"quick": False, "heavy": True}


def test_a_dip_starts_the_window_anew() -> None:
    """TP-02: pressure that came and went is not sustained."""
    assert not play((0, WARM), (5, WARM), (8, CALM), (12, WARM), (18, WARM)).warning.on


def test_it_leaves_with_a_cooldown() -> None:
    """TP-02: calm has to last as well, and a flicker of pressure starts it anew."""
    active = play(*every(0, 10, WARM))
    calm = play(*every(15, 30, CALM), state=active)
    shown = status(calm, seen(30), at(30))
    assert (shown["policy_active"], shown["cooldown_remaining_seconds"]) == (True, 5.0)
    assert not play((35, CALM), state=calm).warning.on
    assert play((33, WARM), (35, CALM), (40, CALM), state=calm).warning.on


def test_critical_pressure_takes_the_expensive_class_to_its_floor() -> None:
    """TP-01: at critical pressure the highest tier runs at its floor, and no lower."""
    state = play(*every(0, 10, HOT))
    shown = status(state, seen(10, **HOT), at(10))
    assert parallelism(shown) == {"quick": 8, "heavy": 2}
    assert [one["minimum_floor"] for one in shown["class_states"]] == [4, 2]
    assert "at its floor" in shown["class_states"][1]["reason"]


def test_a_gap_in_the_telemetry_proves_nothing() -> None:
    """TP-02: two readings under pressure with a gap between them are not sustained pressure."""
    assert not play((0, WARM), (MAX_AGE_S + 1, WARM), (SUSTAINED_S + 1, WARM)).warning.on


def test_an_older_reading_takes_nothing_back() -> None:
    """TP-02: what comes late says nothing about now."""
    state = play(*every(0, 10, WARM))
    assert step(POLICY, state, seen(7, **CALM), at(10)) == state


@pytest.mark.parametrize(
    ("telemetry", "said"),
    [
        (Telemetry(), "no telemetry yet"),
        (Telemetry(problem="the last poll failed: answered 401"), "answered 401"),
        (replace(seen(0), problem="the last poll failed: no answer"), "older than 8 s; the last poll failed"),
        (Telemetry(Reading(1019.0, {"jobs.quick": 0})), "does not tell of jobs.heavy"),
    ],
)
def test_fail_safe_says_why(telemetry: Telemetry, said: str) -> None:
    """TP-02: without telemetry that is current and complete: conservative, whatever was asked for, and the reason."""
    state = replace(PolicyState("aggressive"), override=new_override("aggressive", 600, at(0)))
    now = at(20)
    shown = status(step(POLICY, state, telemetry, now), telemetry, now)
    assert (shown["fail_safe"], shown["active_preset"], shown["policy_active"]) == (True, "conservative", True)
    assert said in shown["fail_safe_reason"]
    assert shown["queue_pressure_level"] == "unknown"
    assert parallelism(shown) == {"quick": 4, "heavy": 2}


def test_an_override_wins_and_ends() -> None:
    """TP-04: an override is in force until its time is over, and then the preset that was set is back."""
    state = replace(PolicyState("balanced"), override=new_override("conservative", 60, at(0), "ann"))
    shown = status(state, seen(59), at(59))
    assert (shown["requested_preset"], shown["active_preset"]) == ("balanced", "conservative")
    assert "ann" in shown["class_states"][0]["reason"]
    over = step(POLICY, state, seen(60), at(60))
    assert over.override is None
    assert status(over, seen(60), at(60))["active_preset"] == "balanced"


@pytest.mark.parametrize(
    "now",
    [
        at(61, wall_s=0.0),  # set back by years
        at(30, wall_s=1_700_000_061.0),  # set forward: the absolute deadline is over
        at(5, boot="boot-2"),  # another boot: nothing says how long it took
    ],
)
def test_no_clock_extends_an_override(now: Instant) -> None:
    """TP-04: whichever of its deadlines comes first ends an override."""
    assert new_override("conservative", 60, at(0)).remaining_s(now) == 0


def test_a_preset_that_is_set_remembers_the_one_before_and_ends_trouble() -> None:
    """TP-06: the way back is known."""
    state = set_preset(replace(PolicyState("balanced"), trouble="the state was unreadable"), "aggressive")
    assert (state.requested, state.previous, state.trouble) == ("aggressive", "balanced", "")
    assert set_preset(state, "aggressive").previous == "balanced"


def test_a_preview_changes_nothing_else() -> None:
    """TP-03: `preset` and `telemetry_stale` show what would be."""
    state = play(*every(0, 10, WARM))
    shown = status(*preview(state, seen(10, **WARM), "aggressive", False), at(10))
    assert (shown["requested_preset"], parallelism(shown)["heavy"]) == ("aggressive", 5)
    assert status(*preview(state, seen(10, **WARM), None, True), at(10))["fail_safe"]


@dataclass(frozen=True)
class Event:
    """What happens, so many seconds after the event before."""

    after_s: float
    depths: dict[str, int] | None = None
    wall_jump_s: float = 0.0
    override: tuple[str, float] | None = None
    preset: str | None = None


PRESETS = st.sampled_from(sorted(POLICY.presets))
DEPTHS = st.fixed_dictionaries(
    {"jobs.quick": st.sampled_from([0, 9, 10, 40, 500]), "jobs.heavy": st.sampled_from([0, 19, 20, 80, 10**6])},
)
EVENTS = st.builds(
    Event,
    after_s=st.sampled_from([0.0, 0.5, 1.0, 3.0, 5.0, 8.0, 9.0, 21.0]),
    depths=st.none() | DEPTHS | st.just({"jobs.quick": 1}),
    wall_jump_s=st.sampled_from([0.0, 0.0, -1e6, 3600.0, 1e6]),
    override=st.none() | st.tuples(PRESETS, st.sampled_from([1.0, 10.0, 60.0])),
    preset=st.none() | PRESETS,
)


@dataclass
class Moment:
    """What a history shows at one instant."""

    now: Instant
    state: PolicyState
    telemetry: Telemetry
    shown: dict[str, Any]


def history(events: list[Event], policy: ThroughputPolicy = POLICY) -> list[Moment]:
    """Each event, and a look at the state 0.25 s after it."""
    state, telemetry, mono_s, wall_s = PolicyState("balanced"), Telemetry(), 1000.0, 1.7e9
    moments = []
    for event in events:
        mono_s, wall_s = mono_s + event.after_s, wall_s + event.after_s + event.wall_jump_s
        now = Instant(wall_s, mono_s, "boot-1")
        if event.override:
            state = replace(state, override=new_override(*event.override, now))
        if event.preset:
            state = set_preset(state, event.preset)
        if event.depths is not None:
            telemetry = Telemetry(Reading(mono_s, event.depths))
        for _ in range(2):
            state = step(policy, state, telemetry, now)
            moments.append(Moment(now, state, telemetry, build_status(policy, state, telemetry, now)))
            mono_s, wall_s = mono_s + 0.25, wall_s + 0.25
            now = Instant(wall_s, mono_s, "boot-1")
    return moments


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_the_floor_is_never_broken(events: list[Event]) -> None:
    """TP-01: whatever happens, no class has less than the floor that its preset declares, nor more than it may have."""
    for moment in history(events):
        for shown in moment.shown["class_states"]:
            name = shown["class_name"]
            floor = POLICY.presets[moment.shown["active_preset"]][name].floor
            assert shown["minimum_floor"] == floor
            assert floor <= shown["active_parallelism"] <= POLICY.classes[name].parallelism


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=5, max_size=60))
def test_nothing_flaps_faster_than_the_windows(events: list[Event]) -> None:
    """TP-02: a level that went on stays for the cooldown, and one that went off stays off for the window."""
    for name in ("warning", "critical"):
        previous: tuple[bool, float] = (False, float("-inf"))
        for moment in history(events):
            on = getattr(moment.state, name).on
            if on != previous[0]:
                window_s = SUSTAINED_S if on else COOLDOWN_S
                assert moment.now.mono_s - previous[1] >= window_s
                previous = (on, moment.now.mono_s)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_an_override_never_outlives_its_ttl(events: list[Event]) -> None:
    """TP-04: however the wall clock jumps, an override is gone when its time is over."""
    began: dict[int, float] = {}
    for moment in history(events):
        if moment.state.override:
            first_s = began.setdefault(id(moment.state.override), moment.now.mono_s)
            assert moment.now.mono_s - first_s < moment.state.override.ttl_s


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_fail_safe_always_wins(events: list[Event]) -> None:
    """TP-02: old, incomplete or no telemetry is conservative, against pressure, presets and overrides."""
    for moment in history(events):
        reading = moment.telemetry.reading
        good = reading and set(reading.depths) == set(POLICY.queues) and moment.now.mono_s - reading.at_s <= MAX_AGE_S
        assert moment.shown["fail_safe"] is (not good)
        if not good:
            assert moment.shown["active_preset"] == FAIL_SAFE_PRESET
            assert moment.shown["fail_safe_reason"]


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_equal_inputs_give_equal_states(events: list[Event]) -> None:
    """TP-02: nothing but the arguments counts, and asking twice changes nothing."""
    first, second = history(events), history(events)
    assert [(one.state, one.shown) for one in first] == [(one.state, one.shown) for one in second]
    for moment in first:
        assert step(POLICY, moment.state, moment.telemetry, moment.now) == moment.state
