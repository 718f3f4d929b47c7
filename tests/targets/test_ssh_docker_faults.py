"""Hosts, connections and engines that go away under a container cell, and an image that does not arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_hosts import EngineHost
from hosting import BREAKAGES, SILENT, answers, hurry, noticed
from places import Place, answer, ssh_spec
from workspaces import wait_for

from pytest_staging import engine as engines
from pytest_staging.model.errors import HOST_GONE, ConnectionLost, EngineLost, EngineMissing, LeaseLost, RemoteFailed
from pytest_staging.model.inventory import Traffic
from pytest_staging.model.ports import Service
from pytest_staging.targets import image_shipping
from pytest_staging.targets.image_shipping import ship_image
from pytest_staging.targets.ssh_docker import SshDockerTarget

GRACE_S = 1.0
CLEAN_UP_S = 8.0
"""A host that is known to be gone is tried once more, for 3 s."""


@pytest.fixture
def own(own_engine_host: EngineHost, make_ssh_docker_place: Callable[[EngineHost], Place]) -> Place:
    return make_ssh_docker_place(own_engine_host)


def make_target(place: Place, ttl_s: int = 60, **changes: Any) -> SshDockerTarget:
    return SshDockerTarget("lab", ssh_spec(*place.arguments[2:], **changes), ttl_s=ttl_s)


def is_lost(service: Service) -> bool:
    """Raises what the poll raises."""
    return service.poll() is not None


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_host_that_goes_before_the_deployment(
    own: Place, own_engine_host: EngineHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PT-04: what is raised tells the pool that it is the host's fault."""
    target = make_target(own)
    target.deploy(own.deployment(tmp_path)).stop(0.0)
    with target.lease("one", 5), own_engine_host.lab.broken(how):
        hurry(monkeypatch)
        with noticed(), pytest.raises(HOST_GONE):
            target.deploy(own.deployment(tmp_path))


