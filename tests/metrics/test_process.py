"""What a service's processes use over the window, by /proc and by stand-ins."""

from __future__ import annotations

import resource
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from sampling import StandIn, observe, samples, spec
from workspaces import wait_for

from pytest_staging.metrics.process import ProcessMetrics
from pytest_staging.model.errors import ConnectionLost
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Command, Usage
from pytest_staging.targets.local import LocalProcess, LocalTarget

MIB = 1 << 20

# Eats CPU in a child and in a thread when a file appears; says what the kernel counted when it is done.
BUSY = textwrap.dedent(
    """
    import os, resource, sys, threading, time
    folder = sys.argv[1]
    def eat(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
    held = bytearray(32 << 20)
    open(folder + "/up", "w").close()
    while not os.path.exists(folder + "/go"):
        time.sleep(0.005)
    child = os.fork()
    if child == 0:
        eat(0.3)
        os._exit(0)
    os.waitpid(child, 0)
    eat(0.2)
    for _ in range(50):
        time.sleep(0.001)
    open(folder + "/done", "w").close()
    time.sleep(300)
    """
)

UNWAITED = textwrap.dedent(
    """
    import os, sys, time
    folder = sys.argv[1]
    def until(name):
        while not os.path.exists(folder + "/" + name):
            time.sleep(0.005)
    child = os.fork()
    if child == 0:
        while time.process_time() < 0.2:
            pass
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    open(folder + "/ended", "w").close()
    until("wait")
    os.waitpid(child, 0)
    open(folder + "/waited", "w").close()
    time.sleep(300)
    """
)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[LocalProcess]:
    argv = [sys.executable, "-I", "-c", BUSY, str(tmp_path)]
    started = LocalTarget().start(Command(argv=argv, cwd=tmp_path, log=tmp_path / "log"))
    wait_for((tmp_path / "up").exists)
    yield started
    started.stop(0.0)


def test_a_process_and_its_child(tmp_path: Path, busy: LocalProcess) -> None:
    """SM-08: CPU seconds, context switches and peak memory of the whole process tree, over the load window."""

    def done() -> bool:
        (tmp_path / "go").touch()
        return (tmp_path / "done").exists()

    reading = observe([ProcessMetrics(spec("process"))], tmp_path, done, service=busy)
    metrics = reading.metrics
    assert reading.missing == {}
    assert 0.45 <= (metrics["cpu_seconds"] or 0) < 0.8
    assert (metrics["resident_peak"] or 0) > 32 * MIB
    assert (metrics["context_switches_voluntary"] or 0) >= 50
    both = (metrics["context_switches_voluntary"] or 0) + (metrics["context_switches_involuntary"] or 0)
    assert metrics["context_switches"] == both
    kept = samples(tmp_path, "process")
    assert kept["values"]["resident_bytes"][-1] > 32 * MIB
    assert kept["values"]["cpu_seconds"] == sorted(kept["values"]["cpu_seconds"])


def test_usage_agrees_with_the_kernel(tmp_path: Path, busy: LocalProcess) -> None:

    def told() -> dict[str, str]:
        status = Path(f"/proc/{busy._popen.pid}/status").read_text()
        return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    before, usage, after, size = told(), busy.usage(), told(), resource.getpagesize()
    assert usage
    assert usage.switches
    voluntary = sum(counts[0] for counts in usage.switches.values())
    assert int(before["voluntary_ctxt_switches"]) <= voluntary <= int(after["voluntary_ctxt_switches"])
    assert usage.resident_bytes == pytest.approx(int(after["VmRSS"].split()[0]) * 1024, abs=512 * size)
    busy.stop(0.0)
    assert busy.usage() is None


def reading_of(tmp_path: Path, *usages: Usage | None) -> Reading:
    """Over a service that tells these, one after another, and then the last one."""
    left, asked = list(usages), []

    def usage() -> Usage | None:
        asked.append(1)
        return left.pop(0) if len(left) > 1 else left[0]

    source = ProcessMetrics(spec("process"))
    return observe([source], tmp_path, lambda: len(asked) > len(usages), service=StandIn(usage=usage))


def test_a_target_that_tells_only_some(tmp_path: Path) -> None:
    """SM-08: of a control group the CPU time is known, and its threads' context switches may not be."""
    reading = reading_of(tmp_path, Usage(cpu_s=1.5), Usage(cpu_s=4.0))
    assert (reading.metrics["cpu_seconds"], reading.metrics["resident_peak"]) == (2.5, 5000.0)
    assert reading.metrics["context_switches"] is None
    assert reading.missing["context_switches"] == "this target does not tell it"
    assert "cpu_seconds" not in reading.missing


def test_a_target_that_tells_nothing(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, None)
    assert reading.metrics["cpu_seconds"] is None
    assert reading.missing["cpu_seconds"].endswith("failed: ValueError: the service's processes cannot be read")


def test_threads_that_end(tmp_path: Path) -> None:
    """SM-08: what an ended thread had when it was last seen stays counted; one that came counts from its beginning."""
    switches = [{1: (100, 5), 2: (50, 5)}, {1: (110, 6), 2: (70, 9)}, {1: (120, 7), 3: (4, 0)}]
    reading = reading_of(tmp_path, *[Usage(cpu_s=1.0, switches=one) for one in switches])
    assert reading.metrics["context_switches_voluntary"] == 20 + 20 + 4
    assert reading.metrics["context_switches_involuntary"] == 2 + 4
    assert (reading.metrics["context_switches"], reading.metrics["cpu_seconds"]) == (50, 0.0)


def test_a_thread_id_that_is_used_again(tmp_path: Path) -> None:
    switches = [{1: (100, 5)}, {1: (3, 9)}]
    reading = reading_of(tmp_path, *[Usage(cpu_s=1.0, switches=one) for one in switches])
    assert (reading.metrics["context_switches_voluntary"], reading.metrics["context_switches_involuntary"]) == (3, 9)


def test_cpu_time_of_a_dead_child(tmp_path: Path) -> None:
    """SM-08: also between its end and its parent's waiting for it, when it is in nobody else's account."""
    program = tmp_path / "parent.py"
    program.write_text(UNWAITED)
    argv = [sys.executable, "-I", str(program), str(tmp_path)]
    started = LocalTarget().start(Command(argv=argv, cwd=tmp_path, log=tmp_path / "log"))
    try:
        wait_for((tmp_path / "ended").exists)
        before = started.usage()
        assert before
        assert (before.cpu_s or 0) >= 0.2
        (tmp_path / "wait").touch()
        wait_for((tmp_path / "waited").exists)
        after = started.usage()
        assert after
        assert (after.cpu_s or 0) >= (before.cpu_s or 0)
    finally:
        started.stop(0.0)


def test_a_host_that_is_lost(tmp_path: Path) -> None:
    """That is not the source's own failure: the cell is to be measured elsewhere."""

    class Lost(StandIn):
        def peak_resident_bytes(self) -> int | None:
            raise ConnectionLost("gone")

    with pytest.raises(ConnectionLost):
        observe([ProcessMetrics(spec("process"))], tmp_path, lambda: True, service=Lost())
