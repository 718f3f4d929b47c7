"""How containers end: for want of memory, by somebody else's hand, by the image's own signal, and kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dockering import Engine
from places import Place, answer
from workspaces import wait_for

from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.building import Image
from pytest_staging.model.ports import Service
from pytest_staging.targets import container, container_output
from pytest_staging.targets.container import ContainerService
from pytest_staging.targets.docker import DockerTarget

Deploy = Callable[..., Service]
SMALL = ContainerLimits(memory_mb=32)
WANT = "it needed more than its memory limit of 32 MiB"


def cells(engine: Engine, lease_folder: Path) -> list[str]:
    """Names of the containers under the test's lease, running or not."""
    ours = f"label=pytest-staging.lease={lease_folder}/local.lease"
    return engine("ps", "--all", "--filter", ours, "--format", "{{.Names}}").split()


def test_killed_for_want_of_memory(deploy_container: Deploy) -> None:
    """SM-07: the cell says that it was the kernel, why, and what the limit was."""
    service = deploy_container("starve", limits=SMALL)
    assert wait_for(lambda: service.poll()) == -signal.SIGKILL
    assert service.ending() == f"was killed by the kernel: {WANT}"
    assert service.stop(20.0) == f"had ended; the kernel had killed one of its processes: {WANT}"
    assert service.ending() == f"was killed by the kernel: {WANT}"


@pytest.mark.parametrize(
    ("grace_s", "how", "ending"),
    [(20.0, "ended", "ended with status 0"), (0.0, "killed", "was killed by signal 9")],
)
def test_a_child_killed_for_want_of_memory(deploy_container: Deploy, grace_s: float, how: str, ending: str) -> None:
    """The service answers all the same, and yet it is not what it would be with enough memory."""
    service = deploy_container("starve-child", limits=SMALL)
    wait_for(lambda: answer(service.base_url))
    told = f"the kernel had killed one of its processes: {WANT}"
    assert service.stop(grace_s) == f"{how}; {told}"
    assert service.ending() == f"{ending}, after {told}"


def test_an_end_after_a_child_was_killed(deploy_container: Deploy) -> None:
    service = deploy_container("starve-child-exit", limits=SMALL)
    assert wait_for(lambda: service.poll()) == 3
    assert service.ending() == f"ended with status 3, after the kernel had killed one of its processes: {WANT}"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Callable[[Service], None]:
    """Lets the engine miss that a process was killed. On a busy machine it does, once in twenty times."""

    def forget(service: Service) -> None:
        assert isinstance(service, ContainerService)
        ask = service._api.inspect_container

        def inspect(name: str) -> dict[str, Any]:
            found: dict[str, Any] = ask(name)
            found["State"]["OOMKilled"] = False
            return found

        monkeypatch.setattr(service._api, "inspect_container", inspect)

    return forget


@pytest.mark.parametrize(
    ("act", "ending"), [("starve", "was killed by the kernel"), ("starve-child-exit", "ended with")]
)
def test_want_of_memory_that_the_engine_missed(
    deploy_container: Deploy, forgetful: Callable[[Service], None], act: str, ending: str
) -> None:
    """The kernel's count for the whole machine tells, which outlives the container's group."""
    service = deploy_container(act, limits=SMALL)
    forgetful(service)
    wait_for(lambda: service.poll() is not None)
    assert service.ending().startswith(ending)
    assert service.ending().endswith(f": {WANT}")


def test_a_child_that_the_engine_missed(deploy_container: Deploy, forgetful: Callable[[Service], None]) -> None:
    """The count of the container's own group tells while it runs."""
    service = deploy_container("starve-child", limits=SMALL)
    forgetful(service)
    wait_for(lambda: answer(service.base_url))
    assert service.stop(20.0) == f"ended; the kernel had killed one of its processes: {WANT}"


