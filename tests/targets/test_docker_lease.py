"""One lease for processes and containers, and what it finds and leaves when it is taken and given back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from dockering import Engine
from places import Place, answer
from workspaces import wait_for

from pytest_staging import engine as engines
from pytest_staging.model.errors import EngineMissing, LeaseTimeout
from pytest_staging.targets.docker import DockerTarget
from pytest_staging.targets.local import LocalTarget

NOBODY = "unix:///nonexistent/docker.sock"


def test_processes_and_containers_exclude_each_other(docker: Place) -> None:
    """PT-04: a campaign in containers and one in processes would measure each other."""
    with DockerTarget().lease("one", 1), pytest.raises(LeaseTimeout), LocalTarget().lease("two", 0.05):
        pytest.fail("held")
    with LocalTarget().lease("one", 1), pytest.raises(LeaseTimeout), DockerTarget().lease("two", 0.05):
        pytest.fail("held")


def test_leftovers_that_never_ran_or_have_ended(engine: Engine, docker: Place, lease_folder: Path) -> None:
    """A holder can die at any instant: also between making a container and starting it."""
    labels = [f"--label={name}={value}" for name, value in DockerTarget().lease_labels().items()]
    engine("create", *labels, docker.image.id)
    engine("run", "--detach", *labels, "--env", "PROBE=exit", docker.image.id)
    network = engine("network", "create", *labels, f"staging-targets-test-{uuid4().hex[:8]}")
    with DockerTarget().lease("next", 1):
        assert engine("ps", "--all", "--quiet", "--filter", labels[0].removeprefix("--")) == ""
        assert network not in engine("network", "ls", "--quiet", "--no-trunc")


@pytest.fixture
def others(engine: Engine, docker: Place) -> Iterator[str]:
    """A container of somebody else's, to which labels can be given."""
    name = f"staging-targets-test-{uuid4().hex[:8]}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], env=engine.environment, capture_output=True, timeout=60)


@pytest.mark.parametrize("label", ["pytest-staging.lease", "pytest-staging.lease-folder", None])
def test_what_belongs_to_others(engine: Engine, docker: Place, others: str, label: str | None) -> None:
    """Another lease's, one of the same path in another file system (a CI job's own /tmp), or no campaign's at all."""
    labels = DockerTarget().lease_labels() if label else {}
    options = [f"--label={name}={'else' if name == label else value}" for name, value in labels.items()]
    engine("create", "--name", others, *options, docker.image.id)
    with DockerTarget().lease("next", 1):
        pass
    assert engine.inspect("container", others)["State"]["Status"] == "created"
    engine("rm", others)


def test_an_engine_that_died_hides_nothing(docker: Place, tmp_path: Path) -> None:
    """What happened under the lease is what is reported, and the lease is given back."""
    engine = engines.Engine()
    with pytest.raises(KeyError, match="what happened"), DockerTarget(engine=engine).lease("one", 1):
        del vars(engine)["client"]
        vars(engine)["address"] = NOBODY
        raise KeyError("what happened")
    with LocalTarget().lease("two", 0.05):
        pass


def test_no_engine(tmp_path: Path) -> None:
    """SM-05: one clear error that says how to start it; nothing is measured beside unknown leftovers."""
    target = DockerTarget(engine=engines.Engine(NOBODY))
    advice = r"no Docker engine answers at unix:///nonexistent/\S+: No such file .*\. Start it \(sudo systemctl"
    with pytest.raises(EngineMissing, match=advice) as caught:
        target.require_ready()
    assert caught.value.exit_code == 2
    with pytest.raises(EngineMissing, match=advice), target.lease("one", 1):
        pytest.fail("nothing may run")
    assert "engine" not in target.facts()


@pytest.mark.parametrize("address", ["ssh://somewhere", "tcp://192.0.2.1:2375"])
def test_an_engine_elsewhere(address: str) -> None:
    """Its containers' loopback is not ours: the load would go nowhere, or to somebody else's service."""
    with pytest.raises(EngineMissing, match="is on another machine, and the target docker measures on this one"):
        DockerTarget(engine=engines.Engine(address)).require_ready()


def test_a_damaged_address() -> None:
    with pytest.raises(EngineMissing, match="no Docker engine answers at tcp://localhost:1"):
        DockerTarget(engine=engines.Engine("tcp://localhost:1")).require_ready()


def test_ready(docker: Place) -> None:
    DockerTarget().require_ready()
    assert wait_for(lambda: answer("http://127.0.0.1:0") is None), "nobody can listen on port 0"
