"""Containers of a host's engine: how images get there, how cells meet them, and what is left."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dockering import Engine
from engine_hosts import EngineHost
from hosting import LabHost, in_background
from places import WORK, Place, answer, ssh_spec
from workspaces import wait_for

from pytest_staging import engine as engines
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.building import Image
from pytest_staging.model.errors import EngineMissing, ServiceFailed
from pytest_staging.model.inventory import Traffic
from pytest_staging.targets.image_shipping import ship_image
from pytest_staging.targets.remote_clean import clean
from pytest_staging.targets.ssh_docker import SshDockerTarget

NOBODY = engines.Engine("unix:///nonexistent/docker.sock")
MIB = 1 << 20


def make_target(place: Place, *, engine: engines.Engine | None = None, **changes: Any) -> SshDockerTarget:
    return SshDockerTarget("lab", ssh_spec(*place.arguments[2:], **changes), ttl_s=60, engine=engine)


@pytest.fixture
def new_image(engine: Engine, ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> Iterator[Image]:
    """The probe in an image that no host has yet."""
    (tmp_path / "Dockerfile").write_text(f"FROM {ssh_docker.image.id}\nLABEL staging.targets-test={uuid4().hex}\n")
    built = engine("build", "--quiet", str(tmp_path))
    yield Image(ref="probe:new", id=built, size_bytes=0)
    engine("image", "rm", built)


def test_an_image_is_shipped_once(ssh_docker: Place, engine_host: EngineHost, new_image: Image, tmp_path: Path) -> None:
    """SM-07: a host runs the very image that was built here, by its id; what is there is not sent again."""
    assert new_image.id not in engine_host.image_ids()
    target = make_target(ssh_docker)
    with target.lease("one", 5):
        target.deploy(ssh_docker.deployment(tmp_path, image=new_image)).stop(0.0)
        assert new_image.id in engine_host.image_ids()
    # Without an engine here nothing can be sent.
    again = make_target(ssh_docker, engine=NOBODY)
    with again.lease("two", 5):
        service = again.deploy(ssh_docker.deployment(tmp_path, image=new_image))
        [name] = engine_host.containers()
        assert engine_host.docker("inspect", "--format", "{{.Image}}", name) == new_image.id
        service.stop(0.0)
    assert ship_image(new_image, engines.Engine(), again.host, again._engine) is False


def test_two_slots_ship_at_once(ssh_docker: Place, engine_host: EngineHost, new_image: Image) -> None:
    """SM-07: the second one waits, and sends nothing that is there by then."""
    slots = [make_target(ssh_docker, work_directory=f"{WORK}/slot-{number}") for number in (2, 3)]
    ships = [in_background(ship_image, new_image, engines.Engine(), one.host, one._engine) for one in slots]
    assert [one.result(60) is not None for one in ships] == [True, True]
    until = engine_host.lab.sh("echo $(($(date +%s) + 1))")
    loads = engine_host.docker("events", "--since", "0", "--until", until, "--filter", "event=load")
    assert len([line for line in loads.splitlines() if new_image.id in line]) == 1
    assert engine_host.lab.sh(f"grep -c {new_image.id} {WORK}/images") == "1"


def test_an_image_that_is_gone_everywhere(ssh_docker: Place, tmp_path: Path) -> None:
    gone = Image(ref="probe:gone", id="sha256:" + "0" * 64, size_bytes=0)
    with pytest.raises(ServiceFailed, match=r"the image probe:gone .* is gone: .* --target docker --slug faster$"):
        names = {"STAGING_VERSION": "faster"}
        make_target(ssh_docker).deploy(ssh_docker.deployment(tmp_path, image=gone, environment=names))


def test_an_image_for_another_platform(
    ssh_docker: Place, engine_host: EngineHost, new_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run emulated or not at all."""
    here = engines.Engine()
    facts = {**(here.inspect_image(new_image.id) or {}), "Architecture": "s390x"}
    monkeypatch.setattr(here, "inspect_image", lambda ref: facts)
    with pytest.raises(ServiceFailed, match=r"is made for linux/s390x, and the engine of lab is linux/"):
        make_target(ssh_docker, engine=here).deploy(ssh_docker.deployment(tmp_path, image=new_image))
    assert new_image.id not in engine_host.image_ids()