def test_where_the_kernel_does_not_tell(deploy_container: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's word is enough, where it has one."""
    monkeypatch.setattr(container, "machine_oom_kills", lambda: None)
    service = deploy_container("starve", limits=SMALL)
    assert isinstance(service, ContainerService)
    wait_for(lambda: service.poll())
    seen = service._api.inspect_container(service._made.id)["State"]["OOMKilled"]
    assert service.ending() == (f"was killed by the kernel: {WANT}" if seen else "was killed by signal 9")


def test_somebody_elses_want_of_memory(deploy_container: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel kills elsewhere is not taken for this service's, where it has no limit, or we ended it."""
    monkeypatch.setattr(container, "machine_oom_kills", count().__next__)
    unlimited = deploy_container("crash")
    wait_for(lambda: unlimited.poll())
    assert unlimited.ending() == "was killed by signal 11"
    stopped = deploy_container("deaf", limits=SMALL)
    assert stopped.stop(0.0) == "killed"
    assert stopped.ending() == "was killed by signal 9"


def test_without_a_limit_it_is_the_machines_memory(deploy_container: Deploy) -> None:
    """Nothing is said of a limit that there was not."""
    service = deploy_container("crash")
    assert isinstance(service, ContainerService)
    wait_for(lambda: service.poll())
    service._code, service._starved = -signal.SIGKILL, True
    assert service.ending() == "was killed by the kernel: this machine ran out of memory"


def test_last_words_are_waited_for(deploy_container: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still on its way when the end is known belongs to the log that explains it."""
    awaited = threading.Event()

    class LateFrames(container_output.Frames):
        def feed(self, chunk: bytes) -> bytes:
            awaited.wait(20)
            return super().feed(chunk)

    monkeypatch.setattr(container_output, "Frames", LateFrames)
    service = deploy_container("exit")
    assert isinstance(service, ContainerService)
    wait_for(lambda: service.poll())
    close = service._output.close
    monkeypatch.setattr(service._output, "close", lambda deadline_s: (awaited.set(), close(deadline_s)))
    assert service.ending() == "ended with status 3"
    assert (tmp_path / "service.log").read_text() == "last words\n"


def test_killed_by_somebody(
    engine: Engine, deploy_container: Deploy, lease_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit alone makes no want of memory."""
    # The count is the whole machine's, and another test may starve a container at the same time.
    monkeypatch.setattr(container, "machine_oom_kills", lambda: 7)
    service = deploy_container(limits=SMALL)
    engine("kill", *cells(engine, lease_folder))
    assert wait_for(lambda: service.poll()) == -signal.SIGKILL
    assert service.ending() == "was killed by signal 9"
    assert service.stop(20.0) == "had ended"


def test_removed_by_somebody(engine: Engine, deploy_container: Deploy, lease_folder: Path) -> None:
    service = deploy_container()
    wait_for(lambda: answer(service.base_url))
    engine("rm", "--force", *cells(engine, lease_folder))
    assert wait_for(lambda: service.poll()) == -signal.SIGKILL
    assert service.ending() == "was killed by signal 9; somebody else removed its container"
    assert service.stop(20.0) == "had ended"
    assert service.stop(20.0, keep=True) == "had ended"


def test_removed_by_somebody_before_it_is_kept(engine: Engine, deploy_container: Deploy, lease_folder: Path) -> None:
    service = deploy_container()
    engine("rm", "--force", *cells(engine, lease_folder))
    wait_for(lambda: service.poll())
    assert service.stop(0.0, keep=True) == "had ended; nothing is kept: its container is gone"


def test_the_images_own_signal(build_probe: Callable[[str], str], deploy_container: Deploy, tmp_path: Path) -> None:
    """An image whose service ends on another signal says so (STOPSIGNAL); SIGTERM it ignores here."""
    image = Image(ref="probe:signalled", id=build_probe("signalled"), size_bytes=0)
    service = deploy_container("deaf", image=image)
    wait_for(lambda: answer(service.base_url))
    assert service.stop(20.0) == "ended"
    assert (tmp_path / "service.log").read_text() == "up\nbye\n"


def test_paused_by_somebody(engine: Engine, deploy_container: Deploy, lease_folder: Path) -> None:
    """A frozen process takes no signal."""
    service = deploy_container()
    wait_for(lambda: answer(service.base_url))
    engine("pause", *cells(engine, lease_folder))
    assert service.stop(0.1) in ("ended", "killed")


def test_it_goes_with_its_volumes(
    engine: Engine, docker: Place, deploy_container: Deploy, tmp_path: Path, lease_folder: Path
) -> None:
    """An image's VOLUME would leave one behind for each cell."""
    mark = f"/data-{uuid4().hex}"
    (tmp_path / "Dockerfile").write_text(f"FROM {docker.image.id}\nVOLUME {mark}\n")
    image = Image(ref="probe:volume", id=engine("build", "--quiet", str(tmp_path)), size_bytes=0)
    service = deploy_container(image=image)
    wait_for(lambda: answer(service.base_url))
    # Other tests make volumes at the same time.
    (container,) = cells(engine, lease_folder)
    (volume,) = [one["Name"] for one in engine.inspect("container", container)["Mounts"]]
    assert volume in engine("volume", "ls", "--quiet").split()
    service.stop(0.0)
    assert volume not in engine("volume", "ls", "--quiet").split()


def test_kept(engine: Engine, docker: Place, deploy_container: Deploy, lease_folder: Path) -> None:
    """It does not run any more, its log can be read, it outlives the next lease, and the text says how to go on."""
    service = deploy_container()
    wait_for(lambda: answer(service.base_url))
    told = service.stop(20.0, keep=True)
    (name,) = cells(engine, lease_folder)
    assert name.startswith("staging-kept-c1-run001-serve-")
    assert told == f"ended; kept as container {name}: docker logs {name}; docker rm -v {name}"
    with DockerTarget().lease("another", 1):
        pass
    assert engine("logs", name) == "up\nbye"
    assert service.stop(20.0) == told
    engine("rm", "-v", name)


def test_interrupted_while_it_stops(deploy_container: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stop finishes what an interrupted one began."""
    service = deploy_container("deaf")
    assert isinstance(service, ContainerService)
    wait_for(lambda: answer(service.base_url))

    def interrupt(_: float) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(service._over, "wait", interrupt)
        service.stop(20.0)
    assert service.stop(0.0) == "killed"