@pytest.mark.parametrize("how", [how for how in BREAKAGES if how != "black hole"])  # of its own, below
def test_a_host_that_goes_during_a_cell(
    own: Place, own_engine_host: EngineHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PT-04: the poll says it by itself within 15 s, and the clean-up that cannot be done adds little."""
    target = make_target(own, traffic=Traffic.FORWARDED)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        with own_engine_host.lab.broken(how):
            hurry(monkeypatch)
            with noticed(), pytest.raises(ConnectionLost, match="is lost from sight"):
                wait_for(lambda: is_lost(service))
            assert service.ending() == "is lost from sight"
            with noticed(CLEAN_UP_S), pytest.raises(ConnectionLost):
                service.stop(GRACE_S)
            assert "could not be stopped" in service.stop(GRACE_S), "only once"
            assert (tmp_path / "service.log").read_text() == "up\n", "what it had said is here"
            if how not in SILENT:
                with pytest.raises(ConnectionLost):
                    service.peak_resident_bytes()
                assert set(target.facts()) >= {"name", "address"}, "what is known without the host"


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_host_that_goes_in_the_stop(
    own: Place, own_engine_host: EngineHost, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path, "deaf"))
        wait_for(lambda: answer(service.base_url))
        with own_engine_host.lab.broken(how):
            hurry(monkeypatch)
            with noticed(), pytest.raises(ConnectionLost):
                service.stop(GRACE_S)


def test_a_host_that_is_cut_off(own: Place, own_engine_host: EngineHost, tmp_path: Path) -> None:
    """PT-04: packets that vanish, and a cell that hears of it; what runs there is ended when the host is back."""
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        with own_engine_host.lab.firewall("DROP"):
            with noticed(), pytest.raises(ConnectionLost, match="is lost from sight"):
                wait_for(lambda: is_lost(service))
            with noticed(CLEAN_UP_S), pytest.raises(ConnectionLost):
                service.stop(GRACE_S)
        assert own_engine_host.containers()
    assert own_engine_host.containers() == [], "giving the lease back looks once more"


def test_sshd_is_restarted(own: Place, own_engine_host: EngineHost, tmp_path: Path) -> None:
    """The cell is lost, the host is not: its container is ended over a new connection, and the next cell runs."""
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        own_engine_host.lab.cut_sessions()
        with noticed(), pytest.raises(ConnectionLost):
            wait_for(lambda: is_lost(service))
        wait_for(lambda: answers(own_engine_host.lab.address))
        assert service.stop(GRACE_S) == "killed"
        assert own_engine_host.containers() == []
        again = target.deploy(own.deployment(tmp_path))
        assert wait_for(lambda: answer(again.base_url)) == "run001-serve"
        assert again.stop(20.0) == "ended"


def test_the_lease_is_lost(own: Place, own_engine_host: EngineHost, tmp_path: Path) -> None:
    """What was measured since may have been disturbed."""
    target = make_target(own, ttl_s=8)  # seen within a quarter of it
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        own_engine_host.lab.sh(f"sed -i 1s/.*/another/ {target.host.root}/lease/held")
        with noticed(), pytest.raises(LeaseLost, match="the lease of the host was lost"):
            wait_for(lambda: is_lost(service))
        with pytest.raises(LeaseLost):
            target.deploy(own.deployment(tmp_path))
        service.stop(0.0)


def test_the_engine_stops_on_the_host(own: Place, own_engine_host: EngineHost, tmp_path: Path) -> None:
    """SM-05: not the host's end. The message names the host, and how to start its engine there."""
    target = make_target(own)
    with target.lease("one", 5):
        service = target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        own_engine_host.kill_engine()
        with noticed(), pytest.raises(EngineLost):
            wait_for(lambda: is_lost(service))
        with pytest.raises(EngineLost):
            service.stop(GRACE_S)
    advice = r"^lab \(root@\S+\): no Docker engine answers on the host: .*Start it there \(sudo systemctl start"
    with pytest.raises(EngineMissing, match=advice):
        target.require_ready()
    with pytest.raises((EngineLost, EngineMissing), match=advice), target.lease("two", 5):
        pytest.fail("nobody knows what runs there")
    own_engine_host.start_engine()
    with target.lease("three", 5):
        assert own_engine_host.containers() == []


def breaking(monkeypatch: pytest.MonkeyPatch, half_way: Callable[[], None]) -> None:
    """What is sent does this in its middle."""
    saved = image_shipping._saved

    def send(source: engines.Engine, image_id: str) -> Iterator[bytes]:
        whole = b"".join(saved(source, image_id))
        yield whole[: len(whole) // 2]
        half_way()
        yield whole[len(whole) // 2 :]

    monkeypatch.setattr(image_shipping, "_saved", send)


def test_an_image_that_arrives_half(
    own: Place, own_engine_host: EngineHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SM-07: the connection breaks in its middle, or the engine here does: no such image is there, nor is it used."""
    target = make_target(own)

    def lose_source() -> None:
        raise EngineLost("the engine here was lost")

    def lose_connection() -> None:
        own_engine_host.lab.cut_sessions()
        wait_for(lambda: not target.host.connection.is_connected)

    for half_way, error in ((lose_source, EngineLost), (lose_connection, ConnectionLost)):
        with monkeypatch.context() as patch:
            breaking(patch, half_way)
            with pytest.raises(error):
                target.deploy(own.deployment(tmp_path))
        wait_for(lambda: answers(own_engine_host.lab.address))
        wait_for(lambda: not own_engine_host.lab.processes("docker load"))
        assert own_engine_host.image_ids() == []
        assert own_engine_host.containers() == []
    service = target.deploy(own.deployment(tmp_path))
    assert wait_for(lambda: answer(service.base_url)) == "run001-serve"
    service.stop(0.0)


def test_an_image_that_takes_too_long(own: Place, own_engine_host: EngineHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline ends it on both sides."""
    target, over = make_target(own), threading.Event()
    breaking(monkeypatch, lambda: over.wait(20) and None)
    with noticed(), pytest.raises(RemoteFailed, match=r"loading the image probe:latest was not done after \d\.\d s"):
        ship_image(own.image, engines.Engine(), target.host, target._engine, deadline_s=1.0)
    over.set()
    assert own_engine_host.lab.processes("docker load") == []
    assert own_engine_host.image_ids() == []


def test_no_space_for_an_image(
    own: Place, own_engine_host: EngineHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own words, and no half image."""
    own_engine_host.lab.sh("rm -rf /var/lib/docker/tmp && mkdir -p /dev/shm/t && ln -s /dev/shm/t /var/lib/docker/tmp")
    own_engine_host.lab.sh("head -c 1G /dev/zero >/dev/shm/full 2>/dev/null; true")
    with pytest.raises(RemoteFailed, match=r"loading the image probe:latest .*no space left on device"):
        make_target(own).deploy(own.deployment(tmp_path))
    assert own_engine_host.image_ids() == []
