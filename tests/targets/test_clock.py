"""How a generator's clock is compared with this machine's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LeaseLost, LoadFailed, ToolUnsupported
from pytest_staging.model.placing import Clock, LoadPart, Need, Place
from pytest_staging.model.ports import CpuTime, LoadRequest
from pytest_staging.targets import procfs
from pytest_staging.targets.clock import choose_clock
from pytest_staging.targets.generator_host import Fit, GeneratorHost
from pytest_staging.targets.generator_load import CPU, GeneratorRun, parse_busy, parse_cpu
from pytest_staging.targets.generators import Generators


def test_the_quickest_trip_counts() -> None:
    """XP-06: its answer lies between question and reception; what was slow says less and is left out."""
    trips = [(100.0, 160.9, 101.0), (102.0, 162.011, 102.02), (103.0, 163.2, 103.4)]
    found = choose_clock(trips)
    assert found.ahead_s == pytest.approx(60.001)
    assert found.uncertainty_s == pytest.approx(0.01)


def test_a_lopsided_trip_stays_within_what_is_said() -> None:
    """XP-06: wherever in the trip the clock was read, the truth is within the uncertainty."""
    for part in (0.0, 0.3, 1.0):
        found = choose_clock([(10.0, 10.0 + part * 0.2 + 5.0, 10.2)])
        assert abs(found.ahead_s - 5.0) <= found.uncertainty_s + 1e-9


def test_cpu_time_of_a_generator() -> None:
    """XP-06: ticks of processes and waiting of threads are summed; no process at all is no answer."""
    found = parse_cpu("unit 100\nticks 250\nwaited 1500000000\nwaited 500000000\nticks 50\n")
    assert found is not None
    assert (found.used_s, found.waited_s) == (3.0, 2.0)
    assert parse_cpu("unit 100\n") is None
    no_wait = parse_cpu("unit 100\nticks 100\n")
    assert no_wait is not None
    assert no_wait.waited_s is None


def test_the_cpus_of_a_generators_machine() -> None:
    """XP-06: what the whole machine used is no waiting of the load's; a system that does not tell gives None."""
    text = "unit 100\nticks 250\nwaited 1500000000\nbusy 700\n"
    assert parse_busy(text) == 7.0
    assert parse_cpu(text) == CpuTime(used_s=2.5, waited_s=1.5)
    assert parse_busy("unit 100\nticks 250\n") is None


def test_the_script_that_tells_them() -> None:
    """XP-06: as a generator's shell runs it, here."""
    before = procfs.machine_busy_seconds()
    arguments = ["sh", "-c", CPU, "sh", "STAGING_LOAD=none", str(os.getsid(0))]
    text = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout
    assert before is not None
    assert before <= (parse_busy(text) or 0) <= (procfs.machine_busy_seconds() or 0)


def test_a_lease_that_is_lost(tmp_path: Path) -> None:
    """XP-06: somebody else may load from there now, so the cell is over, and says why."""
    part = LoadPart(place=Place(name="gen-1", python="p", program="t"), argv=["true"], log=tmp_path / "load.log")
    host = cast(GeneratorHost, SimpleNamespace(name="gen-1"))
    run = GeneratorRun(host, part, lambda: "it is held by campaign d")
    with pytest.raises(LeaseLost, match="generator gen-1: its lease was lost: it is held by campaign d"):
        run.poll()


def test_a_clock_that_is_set(tmp_path: Path) -> None:
    """XP-06: then nobody can say what was sent in the window; a clock that only drifts within what is known is fine."""
    place = Place(name="gen-1", python="p", program="t", clock=Clock(ahead_s=600.0, uncertainty_s=0.001))
    part = LoadPart(place=place, argv=["true"], log=tmp_path / "load.log")
    clocks = iter([Clock(ahead_s=600.02, uncertainty_s=0.002), Clock(ahead_s=0.0, uncertainty_s=0.002)])
    host = cast(GeneratorHost, SimpleNamespace(name="gen-1", clock=lambda: next(clocks)))
    run = GeneratorRun(host, part, str)
    run.require_steady_clock()
    with pytest.raises(LoadFailed, match=r"generator gen-1: its clock was set by 600\.00 s while it sent the load"):
        run.require_steady_clock()


def test_the_version_stays(tmp_path: Path) -> None:
    """XP-06: a generator whose tool was changed while the campaign lasts sends nothing for it."""
    need = Need(program="k6", question=(), pattern="", least=(0, 43), advice="")
    fit = Fit(python="p", program="k6", version="1.2.0")
    host = SimpleNamespace(name="gen-1", fit=lambda *_: fit, facts=lambda: {"cpus": 2})
    generators = Generators([cast(GeneratorHost, host)], "k6", need, tmp_path, "1.1.0")
    load = Load(shape=LoadShape.CLOSED, users=1, duration_s=1.0)
    request = LoadRequest(base_url="http://x", load=load, bodies={}, folder=tmp_path / "c")
    with pytest.raises(ToolUnsupported, match=r"gen-1: k6 is 1\.2\.0, and the campaign began with 1\.1\.0"):
        generators.placed(request, tmp_path)
