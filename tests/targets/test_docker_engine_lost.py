"""An engine that dies, or stops answering, in the middle of a cell. Each is an engine of the test's own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockering import Engine
from places import Place
from private_engine import PrivateEngine, private_engine
from workspaces import wait_for

from pytest_staging import engine as engines
from pytest_staging.model.errors import EngineLost, EngineMissing
from pytest_staging.model.ports import Service
from pytest_staging.targets.docker import DockerTarget

# The SDK never closes a socket whose connect failed.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")
ENOUGH_S = 20.0
IMPATIENT_S = 0.3


@pytest.fixture
def private(engine: Engine, docker: Place) -> Iterator[PrivateEngine]:
    """An engine with the probe's image. A saved image keeps its id."""
    saved = subprocess.run(
        ["docker", "save", docker.image.id], env=engine.environment, capture_output=True, check=True, timeout=60
    ).stdout
    with private_engine(sys.executable) as found:
        found.load(saved)
        yield found
    gc.collect()  # while the warning is expected


def has_said_up(log: Path) -> bool:
    return log.exists() and log.read_text() == "up\n"


def lost(service: Service) -> EngineLost | None:
    try:
        service.poll()
    except EngineLost as error:
        return error
    return None


def test_killed(private: PrivateEngine, docker: Place, tmp_path: Path) -> None:
    """SM-05: whoever polls learns it by itself; stopping says it once; the next lease ends what was left."""
    target = DockerTarget(engine=engines.Engine(private.address))
    with target.lease("one", 1):
        service = target.deploy(docker.deployment(tmp_path))
        wait_for(lambda: has_said_up(tmp_path / "service.log"))
        assert service.poll() is None
        private.kill()
        error = wait_for(lambda: lost(service))
        assert f"the Docker engine at {private.address} was lost" in str(error)
        assert service.ending() == "is lost from sight"
        assert service.owns_endpoint() is not None
        with pytest.raises(EngineLost):
            service.stop(ENOUGH_S)
        assert service.stop(ENOUGH_S).startswith("could not be stopped: the Docker engine at")
        with pytest.raises(EngineMissing, match="Start it"):
            target.require_ready()
    assert (tmp_path / "service.log").read_text() == "up\n"
    private.start()
    with target.lease("two", 1):
        assert engines.Engine(private.address).client.api.containers(all=True) == []


def test_back_again_before_it_is_stopped(private: PrivateEngine, docker: Place, tmp_path: Path) -> None:
    """It ended its containers when it came back; the remains are removed."""
    target = DockerTarget(engine=engines.Engine(private.address))
    service = target.deploy(docker.deployment(tmp_path))
    private.kill()
    wait_for(lambda: lost(service))
    private.start()
    assert service.stop(ENOUGH_S) == "killed"
    assert engines.Engine(private.address).client.api.containers(all=True) == []


def test_frozen(private: PrivateEngine, docker: Place, tmp_path: Path) -> None:
    """It accepts calls and answers none: the next one says so when its time is over, and nothing hangs."""
    engine = engines.Engine(private.address)
    target = DockerTarget(engine=engine)
    service = target.deploy(docker.deployment(tmp_path))
    wait_for(lambda: has_said_up(tmp_path / "service.log"))
    os.kill(private.pid, signal.SIGSTOP)
    engine.client.api.timeout = IMPATIENT_S  # from here on: until now it may have been slow
    assert service.poll() is None
    with pytest.raises(EngineLost, match=r"was lost \(signal container"):
        service.stop(ENOUGH_S)
    assert service.stop(ENOUGH_S).startswith("could not be stopped")
    assert (tmp_path / "service.log").read_text() == "up\n"
    with pytest.raises(EngineMissing):
        target.require_ready()
    with pytest.raises(EngineLost), target.lease("two", 1):
        pytest.fail("nobody knows what runs")
    threads = [thread for thread in threading.enumerate() if thread.name == "output service.log"]
    assert [thread for thread in threads if thread.is_alive()] == []
    os.kill(private.pid, signal.SIGCONT)


def test_killed_while_it_deploys(private: PrivateEngine, docker: Place, tmp_path: Path) -> None:
    """No half-made service, and no exception of the SDK's."""
    target = DockerTarget(engine=engines.Engine(private.address))
    target.require_ready()
    private.kill()
    with pytest.raises(EngineLost, match="was lost"):
        target.deploy(docker.deployment(tmp_path))
