"""Container images by the docker client with BuildKit, where a client on this machine has it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from image_workspaces import FAILING, PLAIN, SLEEPING, ImageWorkspace
from workspaces import give_up

from pytest_staging import store, wiring
from pytest_staging.images import buildkit
from pytest_staging.images.buildkit import BuildKitBuilder, wants_buildkit
from pytest_staging.images.cache import BuiltImage, ImageCache
from pytest_staging.model.errors import BuildFailed, EngineMissing
from pytest_staging.store import Workspace

BUILT_IN_UNTIL = 23  # later clients need a plugin for it
CLIENTS = ("/usr/bin/docker", "/usr/local/bin/docker")


def client_with_buildkit() -> str:
    """Skips when there is none. Fails where the lab is promised: Debian 12's docker.io has one."""
    seen = []
    for client in CLIENTS:
        if not os.access(client, os.X_OK):
            continue
        version = subprocess.run([client, "--version"], capture_output=True, text=True, timeout=20).stdout
        major = int((re.search(r"version (\d+)", version) or [0, 0])[1])
        plugin = subprocess.run([client, "buildx", "version"], capture_output=True, timeout=20)
        if major < BUILT_IN_UNTIL or plugin.returncode == 0:
            return client
        seen.append(f"{client} ({version.strip()})")
    return give_up(f"no docker client with BuildKit: {', '.join(seen) or 'none at all'}")


@pytest.fixture
def kit(place: ImageWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageWorkspace:
    """The workspace, with a client that has BuildKit first in PATH."""
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "docker").symlink_to(client_with_buildkit())
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    return place


def ensure(place: ImageWorkspace, force: bool = False) -> BuiltImage:
    workspace = Workspace(place.root)
    cache = wiring.make_images(workspace, "docker")
    return cache.ensure(store.load_version(workspace, "baseline"), "native", place.root / "build.log", force)


def test_built_and_found_again(kit: ImageWorkspace) -> None:
    """SM-05: the engine's own inspect has the id; the second time no build is started; a forced one is fresh."""
    kit.write()
    first = ensure(kit)
    log = (kit.root / "build.log").read_text()
    assert "exporting to image" in log
    (entry,) = kit.entries()
    assert (entry["builder"], entry["image_id"]) == ("buildkit", kit.engine.inspect("image", entry["image_ref"])["Id"])
    again = ensure(kit)
    assert (again.hit, again.image) == (True, first.image)
    assert (kit.root / "build.log").read_text() == log
    assert ensure(kit, force=True).reason == "forced"
    assert "CACHED" not in (kit.root / "build.log").read_text()


