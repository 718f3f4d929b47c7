"""What `hosts clean` takes from a host, what it leaves there, and what it makes of interruptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_hosts import EngineHost
from hosting import LabHost
from places import WORK, Place, ssh_spec

from pytest_staging.model.errors import LeaseTimeout, RemoteFailed, WorkspaceError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.host import MARKER
from pytest_staging.ssh.hosts import connection_to
from pytest_staging.targets import remote_clean
from pytest_staging.targets.remote_clean import clean
from pytest_staging.targets.ssh import SshTarget

BROUGHT = "1 images that were brought to the host's engine"


def clean_at(spec: HostSpec, **options: bool) -> list[str]:
    with connection_to("lab", spec) as connection:
        return clean(connection, spec, **options)


@pytest.fixture
def spec(ssh: Place) -> HostSpec:
    """A work directory of the test's own."""
    return ssh_spec(*ssh.arguments[1:], work_directory="/srv/to-clean")


def test_interrupted(spec: HostSpec, lab_host: LabHost) -> None:
    """SM-06: what an interrupted clean left is still known to be ours, and goes the next time."""
    SshTarget("lab", spec).host.prepare()
    lab_host.sh("mkdir -p /srv/to-clean/slot-2/lease /srv/to-clean/0/versions/a; rm -rf /srv/to-clean/lease")
    assert lab_host.sh(f"cat /srv/to-clean/{MARKER}") == "pytest-staging"
    assert clean_at(spec)[-1].startswith("/srv/to-clean: 1 version, ")
    assert lab_host.sh("ls -d /srv/to-clean 2>/dev/null || true") == ""


def test_somebody_comes_meanwhile(spec: HostSpec, lab_host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-06: a campaign that took the host after the first look keeps its files."""
    target = SshTarget("lab", spec)
    target.host.prepare()
    lease = target.lease("campaign c2", 5.0)
    end = remote_clean._end

    def come(*arguments: object) -> list[str]:
        said = end(*arguments)  # type: ignore[arg-type]
        lease.__enter__()
        return said

    monkeypatch.setattr(remote_clean, "_end", come)
    with pytest.raises(LeaseTimeout, match="is measured by campaign c2"):
        clean_at(spec)
    assert lab_host.sh("ls /srv/to-clean/lease/held")
    lease.__exit__(None, None, None)
    monkeypatch.undo()
    clean_at(spec)


@pytest.mark.parametrize("make", ["mkdir {0}; touch {0}/file", "ln -s /srv {0}", "touch {0}"])
def test_not_ours(spec: HostSpec, lab_host: LabHost, make: str) -> None:
    """SM-06: a folder without our mark, a link and a file stay as they are, also by force."""
    place = "/var/tmp/not-ours"
    lab_host.sh("mkdir -p /var/tmp; " + make.format(place))
    before = lab_host.sh(f"ls -ld {place} {place}/; true")
    for force in (False, True):
        with pytest.raises(WorkspaceError, match=r"/var/tmp/not-ours on lab .* was not made by pytest-staging"):
            clean_at(replace(spec, work_directory=place), force=force)
    assert lab_host.sh(f"ls -ld {place} {place}/; true") == before
    lab_host.sh(f"rm -rf {place}")


def test_containers_and_images(
    engine_host: EngineHost, make_ssh_docker_place: Callable[[EngineHost], Place], tmp_path: Path
) -> None:
    """SM-06: our containers and the images that were sent there go too, and nothing else of that engine."""
    place = make_ssh_docker_place(engine_host)
    spec = ssh_spec(*place.arguments[2:], work_directory=WORK)
    assert clean_at(spec) is not None
    theirs = engine_host.lab.sh("tar -c -C /etc passwd | docker import - theirs:1")
    service = place.make_target().deploy(place.deployment(tmp_path))
    assert len(engine_host.containers()) == 1
    would = clean_at(spec, dry_run=True)
    assert {f"1 containers of {WORK}/lease", BROUGHT} < set(would)
    assert len(engine_host.containers()) == 1
    assert set(engine_host.image_ids()) == {theirs, place.image.id}
    assert {f"1 containers of {WORK}/lease", BROUGHT} < set(clean_at(spec))
    assert engine_host.containers() == []
    assert engine_host.image_ids() == [theirs]
    service.stop(0.0)
    engine_host.docker("image", "rm", "theirs:1")


def test_an_image_that_is_in_use(
    engine_host: EngineHost, make_ssh_docker_place: Callable[[EngineHost], Place], tmp_path: Path
) -> None:
    """SM-06: an image that somebody runs by now stays, is named, and is still known to be ours the next time."""
    place = make_ssh_docker_place(engine_host)
    spec = ssh_spec(*place.arguments[2:], work_directory=WORK)
    place.make_target().deploy(place.deployment(tmp_path)).stop(0.0)
    theirs = engine_host.docker("create", place.image.id)
    with pytest.raises(RemoteFailed, match=f"all is removed but 1 images: {place.image.id} .*{theirs[:12]}"):
        clean_at(spec)
    assert engine_host.lab.sh(f"ls -A {WORK}").split() == [MARKER, "images"]
    engine_host.docker("rm", theirs)
    assert clean_at(spec)[0] == BROUGHT
    assert (engine_host.image_ids(), clean_at(spec)) == ([], [])


def test_an_engine_that_does_not_answer(
    make_engine_host: Callable[[], EngineHost], make_ssh_docker_place: Callable[[EngineHost], Place], tmp_path: Path
) -> None:
    """SM-06: it keeps nothing but its images, which are not forgotten."""
    host = make_engine_host()
    place = make_ssh_docker_place(host)
    spec = ssh_spec(*place.arguments[2:], work_directory=WORK)
    place.make_target().deploy(place.deployment(tmp_path)).stop(0.0)
    host.kill_engine()
    with pytest.raises(RemoteFailed, match=r"all is removed but 1 images: .*Cannot connect to the Docker daemon"):
        clean_at(spec)
    host.start_engine()
    assert clean_at(spec)[0] == BROUGHT
    assert host.image_ids() == []