def test_limits(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> None:
    """SM-05: CPUs and memory as declared, in the record of the host's engine and in its kernel's."""
    target = make_target(ssh_docker)
    service = target.deploy(ssh_docker.deployment(tmp_path, limits=ContainerLimits(cpus=0.5, memory_mb=64)))
    [name] = engine_host.containers()
    fields = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"
    assert engine_host.docker("inspect", "--format", fields, name) == f"500000000 {64 * MIB} {64 * MIB}"
    assert engine_host.group_file(name, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    service.stop(0.0)


def test_peak_memory_is_the_hosts_word(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> None:
    """SM-07: read from the control group there."""
    service = make_target(ssh_docker).deploy(ssh_docker.deployment(tmp_path, "hungry"))
    wait_for(lambda: answer(service.base_url))
    [name] = engine_host.containers()
    there = int(engine_host.group_file(name, "memory.max_usage_in_bytes", "memory.peak"))
    assert (service.peak_resident_bytes() or 0) == pytest.approx(there, abs=MIB)
    assert there > 64 * MIB
    service.stop(0.0)


def test_killed_for_want_of_memory(ssh_docker: Place, tmp_path: Path) -> None:
    """SM-07: as on this machine, the cell says that it was the kernel, and what the limit was."""
    limits = ContainerLimits(memory_mb=32)
    service = make_target(ssh_docker).deploy(ssh_docker.deployment(tmp_path, "starve", limits=limits))
    assert wait_for(lambda: service.poll()) == -signal.SIGKILL
    want = "was killed by the kernel: it needed more than its memory limit of 32 MiB"
    assert service.ending() == want
    service.stop(0.0)


@pytest.mark.parametrize("traffic", [Traffic.DIRECT, Traffic.FORWARDED])
def test_where_it_answers(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path, traffic: Traffic) -> None:
    """SM-07: on the host's address, or through the connection alone, as the inventory says."""
    service = make_target(ssh_docker, traffic=traffic).deploy(ssh_docker.deployment(tmp_path))
    assert wait_for(lambda: answer(service.base_url)) == "run001-serve"
    [name] = engine_host.containers()
    published = engine_host.docker("port", name).rpartition(" ")[2]
    if traffic is Traffic.FORWARDED:
        assert service.base_url.startswith("http://127.0.0.1:")
        assert published.startswith("127.0.0.1:")
    else:
        assert service.base_url == f"http://{ssh_docker.arguments[3]}:{published.rpartition(':')[2]}"
    service.stop(0.0)
    assert answer(service.base_url) is None


def test_its_labels(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> None:
    """By which `hosts clean` and the next lease find it."""
    service = make_target(ssh_docker).deploy(ssh_docker.deployment(tmp_path))
    [name] = engine_host.containers()
    label = '{{index .Config.Labels "pytest-staging.%s"}}'
    fields = " ".join(label % one for one in ("campaign", "cell", "lease", "lease-folder"))
    folder = engine_host.lab.sh(f"stat -c %d:%i {WORK}/lease")
    assert engine_host.docker("inspect", "--format", fields, name) == f"c1 run001-serve {WORK}/lease {folder}"
    service.stop(0.0)


def test_leftovers_that_never_ran_or_have_ended(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> None:
    """PT-04: a dead campaign's containers and networks are removed by label; what is kept or another's is not."""
    target = make_target(ssh_docker)
    target.deploy(ssh_docker.deployment(tmp_path)).stop(0.0)
    ours = [f"--label={name}={value}" for name, value in target._labels().items()]
    other = [ours[0], "--label=pytest-staging.lease-folder=else"]
    image = ssh_docker.image.id
    engine_host.docker("create", *ours, image)
    engine_host.docker("run", "--detach", *ours, "--env", "PROBE=exit", image)
    engine_host.docker("create", "--name", "staging-kept-mine", *ours, image)
    engine_host.docker("create", "--name", "anothers", *other, image)
    engine_host.docker("network", "create", *ours, "staging-left")
    with make_target(ssh_docker).lease("next", 5):
        assert sorted(engine_host.containers()) == ["anothers", "staging-kept-mine"]
        assert "staging-left" not in engine_host.docker("network", "ls", "--format", "{{.Name}}").split()
    engine_host.remove(["anothers", "staging-kept-mine"])


def test_nothing_runs_after_the_lease(ssh_docker: Place, engine_host: EngineHost, tmp_path: Path) -> None:
    """Of ours no process is left on the host, and nobody else could use the way to its engine meanwhile."""
    wait_for(lambda: not engine_host.lab.processes("dial-stdio"))  # of targets that are let go of by now
    target = make_target(ssh_docker)
    with target.lease("one", 5):
        target.deploy(ssh_docker.deployment(tmp_path)).stop(0.0)
        assert engine_host.lab.processes("dial-stdio")
        path = target._link.listen()
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    assert engine_host.lab.processes("dial-stdio") == []
    del target
    wait_for(lambda: not path.parent.exists())


def test_the_socket_of_a_program_that_was_killed(ssh_docker: Place) -> None:
    """It goes when the next one is made; one that answers stays."""
    folder = Path(tempfile.mkdtemp(prefix="pytest-staging-link-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "engine.sock"))
        listener.listen()
        first = make_target(ssh_docker)
        first.require_ready()
        assert folder.exists()
    second = make_target(ssh_docker)
    second.require_ready()
    assert not folder.exists()
    assert first._link.listen().exists()
    first.require_ready()


def test_facts(ssh_docker: Place, engine: Engine) -> None:
    """SM-07: which engine the host has, and what it can limit."""
    facts = make_target(ssh_docker).facts()
    assert (facts["name"], facts["engine"]) == ("lab", f"Docker {engine.version}")
    assert set(facts["container_limits"]) >= {"cpus", "memory"}


def test_few_sessions_and_a_chatty_shell(
    make_engine_host: Callable[..., EngineHost], make_ssh_docker_place: Callable[[EngineHost], Place], tmp_path: Path
) -> None:
    """PT-04: with MaxSessions 2, and a .bashrc that talks on both outputs, cells run as anywhere."""
    host = make_engine_host("MaxSessions 2")
    host.lab.sh("printf 'echo hello\\necho hello >&2\\n' >/root/.bashrc")
    place = make_ssh_docker_place(host)
    target = make_target(place)
    with target.lease("one", 5):
        for _ in range(2):
            service = target.deploy(place.deployment(tmp_path, "hungry", log=tmp_path / f"{_}.log"))
            assert wait_for(lambda: answer(service.base_url)) == "run001-hungry"  # noqa: B023
            assert service.peak_resident_bytes()
            assert service.stop(20.0) == "ended"
            assert (tmp_path / f"{_}.log").read_text() == "up\nbye\n"
    host.lab.docker("rm", "-f", "-v")


def test_no_docker_on_the_host(lab_host: LabHost, ssh: Place) -> None:
    """SM-05: the error names the host and says what to install there."""
    target = SshDockerTarget("lab", ssh_spec(*ssh.arguments[1:]))
    with pytest.raises(EngineMissing, match=r"^lab \(root@\S+\): the host has no docker client, .*apt-get install"):
        target.require_ready()
    with pytest.raises(EngineMissing, match="the host has no docker client"), target.lease("one", 5):
        pytest.fail("nobody knows what runs there")


def test_clean(ssh_docker: Place, engine_host: EngineHost, new_image: Image, tmp_path: Path) -> None:
    """SM-06: `hosts clean` removes containers and the images that were brought there, and says so."""
    changes = {"work_directory": "/srv/cleaned-docker"}
    spec, connection = ssh_spec(*ssh_docker.arguments[2:], **changes), engine_host.lab.connection()
    target = make_target(ssh_docker, **changes)
    service = target.deploy(ssh_docker.deployment(tmp_path, image=new_image))
    would = clean(connection, spec, dry_run=True)
    assert "1 containers of /srv/cleaned-docker/lease" in would
    assert "1 images that were brought to the host's engine" in would
    assert new_image.id in engine_host.image_ids()
    assert [line for line in clean(connection, spec) if "processes" not in line] == [
        line for line in would if "processes" not in line
    ]
    assert engine_host.containers() == []
    assert new_image.id not in engine_host.image_ids()
    assert clean(connection, spec) == []
    service.stop(0.0)
