"""A host that goes away in each part of a cell: noticed within 15 s, and nothing left on one that comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosting import BREAKAGES, SILENT, VERDICTS, LabHost, answers, hurry, in_background, noticed
from places import Place, answer, ssh_spec
from workspaces import make_version, wait_for

from pytest_staging.images.cache import ImageCache
from pytest_staging.images.remote import RemoteArtifactBuilder
from pytest_staging.model.errors import HOST_GONE, CellFailure, ConnectionLost, RemoteFailed
from pytest_staging.model.inventory import Traffic
from pytest_staging.store import Workspace, load_version
from pytest_staging.targets.ssh import SshTarget

GRACE_S = 1.0
CLEAN_UP_S = 8.0
"""A host that is known to be gone is tried once more, for 3 s."""


@pytest.fixture
def own_host(make_host: Callable[[], LabHost]) -> Iterator[LabHost]:
    """One that a test may break."""
    host = make_host()
    yield host
    host.docker("rm", "-f", "-v")


@pytest.fixture
def own(own_host: LabHost, make_ssh_place: Callable[[LabHost], Place]) -> Place:
    return make_ssh_place(own_host)


def make_target(place: Place, **changes: Any) -> SshTarget:
    return SshTarget("lab", ssh_spec(*place.arguments[1:], **changes), ttl_s=60)


@pytest.mark.parametrize("how", BREAKAGES)
def test_before_the_service_is_deployed(
    own: Place, own_host: LabHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(own)
    with target.lease("one", 5), own_host.broken(how):
        hurry(monkeypatch)
        with noticed(), pytest.raises(CellFailure):
            target.deploy(own.deployment(tmp_path))
        if how not in SILENT:
            assert set(target.facts()) >= {"name", "address"}, "what is known without the host"


@pytest.mark.parametrize("how", BREAKAGES)
def test_while_the_service_runs(
    own: Place, own_host: LabHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll says it by itself, and the clean-up that cannot be done adds little."""
    target = make_target(own, traffic=Traffic.FORWARDED)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        with own_host.broken(how):
            hurry(monkeypatch)
            with noticed(), pytest.raises(ConnectionLost):
                wait_for(lambda: service.poll() is not None)
            assert "is lost from sight" in service.ending()
            with noticed(CLEAN_UP_S), pytest.raises(ConnectionLost, match="could not be stopped"):
                service.stop(GRACE_S)
        assert "could not be stopped" in service.stop(GRACE_S), "only once"
        assert (tmp_path / "service.log").read_text() == "up\n", "what it had said is here"


@pytest.mark.parametrize("how", BREAKAGES)
def test_in_the_stop(
    own: Place, own_host: LabHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path, "deaf"))
        wait_for(lambda: answer(service.base_url))
        with own_host.broken(how):
            hurry(monkeypatch)
            with noticed(), pytest.raises(ConnectionLost, match="could not be stopped"):
                service.stop(GRACE_S)


SLOW_BUILD = "test -e /srv/quick || sleep 4304; cp service.py $1/service.py"


@pytest.mark.parametrize("how", BREAKAGES)
def test_during_a_build_on_the_host(
    own: Place, own_host: LabHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PT-04: the build tells that it is the host's fault; nothing half built is used, and nothing is left running."""
    make_version(tmp_path, "slow", "baseline", build=[["sh", "-c", SLOW_BUILD, "sh", "{artifact}"]])
    workspace, log = Workspace(tmp_path), tmp_path / "build.log"
    version, target = load_version(workspace, "slow"), make_target(own)
    builder = RemoteArtifactBuilder(workspace.versions_folder, target.host, target.runner)
    cache = ImageCache(workspace.versions_folder, builder)
    with target.lease("one", 5):
        building = in_background(lambda: cache.ensure(version, "native", log))
        wait_for(lambda: own_host.processes("sleep 4304") or building.done())
        with own_host.broken(how):
            hurry(monkeypatch)
            with noticed():
                error = building.exception(60)
        assert isinstance(error, HOST_GONE), error
    if how not in VERDICTS:
        return
    with target.lease("two", 5):
        assert own_host.processes("sleep 4304") == []
        assert cache.look_up(version, "native")[1] is None
        own_host.sh("touch /srv/quick")
        built = cache.ensure(version, "native", log)
        assert own_host.sh(f"ls -A {built.image.path} {built.image.path}/../..").split()[1:] == [
            "service.py", f"{built.image.path}/../..:", built.image.path.parent.name,
        ]  # fmt: skip


def test_sshd_is_restarted(own: Place, own_host: LabHost, tmp_path: Path) -> None:
    """The cell is lost, the host is not: what ran there is ended over a new connection, and the next cell runs."""
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        own_host.cut_sessions()
        with noticed(), pytest.raises(ConnectionLost):
            wait_for(lambda: service.poll() is not None)
        wait_for(lambda: answers(own_host.address))
        assert service.stop(GRACE_S) == "killed, after the connection was lost"
        assert own_host.processes("probe.py") == []
        again = target.deploy(own.deployment(tmp_path))
        assert wait_for(lambda: answer(again.base_url)) == "run001-serve"
        assert again.stop(GRACE_S) == "ended"


def test_no_space(own: Place, own_host: LabHost, tmp_path: Path) -> None:
    """A full disk on the host is a failed cell that says so, and no half snapshot has the snapshot's name."""
    own_host.sh("mkdir -p /dev/shm/work")
    target = make_target(own, work_directory="/dev/shm/work")
    target.host.prepare()
    own_host.sh("head -c 1G /dev/zero >/dev/shm/full 2>/dev/null; true")
    (own.snapshot / "large").write_bytes(b"x" * (1 << 20))
    with pytest.raises(RemoteFailed, match="No space left on device"):
        target.deploy(own.deployment(tmp_path))
    assert own_host.sh("find /dev/shm/work -name data.txt") == ""
