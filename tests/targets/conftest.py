"""Places for the contract suite, and a real engine for those that need one, or a skip that says why there is none."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))  # dockering
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ssh"))  # hosting

from dockering import Engine, give_up, start_engine
from engine_hosts import ENGINE_HOST_IMAGE, ENGINE_HOST_OPTIONS, EngineHost
from hosting import LabHost, call, make_key, remove_hosts, run_lab_script, start_host
from places import HERE, PROBE_FOLDER, Place, docker_place, local_place, ssh_docker_place, ssh_place

from pytest_staging.model.ports import Service

DOCKERFILE = """
FROM staging-lab/cc:12 AS build
COPY probe.c /probe.c
RUN ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", "/probe", "/probe.c"]
FROM scratch AS probe
COPY --from=build /probe /probe
ENTRYPOINT ["/probe"]
FROM probe AS broken
ENTRYPOINT ["/no-such-program"]
FROM probe AS moved
ENV MOVED=yes
FROM probe AS signalled
STOPSIGNAL SIGUSR1
HEALTHCHECK CMD ["/probe"]
"""


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Left running with its base images: both are there to be found by the next run."""
    try:
        import docker  # noqa: F401
    except ImportError:
        give_up("the docker package is missing: pip install 'pytest-staging[docker]'")
    return start_engine()


