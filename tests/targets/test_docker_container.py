"""What a cell's container is made of, against the engine's own inspect and the kernel's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dockering import Engine
from places import PORT, Place, answer
from workspaces import wait_for

from pytest_staging import engine as engines
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.building import Image
from pytest_staging.model.errors import ServiceFailed
from pytest_staging.model.ports import Service
from pytest_staging.targets.docker import DockerTarget

Deploy = Callable[..., Service]
MIB = 1 << 20


def inspect_cell(engine: Engine, lease_folder: Path, *options: str) -> dict[str, Any]:
    """The only container under the test's lease."""
    ours = f"label=pytest-staging.lease={lease_folder}/local.lease"
    (name,) = engine("ps", "--all", "--quiet", "--filter", ours).split()
    return engine.inspect("container", name)


def test_limits(engine: Engine, deploy_container: Deploy, lease_folder: Path) -> None:
    """SM-05: CPUs and memory as declared, in the engine's record and in the kernel's, and no swap besides."""
    deploy_container(limits=ContainerLimits(cpus=0.5, memory_mb=64))
    found = inspect_cell(engine, lease_folder)
    host = found["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 * MIB, 64 * MIB)
    assert kernel_limits(found["State"]["Pid"]) == (0.5, 64 * MIB)


def test_no_limits(engine: Engine, deploy_container: Deploy, lease_folder: Path) -> None:
    deploy_container()
    host = inspect_cell(engine, lease_folder)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (0, 0)


def kernel_limits(pid: int) -> tuple[float, int]:
    """CPUs and bytes, from the files of the process's own groups, wherever they are mounted here."""
    paths = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path.lstrip("/"))
    root = Path("/sys/fs/cgroup")
    if (root / "memory").is_dir():
        cpu, memory = root / "cpu" / paths["cpu"], root / "memory" / paths["memory"]
        quota, period = (int((cpu / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period, int((memory / "memory.limit_in_bytes").read_text())
    group = root / paths[""]
    quota, period = map(int, (group / "cpu.max").read_text().split())
    return quota / period, int((group / "memory.max").read_text())


@pytest.mark.parametrize(
    ("limits", "words"), [(ContainerLimits(cpus=4096), "CPUs"), (ContainerLimits(memory_mb=1), "emory limit")]
)
def test_limits_that_the_engine_refuses(deploy_container: Deploy, limits: ContainerLimits, words: str) -> None:
    with pytest.raises(ServiceFailed, match=f"cannot be started: the Docker engine refused .*{words}"):
        deploy_container(limits=limits)


def test_limits_that_the_engine_would_ignore(docker: Place, tmp_path: Path) -> None:
    """Some engines make the container all the same, and say so in a warning only."""
    engine = engines.Engine()
    engine.__dict__["facts"] = replace(engine.facts, limits=("memory",))
    target = DockerTarget(engine=engine)
    with pytest.raises(ServiceFailed, match=r"cannot limit cpus, which benchmark\.yaml declares"):
        target.deploy(docker.deployment(tmp_path, limits=ContainerLimits(cpus=1, memory_mb=64)))
    target.deploy(docker.deployment(tmp_path, limits=ContainerLimits(memory_mb=64))).stop(0.0)


def test_its_record(engine: Engine, docker: Place, deploy_container: Deploy, lease_folder: Path) -> None:
    """Labels by which it is found, one published port on the loopback address, and nothing that restarts or grows."""
    service = deploy_container()
    found = inspect_cell(engine, lease_folder)
    config, host = found["Config"], found["HostConfig"]
    assert found["Image"] == config["Image"] == docker.image.id
    assert found["Name"].startswith("/staging-c1-run001-serve-")
    assert {name: value for name, value in config["Labels"].items() if name.startswith("pytest-staging.")} == {
        "pytest-staging.campaign": "c1",
        "pytest-staging.cell": "run001-serve",
        "pytest-staging.lease": f"{lease_folder}/local.lease",
        "pytest-staging.lease-folder": f"{lease_folder.stat().st_dev}:{lease_folder.stat().st_ino}",
    }
    published = {"HostIp": "127.0.0.1", "HostPort": service.base_url.rpartition(":")[2]}
    assert found["NetworkSettings"]["Ports"] == {f"{PORT}/tcp": [published]}
    assert list(found["NetworkSettings"]["Networks"]) == ["bridge"]
    assert (host["RestartPolicy"]["Name"] or "no", host["AutoRemove"]) == ("no", False)
    assert (host["LogConfig"]["Type"], "max-size" in host["LogConfig"]["Config"]) == ("json-file", True)


def test_no_health_checks_of_the_engines(
    engine: Engine, build_probe: Callable[[str], str], deploy_container: Deploy, lease_folder: Path
) -> None:
    """They would run a program beside the service while it is measured."""
    image = Image(ref="probe:signalled", id=build_probe("signalled"), size_bytes=0)
    assert engine.inspect("image", image.id)["Config"]["Healthcheck"]
    deploy_container(image=image)
    assert inspect_cell(engine, lease_folder)["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_a_tag_that_moved(
    engine: Engine, docker: Place, build_probe: Callable[[str], str], deploy_container: Deploy, lease_folder: Path
) -> None:
    """SM-05: what runs is what was built for the cell, whatever its name means by now."""
    ref = f"staging-targets-test:{uuid4().hex[:8]}"
    engine("image", "tag", docker.image.id, ref)
    built = Image(ref=ref, id=docker.image.id, size_bytes=0)
    try:
        engine("image", "tag", build_probe("moved"), ref)
        assert engine.inspect("image", ref)["Id"] != built.id
        deploy_container(image=built)
        assert inspect_cell(engine, lease_folder)["Image"] == built.id
    finally:
        engine("image", "rm", ref)


def test_an_image_that_was_removed(engine: Engine, deploy_container: Deploy, tmp_path: Path) -> None:
    """SM-05: behind our back, between the build and the cell. The message says what to do."""
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL staging.targets-test={uuid4().hex}\n")
    built = engine("build", "--quiet", str(tmp_path))
    engine("image", "rm", built)
    names = {"STAGING_VERSION": "faster", "STAGING_MODE": "jvm"}
    with pytest.raises(ServiceFailed) as caught:
        deploy_container(image=Image(ref="staging/x:1", id=built, size_bytes=0), environment=names)
    assert str(caught.value) == (
        f"the image staging/x:1 ({built}) is gone: somebody removed it after it was built. Build it again: "
        "staging-manager build-images --target docker --slug faster --mode jvm"
    )


def test_a_container_that_cannot_start(docker: Place, deploy_container: Deploy) -> None:
    """The engine's own words. That nothing is left of it is checked after each test."""
    with pytest.raises(ServiceFailed, match=r"cannot be started: the Docker engine refused .*/no-such-program"):
        deploy_container(image=docker.broken[0])


def test_a_log_that_cannot_be_written_leaves_no_container(
    engine: Engine, deploy_container: Deploy, tmp_path: Path, lease_folder: Path
) -> None:
    with pytest.raises(Exception, match="cannot write"):
        deploy_container(log=tmp_path / "no folder" / "log")
    assert engine("ps", "--all", "--quiet", "--filter", f"label=pytest-staging.lease={lease_folder}/local.lease") == ""


def test_facts(engine: Engine, docker: Place) -> None:
    """SM-07: which engine, and what it can limit."""
    facts = DockerTarget().facts()
    assert facts["engine"] == f"Docker {engine.version}"
    assert set(facts["container_limits"]) >= {"cpus", "memory"}
    json.dumps(dict(facts))


def test_names_that_the_engine_would_refuse(
    engine: Engine, docker: Place, deploy_container: Deploy, lease_folder: Path
) -> None:
    service = deploy_container(campaign_id="a b/ü", cell_id="run001@x")
    wait_for(lambda: answer(service.base_url))
    found = inspect_cell(engine, lease_folder)
    assert found["Name"].startswith("/staging-a-b---run001-x-")
    assert found["Config"]["Labels"]["pytest-staging.campaign"] == "a b/ü"
