"""Builds that fail, take too long, or lose their engine or their disk: a clear error, and nothing half made."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dockering import Engine
from image_workspaces import DEADLINE_S, FAILING, PLAIN, SLEEPING, ImageWorkspace
from private_engine import PrivateEngine, private_engine
from workspaces import give_up

from pytest_staging import durable, store
from pytest_staging.images.cache import BuiltImage
from pytest_staging.model.errors import BuildFailed, EngineLost, EngineRefused, StorageError
from pytest_staging.store import Workspace

TALKING = 'FROM scratch\nCOPY waiter /waiter\nRUN ["/waiter", "{token}", "and talk"]\n'


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at `folder`; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        give_up(f"this test mounts a small file system, and may not: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=10, check=True)


def on_private_engine(engine: Engine, private: PrivateEngine, root: Path) -> ImageWorkspace:
    """A workspace whose engine goes away after the test, and its images with it."""
    return ImageWorkspace(root, Engine(engine.version, {**engine.environment, "DOCKER_HOST": private.address}))


def test_a_step_that_fails(place: ImageWorkspace) -> None:
    """SM-05: the engine's words, the log's path and its last lines; no entry, no container, the earlier entry stays."""
    place.write()
    first = place.ensure()
    (entry,) = place.entries()
    place.write(FAILING)
    with pytest.raises(BuildFailed) as caught:
        place.ensure()
    log = place.root / "build.log"
    assert str(caught.value) == (
        "build of baseline in mode native: the engine says: "
        f"The command '/waiter' returned a non-zero code: 3; see {log}"
    )
    assert "why it failed" in caught.value.log_tail
    assert "why it failed" in log.read_text()
    assert place.containers() == []
    assert place.entries() == [entry]
    place.write()
    (place.snapshot() / "waiter").unlink()
    assert place.ensure() == BuiltImage(first.image, first.fingerprint, True, "fingerprints match", 0.0)


def test_a_failing_command_shows_the_last_lines(place: ImageWorkspace) -> None:
    """SM-05: build-images ends with exit code 1, the log's path and the last lines of the log."""
    place.write(FAILING)
    done = place.build()
    assert (done.returncode, done.stdout) == (1, "")
    first, *tail = done.stderr.splitlines()
    log = place.images() / "native.log"
    assert first.startswith("staging-manager: build of baseline in mode native: the engine says: ")
    assert first.endswith(f"; see {log}")
    assert any("why it failed" in line for line in tail)
    assert len(tail) <= 20
    live = place.build("--live")
    assert live.stderr.count("why it failed") == 1, "what was shown live is not shown again"


def test_a_base_that_is_not_there(place: ImageWorkspace) -> None:
    """SM-05: the engine would fetch it, and says that it cannot."""
    place.write("FROM 127.0.0.1:1/no-such-image:1\nCOPY data /data\n")
    with pytest.raises(BuildFailed, match=r"the engine says: .*127\.0\.0\.1:1"):
        place.ensure()
    assert place.entries() == []


@pytest.mark.parametrize("talking", [False, True], ids=["silent", "talking"])
def test_a_build_that_takes_too_long(place: ImageWorkspace, talking: bool) -> None:
    """SM-05: the deadline is one for the whole build, whatever it prints, and the engine gives it up at once.

    It does so also while somebody keeps the exception, as pytest and a campaign's report do.
    """
    place.write(TALKING if talking else SLEEPING, build_timeout_s=2.0)
    started = time.monotonic()
    with pytest.raises(BuildFailed, match=r"build of baseline in mode native did not end in 2 s; see ") as caught:
        place.ensure()
    took_s = time.monotonic() - started
    place.await_quiet()
    assert caught.value.__traceback__
    assert 2.0 <= took_s < DEADLINE_S  # with a timeout between two lines alone, one that talks would never end
    assert place.processes() == []
    assert place.entries() == []