@pytest.fixture(scope="session")
def build_probe(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Builds a stage of the probe's Dockerfile, once each, and says its id."""
    token = uuid4().hex
    label = f"staging.targets-test={token}"
    folder = tmp_path_factory.mktemp("probe")
    built: dict[str, str] = {}
    named: list[str] = []
    (folder / "Dockerfile").write_text(re.sub(r"^FROM .*", rf"\g<0>\nLABEL {label}", DOCKERFILE, flags=re.MULTILINE))
    (folder / "probe.c").write_bytes((HERE / "probe.c").read_bytes())

    def build(stage: str) -> str:
        if stage not in built:
            # An image without a name goes with the last one that a test made from it, in the middle of a build too.
            name = f"staging-targets-test:{stage}-{token[:12]}"
            command = ("build", "--quiet", "--network", "none", "--target", stage, "--tag", name)
            built[stage] = engine(*command, str(folder))
            named.append(name)
        return built[stage]

    yield build
    if named:
        engine("image", "rm", *reversed(named))
    engine("image", "prune", "--force", "--filter", f"label={label}")


@pytest.fixture
def docker(
    engine: Engine, build_probe: Callable[[str], str], lease_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The place with a real engine; programs that the test starts find the same one.

    Whatever a test leaves behind under its lease is a leak, apart from what it asked to keep.
    """
    if address := engine.environment.get("DOCKER_HOST"):
        monkeypatch.setenv("DOCKER_HOST", address)
    yield docker_place(build_probe("probe"), build_probe("broken"))
    ours = ("--all", "--filter", f"label=pytest-staging.lease={lease_folder}/local.lease")
    left = dict(line.split() for line in engine("ps", *ours, "--format", "{{.Names}} {{.ID}}").splitlines())
    if left:
        engine("rm", "--force", "--volumes", *left.values())
    assert [name for name in left if not name.startswith("staging-kept-")] == []


@pytest.fixture(scope="session")
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], LabHost]]:
    """Makes SSH hosts with the probe on them, and removes them all at the end."""
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make() -> LabHost:
        host = start_host(key, folder / str(len(made)))
        made.append(host.container)
        host.sh(f"mkdir -p {PROBE_FOLDER} && cat >{PROBE_FOLDER}/probe.py", (HERE / "probe.py").read_bytes())
        return host

    yield make
    remove_hosts(made)


@pytest.fixture(scope="session")
def lab_host(make_host: Callable[[], LabHost]) -> LabHost:
    """A host that tests share."""
    return make_host()


@pytest.fixture
def no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither this machine's agent nor its user's ~/.ssh has a say."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def reach(host: LabHost) -> tuple[str, str, str, str]:
    """What `ssh_spec` takes."""
    inside = call("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", host.container)
    return host.address, inside, str(host.key), str(host.known_hosts)


@pytest.fixture
def make_ssh_place(no_user_settings: None, tmp_path: Path) -> Callable[[LabHost], Place]:
    """The place on a host, with a version of its own."""
    snapshot = tmp_path / "versions" / "probe" / "snapshot"
    snapshot.mkdir(parents=True)
    (snapshot / "data.txt").write_text("data\n")
    return lambda host: ssh_place(str(snapshot), *reach(host))


@pytest.fixture
def ssh(lab_host: LabHost, make_ssh_place: Callable[[LabHost], Place]) -> Iterator[Place]:
    """The place on the shared host. Whatever a test leaves running there is a leak."""
    yield make_ssh_place(lab_host)
    left = lab_host.processes("probe.py")
    lab_host.sh("for one in $(grep -la STAGING_SERVICE= /proc/[0-9]*/environ | cut -d/ -f3); do kill -9 $one; done")
    assert left == []


@pytest.fixture(scope="session")
def make_engine_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EngineHost]]:
    """Makes SSH hosts with an engine of their own, and removes them all at the end."""
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("engine-hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make(*sshd: str) -> EngineHost:
        host = EngineHost(start_host(key, folder / str(len(made)), sshd, ENGINE_HOST_OPTIONS, ENGINE_HOST_IMAGE))
        made.append(host.lab.container)
        host.wait_until_ready()
        return host

    yield make
    remove_hosts(made)


@pytest.fixture(scope="session")
def engine_host(make_engine_host: Callable[..., EngineHost]) -> EngineHost:
    """A host with an engine that tests share."""
    return make_engine_host()


@pytest.fixture
def make_ssh_docker_place(
    engine: Engine, build_probe: Callable[[str], str], no_user_settings: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[EngineHost], Place]:
    """The place on a host with an engine."""
    if address := engine.environment.get("DOCKER_HOST"):
        monkeypatch.setenv("DOCKER_HOST", address)
    ids = build_probe("probe"), build_probe("broken")
    return lambda host: ssh_docker_place(*ids, *reach(host.lab))


@pytest.fixture
def ssh_docker(engine_host: EngineHost, make_ssh_docker_place: Callable[[EngineHost], Place]) -> Iterator[Place]:
    """The place on the shared host with an engine. Whatever a test leaves behind is a leak, what is kept apart."""
    yield make_ssh_docker_place(engine_host)
    left = engine_host.containers()
    engine_host.remove(left)
    assert [name for name in left if not name.startswith("staging-kept-")] == []


@pytest.fixture
def own_engine_host(make_engine_host: Callable[..., EngineHost]) -> Iterator[EngineHost]:
    """One that a test may break."""
    host = make_engine_host()
    yield host
    host.lab.docker("rm", "-f", "-v")


@pytest.fixture(params=["local", "docker", "ssh", "ssh_docker"])
def place(request: pytest.FixtureRequest) -> Place:
    """Every place that a contract test runs in."""
    found: Place = local_place() if request.param == "local" else request.getfixturevalue(request.param)
    return found


@pytest.fixture
def stopping() -> Iterator[list[Service]]:
    """Whatever a test puts here is stopped."""
    services: list[Service] = []
    yield services
    for service in services:
        service.stop(0.0)


def _deployer(place: Place, folder: Path, services: list[Service]) -> Callable[..., Service]:
    target = place.make_target()

    def deploy(act: str = "serve", **changes: Any) -> Service:
        service = target.deploy(place.deployment(folder, act, **changes))
        services.append(service)
        return service

    return deploy


@pytest.fixture
def deploy(place: Place, tmp_path: Path, stopping: list[Service]) -> Callable[..., Service]:
    """Deploys the probe at the place; it is stopped after the test."""
    return _deployer(place, tmp_path, stopping)


@pytest.fixture
def deploy_container(docker: Place, tmp_path: Path, stopping: list[Service]) -> Callable[..., Service]:
    """The same, for containers only."""
    return _deployer(docker, tmp_path, stopping)