def test_builders_are_apart(kit: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: what one builder made is not what the other would make."""
    kit.write()
    ensure(kit)
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    assert ensure(kit).reason == "never built"
    assert sorted(entry["builder"] for entry in kit.entries()) == ["buildkit", "docker"]
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    assert ensure(kit).hit


def test_exclusions_of_one_dockerfile(kit: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: BuildKit takes <Dockerfile>.dockerignore and no other; the classic builder does not know it."""
    kit.write(files={".dockerignore": "common\n", "Dockerfile.dockerignore": "own\n", "common": "", "own": ""})
    ensure(kit)
    (kit.snapshot() / "own").write_text("changed")
    assert ensure(kit).hit
    (kit.snapshot() / "common").write_text("changed")
    assert ensure(kit).reason == "changed: snapshot"
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    ensure(kit)
    (kit.snapshot() / "common").write_text("changed again")
    assert ensure(kit).hit
    (kit.snapshot() / "own").write_text("changed again")
    assert ensure(kit).reason == "changed: snapshot"


def test_failing(kit: ImageWorkspace) -> None:
    """SM-05: the last lines and the log's path, and no entry."""
    kit.write(FAILING)
    with pytest.raises(
        BuildFailed, match=r"build of baseline in mode native: docker ended with status 1; see "
    ) as caught:
        ensure(kit)
    assert "why it failed" in (kit.root / "build.log").read_text()
    assert "exit code: 3" in caught.value.log_tail
    assert kit.entries() == []


def test_too_long(kit: ImageWorkspace) -> None:
    """SM-05: the client is killed at the deadline, and the engine gives up."""
    kit.write(SLEEPING, build_timeout_s=2.0)
    with pytest.raises(BuildFailed, match=r"did not end in 2 s; see "):
        ensure(kit)
    kit.await_quiet()
    assert kit.entries() == []


def test_the_printed_command_is_the_one(kit: ImageWorkspace) -> None:
    """SM-05: a dry run's line, run by a shell anywhere, makes the image that the build then makes."""
    kit.write("FROM scratch\nARG COLOUR\nCOPY data /data\n", image={"arguments": {"COLOUR": "it's red & blue"}})
    note, line = kit.build("--dry-run", cwd=Path("/")).stdout.splitlines()
    assert note == "# baseline native: miss (never built), would run"
    assert "DOCKER_BUILDKIT=1" in line
    subprocess.run(["sh", "-c", line], cwd="/", check=True, capture_output=True, timeout=60)
    name = shlex.split(line.strip("()"))[shlex.split(line.strip("()")).index("--tag") + 1]
    by_hand = kit.engine.inspect("image", name)["Id"]
    assert ensure(kit).image.ref == name
    assert kit.engine.inspect("image", name)["Id"] == by_hand, "BuildKit takes all steps from its cache"


def test_no_client(place: ImageWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: BuildKit is the docker client's; without one the error says what to do instead."""
    place.write(PLAIN)
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"BuildKit needs the docker client. Install it, or set DOCKER_BUILDKIT=0"):
        ensure(place)


def make_plugin(folder: Path, mode: int) -> Path:
    path = folder / "cli-plugins" / "docker-buildx"
    path.parent.mkdir(parents=True)
    path.write_text("")
    path.chmod(mode)
    return folder


WANTED: dict[str, tuple[Callable[[Path], dict[str, str]], bool]] = {
    "1": (lambda folder: {"DOCKER_BUILDKIT": "1"}, True),
    "true": (lambda folder: {"DOCKER_BUILDKIT": "true"}, True),
    "0": (lambda folder: {"DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(make_plugin(folder, 0o755))}, False),
    "FALSE": (lambda folder: {"DOCKER_BUILDKIT": "FALSE", "DOCKER_CONFIG": str(make_plugin(folder, 0o755))}, False),
    "f": (lambda folder: {"DOCKER_BUILDKIT": "f"}, False),
    "nothing": (lambda folder: {"DOCKER_CONFIG": str(folder)}, False),
    "empty": (lambda folder: {"DOCKER_BUILDKIT": "", "DOCKER_CONFIG": str(folder)}, False),
    "plugin": (lambda folder: {"DOCKER_CONFIG": str(make_plugin(folder, 0o755))}, True),
    "empty, plugin": (lambda folder: {"DOCKER_BUILDKIT": "", "DOCKER_CONFIG": str(make_plugin(folder, 0o755))}, True),
    "plugin that cannot run": (lambda folder: {"DOCKER_CONFIG": str(make_plugin(folder, 0o644))}, False),
}


@pytest.mark.parametrize("name", WANTED)
def test_when_it_is_wanted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: as the docker client decides."""
    (tmp_path / "docker").write_text("")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(buildkit, "PLUGIN_FOLDERS", ())
    environment, wanted = WANTED[name]
    assert wants_buildkit(environment(tmp_path / "config")) is wanted


def test_a_plugin_without_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: the classic builder needs no client, so it is taken then."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert wants_buildkit({"DOCKER_CONFIG": str(make_plugin(tmp_path, 0o755))}) is False


@pytest.mark.parametrize(("switch", "name"), [("1", "buildkit"), ("0", "docker")])
def test_the_choice(switch: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: the builder stands in the manifest by its name."""
    monkeypatch.setenv("DOCKER_BUILDKIT", switch)
    cache: ImageCache = wiring.make_images(Workspace(tmp_path), "docker")
    assert cache.builder.name == name
    assert isinstance(cache.builder, BuildKitBuilder) is (name == "buildkit")
