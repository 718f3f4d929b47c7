"""A campaign's load from generators, as far as no host is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_staging.calibrations import combined, find_calibration, save_calibration
from pytest_staging.campaign.generators import ToolOnGenerators
from pytest_staging.campaign.health import unhealthy_reason, use_of
from pytest_staging.campaign.pool import HostPool
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.loadtools.command import CommandTool
from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.loadtools.wrk import WrkTool
from pytest_staging.model.benchmark import Load, LoadShape, WarmUp, WarmUpEnd
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.errors import HostUnreachable, LeaseTimeout, NoHostLeft, ToolUnsupported
from pytest_staging.model.ports import CpuTime, LoadResult, LoadTool
from pytest_staging.targets.generator_host import Fit
from pytest_staging.targets.generators import require_equal

LOAD = Load(shape=LoadShape.CLOSED, users=4, duration_s=10.0)
CALIBRATION = Calibration(
    tool="k6", tool_version="1.1.0", machine="gen-1 (10.0.0.5:22): 2 x cpu", measured_at="2026-01-01T00:00:00Z",
    floor_ms={"p50": 0.4, "p95": 0.9}, capacity_rps=2000.0, capacity_cpus=1.5, generator="gen-1",
)  # fmt: skip


def there(tool: LoadTool, *counts: int, version: str = "2.40.0") -> ToolOnGenerators:
    return ToolOnGenerators(tool, counts, lambda: version)


@pytest.mark.parametrize(
    ("tool", "counts", "load", "said"),
    [
        (LocustTool(), (2,), LOAD, None),
        (LocustTool(), (2, 5), LOAD, "gives each process a user at least, and load.processes is 5"),
        (LocustTool(), (3,), replace(LOAD, processes=2), "load.processes is 6, load.users 4"),
        (LocustTool(), (1,), replace(LOAD, warm_up=WarmUp(until=WarmUpEnd.STEADY)), "give a fixed warm_up_s"),
        (CommandTool(), (1,), LOAD, "runs on this machine only"),
        (WrkTool(), (1,), LOAD, None),
        (WrkTool(), (2,), LOAD, "runs on one generator only, and a host of targets.yaml names 2"),
    ],
)
def test_what_cannot_be_sent_from_there(tool: LoadTool, counts: tuple[int, ...], load: Load, said: str | None) -> None:
    """XP-06: a tool or a load that does not fit the generators is refused before the campaign begins."""
    found = there(tool, *counts).unfit_reason(load, ["echo"])
    assert found is None if said is None else said in str(found)


def test_one_version_everywhere() -> None:
    """XP-06: generators of one campaign have one version of the tool, and so has this machine where it takes part."""
    fits = {f"gen-{n}": Fit(python="p", program="k", version=f"1.{n}.0") for n in (1, 2)}
    with pytest.raises(ToolUnsupported, match=r"gen-1 has 1\.1\.0, gen-2 has 1\.2\.0"):
        require_equal("k6", fits)
    assert require_equal("k6", {"gen-1": fits["gen-1"]}) == "1.1.0"
    assert there(LocustTool(), 1, version="0.0.1").version() == "0.0.1"
    with pytest.raises(ToolUnsupported, match=r"others by this machine with \d"):
        there(LocustTool(), 1, 0, version="0.0.1").version()


def test_each_generator_is_judged() -> None:
    """XP-06: one that is saturated is found out beside idle ones, and named."""
    before = CpuTime(used_s=0.0, waited_s=0.0, parts={name: CpuTime(used_s=0.0, waited_s=0.0) for name in "ab"})
    parts = {"a": CpuTime(used_s=9.8, waited_s=0.1), "b": CpuTime(used_s=0.4, waited_s=0.1)}
    after = CpuTime(used_s=10.2, waited_s=0.2, parts=parts)
    use = use_of(before, after, 10.0, 2.0, {"a": 1.0, "b": 1.0})
    assert use.cpus == pytest.approx(1.02)
    assert use.parts["b"].facts() == {"cpus": 0.04, "cpu_wait": 0.01, "cpus_usable": 1.0}
    result = LoadResult(latencies_ms=[5.0] * 1000, requests=1000, failures=0)
    reason = unhealthy_reason(result, use, LOAD, None)
    assert reason is not None
    assert reason.startswith("the load generator a was saturated: it used 0.98 of the 1 CPUs")


def test_calibrations_of_several() -> None:
    """XP-06: their capacities add up, the highest floor counts; unless all are known, nothing is."""
    other = replace(CALIBRATION, machine="gen-2", floor_ms={"p50": 0.7, "p95": 0.8}, capacity_rps=500.0)
    found = combined([CALIBRATION, other])
    assert found is not None
    assert (found.capacity_rps, found.floor_ms) == (2500.0, {"p50": 0.7, "p95": 0.9})
    assert combined([CALIBRATION]) == CALIBRATION
    assert combined([CALIBRATION, None]) is None
    assert combined([]) is None


def test_a_calibration_is_one_generators(tmp_path: Any) -> None:
    """XP-06: it is found by the generator's name and machine, and never taken for this machine's."""
    save_calibration(CALIBRATION, tmp_path)
    machine = CALIBRATION.machine
    assert find_calibration(tmp_path, "k6", "1.1.0", machine, 1, "gen-1") == CALIBRATION
    assert find_calibration(tmp_path, "k6", "1.1.0", machine, 1, "gen-2") is None
    assert find_calibration(tmp_path, "k6", "1.1.0", "gen-1 (10.0.0.9:22): 2 x cpu", 1, "gen-1") is None
    assert find_calibration(tmp_path, "k6", "1.1.0", machine) is None


class Leasing:
    """A target, or generators, whose lease is noted, and may fail."""

    def __init__(self, name: str, notes: list[str], error: Exception | None = None) -> None:
        self.name, self.notes, self.error = name, notes, error

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        if self.error:
            raise self.error
        self.notes.append(f"+{self.name}")
        yield
        self.notes.append(f"-{self.name}")


def pool(notes: list[str], errors: dict[str, Exception], *seats: str) -> HostPool:
    def make(seat: str) -> CellRunner:
        generators = Leasing(f"gen of {seat}", notes, errors.get(seat))
        return cast(CellRunner, SimpleNamespace(target=Leasing(seat, notes), generators=generators))

    return HostPool(seats, make, "campaign c")


def test_generators_are_leased_after_their_host() -> None:
    """XP-06, PT-04: and given back before it."""
    notes: list[str] = []
    hosts = pool(notes, {}, "a", "b")
    hosts.hold(None, 1.0)
    hosts.release()
    assert notes == ["+a", "+gen of a", "-gen of a", "-a"]


def test_a_host_without_its_generator_is_left() -> None:
    """XP-06, PT-04: another host is taken; when there is none, the end names the generator."""
    notes: list[str] = []
    gone = HostUnreachable("generator gen-1: no answer")
    hosts = pool(notes, {"a": gone}, "a", "b")
    hosts.hold(None, 1.0)
    assert hosts.held == "b"
    assert notes == ["+a", "-a", "+b", "+gen of b"]
    hosts.lose("generator gen-2: no answer")
    with pytest.raises(NoHostLeft, match=r"a: generator gen-1: no answer; b: generator gen-2: no answer"):
        hosts.hold(None, 1.0)


def test_a_generator_that_is_held_elsewhere() -> None:
    """XP-06: the host is given back, and the error says who has the generator."""
    notes: list[str] = []
    hosts = pool(notes, {"a": LeaseTimeout("the host gen-1 is measured by campaign d")}, "a")
    with pytest.raises(LeaseTimeout, match="gen-1 is measured by campaign d"):
        hosts.hold(None, 0.1)
    assert notes == ["+a", "-a"]
