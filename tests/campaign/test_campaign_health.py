"""When a cell says more about its load generator than about its service."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_staging.campaign.calibrating import busy_reason
from pytest_staging.campaign.health import GeneratorUse, unhealthy_reason, use_of
from pytest_staging.model.benchmark import GeneratorLimits, Load, LoadShape
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.ports import CpuTime, LoadResult, Pace

LOAD = Load(shape=LoadShape.OPEN, users=10, rate=100.0, duration_s=10.0)
RESULT = LoadResult(latencies_ms=[5.0] * 1000, requests=1000, failures=0)
CALM = GeneratorUse(cpus=0.3, waited=0.02, cpus_usable=1.0)
CALIBRATION = Calibration(
    tool="locust", tool_version="2", machine="m", measured_at="2026-01-01T00:00:00Z",
    floor_ms={"p50": 0.4, "p95": 0.9}, capacity_rps=2000.0, capacity_cpus=1.0,
)  # fmt: skip


def reason(result: LoadResult = RESULT, use: GeneratorUse = CALM, load: Load = LOAD,
           calibration: Calibration | None = CALIBRATION) -> str | None:
    return unhealthy_reason(result, use, load, calibration)


def used(cpus: float | None, waited: float | None) -> GeneratorUse:
    return GeneratorUse(cpus=cpus, waited=waited, cpus_usable=2.0)


def test_a_healthy_cell() -> None:
    """XP-06: nothing is said, with and without a calibration."""
    assert reason() is None
    assert reason(calibration=None) is None


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (replace(CALM, cpus=0.95), "was saturated: it used 0.95 of the 1 CPUs"),
        (replace(CALM, waited=0.8), "was starved: for 80% of the load it waited"),
    ],
)
def test_a_generator_without_cpu(use: GeneratorUse, words: str) -> None:
    """XP-06: saturated or starved is invalid; the benchmark may set other limits."""
    assert words in (reason(use=use) or "")
    calm = replace(LOAD, generator_limits=GeneratorLimits(cpu_share=2.0, wait_share=2.0))
    assert reason(use=use, load=calm) is None


def test_what_is_not_known_is_not_held_against_it() -> None:
    """A host that does not show CPU times gives no reason."""
    assert reason(use=use_of(None, None, 10.0, 1.0)) is None
    assert use_of(None, None, 10.0, 1.0).facts() == {"cpus_usable": 1.0}
    use = use_of(CpuTime(used_s=1.0, waited_s=None), CpuTime(used_s=6.0, waited_s=None), 10.0, 2.0)
    assert use == GeneratorUse(cpus=0.5, waited=None, cpus_usable=2.0)


def test_off_pace_with_idle_users() -> None:
    """XP-06: then the generator is at fault; with all users waiting for the service, that is a slow service."""
    pace = Pace(intended_rps=100.0, achieved_rps=60.0)
    assert "60.0 of the intended 100 requests/s" in (reason(replace(RESULT, pace=pace)) or "")
    slow = replace(RESULT, latencies_ms=[160.0] * 600, pace=pace)
    assert reason(slow) is None
    assert reason(replace(RESULT, pace=replace(pace, achieved_rps=99.0))) is None


def test_at_capacity() -> None:
    """XP-06: near to what the tool can send at all, it is the tool that is measured."""
    many = replace(RESULT, requests=19_000)
    assert "own capacity, 2000 requests/s" in (reason(many) or "")
    assert reason(many, calibration=None) is None


@pytest.mark.parametrize("result", [
    replace(RESULT, latencies_ms=[0.45] * 1000),
    replace(RESULT, latencies_ms=[], percentiles_ms={"p50": 0.45}),
])  # fmt: skip
def test_within_the_floor(result: LoadResult) -> None:
    """XP-06: a latency that the tool has against nothing at all says nothing about the service."""
    assert "own floor of 0.4 ms" in (reason(result) or "")
    assert reason(result, calibration=None) is None


@pytest.mark.parametrize(
    ("tool", "service", "busy", "refused"),
    [
        (used(1.0, 0.4), used(0.9, 0.5), 2.0, False),
        (used(0.5, 0.4), used(0.3, 0.5), 2.0, True),
        (used(0.5, 0.1), used(0.3, 0.1), 2.0, False),
        (used(0.5, 0.8), used(0.3, 0.5), 0.9, False),
        (used(0.5, 0.8), used(0.3, 0.5), None, False),
        (used(0.5, None), used(0.3, 0.5), 2.0, False),
        (used(None, None), used(0.3, 0.5), 2.0, False),
    ],
    ids=["each other", "others", "short", "nobody else", "machine not told", "waiting not told", "tool not told"],
)
def test_a_calibration_on_a_busy_machine(
    tool: GeneratorUse, service: GeneratorUse, busy: float | None, refused: bool
) -> None:
    """XP-06: waiting counts as far as others had the CPUs: at its capacity the tool waits on an idle machine too."""
    said = busy_reason(tool, service, busy, 0.5)
    assert (said is not None) is refused
    assert said is None or "waited 0.90 s for CPUs that others had" in said