def test_a_build_that_is_interrupted(place: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: the engine gives up at once, also while somebody keeps the exception."""
    place.write(TALKING)

    def interrupt(data: bytes) -> None:
        if b"begun" in data:
            raise KeyboardInterrupt

    version = store.load_version(Workspace(place.root), "baseline")
    with pytest.raises(KeyboardInterrupt) as caught:
        place.cache().ensure(version, "native", place.root / "build.log", echo=interrupt)
    place.await_quiet()
    assert caught.value.__traceback__
    assert place.entries() == []


def test_an_engine_that_dies(engine: Engine, tmp_path: Path) -> None:
    """SM-05: killed in the middle of a build: the error says so and how to start it again, and there is no entry."""
    with ExitStack() as stack:
        private = stack.enter_context(private_engine(sys.executable))
        place = on_private_engine(engine, private, tmp_path)
        stack.callback(place.kill_processes)  # they outlive an engine that was killed
        place.write(SLEEPING)
        killer = threading.Thread(target=lambda: (place.await_build(), private.kill()))
        killer.start()
        with pytest.raises(EngineLost) as caught:
            place.ensure()
        killer.join()
        assert f"the Docker engine at {private.address} was lost" in str(caught.value)
        assert "Start it (sudo systemctl start docker)" in str(caught.value)
        assert place.entries() == []
        done = place.build(DOCKER_HOST=private.address)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"staging-manager: no Docker engine answers at {private.address}: ")
        assert done.stderr.endswith("Start it (sudo systemctl start docker), or name another with DOCKER_HOST.\n")
        assert place.entries() == []


def test_an_engine_that_stops_telling(place: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: a build whose end nobody saw is none, though an earlier image has its name."""
    place.write()
    place.ensure()
    before = place.entries()
    told = [{"stream": "Step 1/2 : FROM scratch\n"}]
    monkeypatch.setattr("docker.api.client.APIClient.build", lambda *_, **__: iter(told))
    with pytest.raises(EngineLost, match=r"the engine stopped telling before the end. Run again"):
        place.ensure(force=True)
    assert place.entries() == before


def test_the_engines_disk_is_full(engine: Engine, tmp_path: Path) -> None:
    """SM-05: the engine's own words; no entry, and with room again it works."""
    with private_engine(sys.executable) as private, ExitStack() as stack:
        private.stop()
        stack.enter_context(small_disk(private.folder / "data", "size=8m"))
        private.start()
        stack.callback(private.stop)
        place = on_private_engine(engine, private, tmp_path)
        place.write(files={"data": "x" * (16 << 20)})
        with pytest.raises(EngineRefused, match=r"build of baseline in mode native\): .*no space left on device"):
            place.ensure()
        assert place.entries() == []
        (place.snapshot() / "data").write_text("little")
        assert place.ensure().reason == "never built"


def test_the_workspaces_disk_is_full(place: ImageWorkspace) -> None:
    """SM-05: what cannot be written down does not count as built, and nothing half written stays."""
    place.root.mkdir()
    with small_disk(place.root, "size=200k"):
        place.write(PLAIN)
        place.images().mkdir()
        (place.root / "filler").write_bytes(b"x" * 100_000)
        with (place.root / "filler").open("ab", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(b"x" * 512)
        with pytest.raises(StorageError, match="The disk is full: free some space and run again"):
            place.ensure()
        done = place.build()
        assert done.returncode == 1
        assert "The disk is full" in done.stderr
        assert place.entries() == []
        assert [path.name for path in place.images().iterdir() if path.suffix == ".tmp"] == []
        (place.root / "filler").unlink()
        assert place.ensure().reason == "never built"
        assert place.ensure().hit


def test_no_room_to_pack_the_snapshot(place: ImageWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: it is this machine's disk, and not the engine, that is named; nothing of the archive stays."""
    place.write(files={"data": "x" * (3 << 20)})
    small = tmp_path / "small"
    with small_disk(small, "size=1m"):
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        with pytest.raises(StorageError) as caught:
            place.ensure()
        assert str(caught.value) == (
            f"cannot pack {place.snapshot()} into a file in {small} for the build of baseline in mode native: "
            "No space left on device. The disk is full: free some space and run again."
        )
        done = place.build(TMPDIR=str(small))
        assert done.returncode == 1
        assert done.stderr.startswith(f"staging-manager: cannot pack {place.snapshot()} into a file in {small} ")
        assert list(small.iterdir()) == []
        assert place.entries() == []
    monkeypatch.undo()


def test_a_file_that_goes_away_while_it_is_packed(place: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: the error names the file."""
    place.write()
    gone = OSError("Can not read file in context: it")
    gone.__cause__ = FileNotFoundError(2, "No such file or directory", str(place.snapshot() / "data"))

    def refuse(*_: object, **__: object) -> None:
        raise gone

    monkeypatch.setattr("docker.utils.build.tar", refuse)
    with pytest.raises(StorageError, match=f"cannot pack {place.snapshot()}/data into a file in .*: No such file or"):
        place.ensure()


def test_a_rule_that_the_sdk_cannot_read(place: ImageWorkspace) -> None:
    """SM-05: one clear error that names the file."""
    place.write(files={".dockerignore": "[z-a]\n"})
    with pytest.raises(
        BuildFailed, match=r"in mode native: .*/\.dockerignore has a pattern that the Docker SDK cannot"
    ):
        place.ensure()
    assert place.entries() == []


def test_the_manifest_cannot_be_written(place: ImageWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: a disk that fills up during the build leaves the manifest as it was."""

    def refuse(what: str, path: Path) -> None:
        if path.name == "manifest.json" and what == "written":
            raise OSError(28, "No space left on device")

    place.write()
    place.ensure()
    before = place.entries()
    (place.snapshot() / "data").write_text("other")
    monkeypatch.setattr(durable, "on_step", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*manifest.json: No space left on device. The disk is full"):
        place.ensure()
    monkeypatch.undo()
    assert place.entries() == before
    assert [path.name for path in place.images().iterdir() if path.suffix == ".tmp"] == []
    assert place.ensure().reason == "changed: snapshot"
