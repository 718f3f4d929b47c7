"""What campaigns expect of every place where cells run. The places are in places.py."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from places import HERE, Place, answer
from workspaces import wait_for

from pytest_staging.metrics.combined import CombinedMetrics
from pytest_staging.metrics.process import ProcessMetrics
from pytest_staging.model.benchmark import SourceKind, SourceSpec
from pytest_staging.model.building import Image
from pytest_staging.model.errors import LeaseTimeout, ServiceFailed, StorageError
from pytest_staging.model.ports import Command, Service, Usage
from pytest_staging.model.version import ModeSpec, Runtime

Deploy = Callable[..., Service]
MIB = 1 << 20


@contextmanager
def holder(place: Place, folder: Path, act: str = "serve") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds the place's lease with a service that answers, and the service's address."""
    command = [sys.executable, str(HERE / "holding.py"), str(folder), act, place.name, *place.arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            base_url = process.stdout.readline().strip()
            wait_for(lambda: answer(base_url))
            yield process, base_url
        finally:
            process.kill()
            process.wait()
            with place.make_target().lease("clean-up", 20):
                pass


def test_it_answers_until_it_is_stopped(deploy: Deploy, tmp_path: Path) -> None:
    """SM-07: a fresh service for each cell: it answers at its address, ends when asked, and its output is kept."""
    service = deploy()
    assert wait_for(lambda: answer(service.base_url)) == "run001-serve"
    assert (service.poll(), service.ending()) == (None, "still runs")
    assert service.stop(20.0) == "ended"
    assert (service.poll(), service.ending()) == (0, "ended with status 0")
    assert service.stop(20.0) == "ended", "may be called twice"
    assert (tmp_path / "service.log").read_text() == "up\nbye\n"
    assert answer(service.base_url) is None


def test_it_is_the_one_that_answers(deploy: Deploy) -> None:
    """Nobody else's healthy answer may be measured in its place."""
    service = deploy()
    wait_for(lambda: answer(service.base_url))
    assert service.owns_endpoint() is True
    service.stop(0.0)
    assert service.owns_endpoint() is not True


def test_two_services_do_not_share_a_port(place: Place, deploy: Deploy, tmp_path: Path) -> None:
    first, second = deploy("serve"), deploy("hungry", log=tmp_path / "second.log")
    assert wait_for(lambda: answer(first.base_url)) == "run001-serve"
    assert wait_for(lambda: answer(second.base_url)) == "run001-hungry"


def test_what_it_is_given(place: Place, deploy: Deploy, tmp_path: Path) -> None:
    """The mode's environment, the cell's over it, and over both where it is to listen."""
    wished = {"KEPT": "a", "BOTH": "b", "STAGING_PORT": "1"}
    given = {"BOTH": "c d", "PROBE": "environment", "STAGING_HOST": "nowhere"}
    mode = {name: getattr(place.mode, name) for name in ("runtime", "start", "image")}
    service = deploy("environment", mode=type(place.mode)(**mode, environment=wished), environment=given)
    wait_for(lambda: service.poll() is not None)
    service.stop(0.0)
    seen = dict(line.split("=", 1) for line in (tmp_path / "service.log").read_text().splitlines())
    assert (seen["KEPT"], seen["BOTH"]) == ("a", "c d")
    assert seen["STAGING_HOST"] in ("127.0.0.1", "0.0.0.0")
    assert int(seen["STAGING_PORT"]) > 1


def test_its_own_end(deploy: Deploy, tmp_path: Path) -> None:
    """How it ended, with its last words in the log before it is stopped."""
    service = deploy("exit")
    assert wait_for(lambda: service.poll()) == 3
    assert service.ending() == "ended with status 3"
    assert (tmp_path / "service.log").read_text() == "last words\n"
    assert service.stop(20.0) == "had ended"
    assert service.ending() == "ended with status 3", "also afterwards"


def test_a_crash(deploy: Deploy) -> None:
    service = deploy("crash")
    assert wait_for(lambda: service.poll()) == -signal.SIGSEGV
    assert service.ending() == f"was killed by signal {signal.SIGSEGV.value}"
    assert service.stop(20.0) == "had ended"


def test_the_log_is_whole(deploy: Deploy, tmp_path: Path) -> None:
    """2 MB in a moment: no byte is lost between the service's end and ours."""
    service = deploy("talk")
    wait_for(lambda: service.poll() is not None)
    assert service.ending() == "ended with status 0"
    assert (tmp_path / "service.log").read_text().splitlines() == [str(line) for line in range(300_000)]


def test_one_that_ignores_sigterm(deploy: Deploy) -> None:
    service = deploy("deaf")
    wait_for(lambda: answer(service.base_url))
    assert service.stop(0.1) == "killed"
    assert service.poll() == -signal.SIGKILL
    assert service.stop(0.1) == "killed"


def test_no_grace(deploy: Deploy, tmp_path: Path) -> None:
    """After an interrupt nobody waits for a polite end."""
    service = deploy()
    wait_for(lambda: answer(service.base_url))
    assert service.stop(0.0) == "killed"
    assert (tmp_path / "service.log").read_text() == "up\n"


def test_peak_memory(deploy: Deploy) -> None:
    """The peak stays after the memory is given back, and is that of the service, not of the machine."""
    service = deploy("hungry")
    wait_for(lambda: answer(service.base_url))
    peak = service.peak_resident_bytes()
    assert peak is not None
    assert 64 * MIB < peak < 128 * MIB
    service.stop(0.0)
    assert service.peak_resident_bytes() is None


def test_usage(deploy: Deploy) -> None:
    """SM-08: CPU time, context switches and memory of the service so far, wherever it runs."""
    service = deploy("hungry")
    wait_for(lambda: answer(service.base_url))
    before = service.usage()
    assert before is not None
    assert answer(service.base_url)

    def waited_more() -> Usage | None:
        now = service.usage()
        return now if voluntary_of(now) > voluntary_of(before) else None

    after = wait_for(waited_more)
    assert 0 <= (before.cpu_s or 0) <= (after.cpu_s or 0) < 5
    assert 0 < (after.resident_bytes or 0) < 256 * MIB
    service.stop(0.0)
    assert service.usage() is None


def test_what_it_uses_under_load(deploy: Deploy, tmp_path: Path) -> None:
    """SM-08: the metric source of processes gives all of its metrics wherever the service runs."""
    service = deploy("hungry")
    wait_for(lambda: answer(service.base_url))
    source = ProcessMetrics(SourceSpec(kind=SourceKind.PROCESS, interval_s=0.05))
    mode = ModeSpec(runtime=Runtime.NATIVE)
    sampling = CombinedMetrics([source]).observe(service.base_url, mode, service, tmp_path / "samples.json")
    sampling.begin()
    for _ in range(5):  # as many samples as it takes to ask for this: all of them are within the window
        before = switches_of(service)
        wait_for(lambda: answer(service.base_url) and switches_of(service) > before + 10)  # noqa: B023
    sampling.end()
    reading = sampling.finish()
    sampling.close()
    assert reading.missing == {}
    assert (reading.metrics["resident_peak"] or 0) > 64 * MIB
    assert (reading.metrics["context_switches_voluntary"] or 0) > 10
    assert (reading.metrics["cpu_seconds"] or 0) >= 0
    assert reading.sources["process"]["failed"] == 0


def switches_of(service: Service) -> int:
    return voluntary_of(service.usage())


def voluntary_of(usage: Usage | None) -> int:
    return sum(counts[0] for counts in usage.switches.values()) if usage and usage.switches else 0


def test_one_that_cannot_be_started(place: Place, deploy: Deploy) -> None:
    image, mode = place.broken
    with pytest.raises(ServiceFailed, match=r"(?s)cannot be started: .*no such (file|program)|No such file"):
        deploy(image=image, mode=mode)


def test_a_log_that_cannot_be_written(deploy: Deploy, tmp_path: Path) -> None:
    """A service whose output nobody keeps must not run."""
    with pytest.raises(StorageError, match="cannot write"):
        deploy(log=tmp_path / "no folder" / "log")


def test_an_unfit_mode(place: Place) -> None:
    target = place.make_target()
    assert target.unfit_reason(place.mode) is None
    assert (target.unfit_reason(place.unfit) or "").startswith("has no ")


def test_it_is_ready_and_says_what_it_is(place: Place) -> None:
    """SM-07: the host's facts go into each cell."""
    target = place.make_target()
    target.require_ready()
    assert target.name == place.name
    assert set(target.facts()) >= {"name", "cpu", "cpus", "kernel", "machine", "memory_bytes", "load_average_1min"}


def test_a_program_beside_the_service(place: Place, tmp_path: Path) -> None:
    """The load tool."""
    command = Command(argv=["sh", "-c", "echo $A; exit 4"], cwd=tmp_path, log=tmp_path / "log", env={"A": "x"})
    process = place.make_target().start(command)
    assert wait_for(lambda: process.poll()) == 4
    assert process.stop(0.0) == "had ended"
    assert (tmp_path / "log").read_text() == "x\n"


def test_what_is_kept_is_said(deploy: Deploy) -> None:
    """`keep` never keeps anything running."""
    service = deploy()
    wait_for(lambda: answer(service.base_url))
    assert service.stop(20.0, keep=True).split(";")[0] == "ended"
    assert answer(service.base_url) is None


def test_leases_exclude_each_other(place: Place, tmp_path: Path) -> None:
    """PT-04: a second campaign on the host waits, is told who measures, and touches nothing of the first's."""
    with holder(place, tmp_path) as (first, base_url):
        message = rf"measured by campaign first \(pid {first.pid}\)"
        with pytest.raises(LeaseTimeout, match=message), place.make_target().lease("campaign second", 0.1):
            pytest.fail("the lease is held elsewhere")
        assert answer(base_url) == "run001-serve"


@pytest.mark.parametrize("act", ["serve", "deaf"])
def test_leftovers_of_a_dead_holder(place: Place, tmp_path: Path, act: str) -> None:
    """What a killed campaign left running is ended before the next one measures."""
    with holder(place, tmp_path, act) as (first, base_url):
        first.kill()
        first.wait()
        assert answer(base_url) == f"run001-{act}", "the test proves something only while it lives"
        with place.make_target().lease("campaign second", 20):
            assert answer(base_url) is None


def test_an_interrupt_leaves_nothing(place: Place, tmp_path: Path) -> None:
    """Also one between a start and its clean-up: giving the lease back ends what was started under it."""
    target = place.make_target()
    with pytest.raises(KeyboardInterrupt), target.lease("one", 1):
        service = target.deploy(place.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        raise KeyboardInterrupt
    assert answer(service.base_url) is None
    service.stop(0.0)


def test_an_image_that_is_not_there(place: Place, deploy: Deploy) -> None:
    """Removed between its build and the cell."""
    gone = Image(ref="probe:gone", id="sha256:" + "0" * 64, size_bytes=0, path=HERE / "gone")
    with pytest.raises(ServiceFailed):
        deploy(image=gone)
