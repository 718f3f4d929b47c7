"""The cache of built artifacts: found again when nothing changed, whole or not there, and built once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workspaces import make_version, wait_for

from pytest_staging import durable, store
from pytest_staging.images.artifact import ArtifactBuilder
from pytest_staging.images.cache import BuiltImage, ImageCache
from pytest_staging.model.errors import BuildFailed, LeaseTimeout, StorageError
from pytest_staging.store import Workspace
from pytest_staging.targets.local import LocalTarget

COPY = ["cp", "service.py", "{artifact}/service.py"]
# Counts its builds outside the workspace, and says when it began.
COUNTING = ["sh", "-c", "echo built >> $COUNT; cp service.py {artifact}/"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    make_version(root, "baseline", "baseline")
    return root


def cache_of(root: Path) -> ImageCache:
    versions = Workspace(root).versions_folder
    return ImageCache(versions, ArtifactBuilder(versions, LocalTarget()))


def ensure(root: Path, mode: str = "native", force: bool = False, slug: str = "baseline") -> BuiltImage:
    version = store.load_version(Workspace(root), slug)
    return cache_of(root).ensure(version, mode, root / "build.log", force)


def path_of(built: BuiltImage) -> Path:
    assert built.image.path
    return built.image.path


def files(built: BuiltImage) -> list[str]:
    return sorted(path.name for path in path_of(built).iterdir())


def images(root: Path) -> list[str]:
    """The built files of baseline, and what a build may have left half made."""
    folder = root / "versions" / "baseline" / "images"
    beside = (".lock", ".names", ".index")
    return sorted(path.name for path in folder.iterdir() if path.name != "manifest.json" and path.suffix not in beside)


def test_miss_then_hit(root: Path) -> None:
    """SM-05: built once, then found; the snapshot is not touched, and nothing but the artifact is kept."""
    before = durable.fingerprint_tree(root / "versions" / "baseline" / "snapshot")
    first = ensure(root)
    assert (first.hit, first.reason) == (False, "never built")
    assert files(first) == ["service.py"]
    second = ensure(root)
    assert (second.hit, second.reason) == (True, "fingerprints match")
    assert (second.image, second.fingerprint) == (first.image, first.fingerprint)
    assert images(root) == [path_of(first).name]
    assert durable.fingerprint_tree(root / "versions" / "baseline" / "snapshot") == before


def test_modes_are_apart(root: Path) -> None:
    """SM-05: one mode's artifact is not another's, also where one name begins like the other."""
    native, jvm = ensure(root, "native"), ensure(root, "jvm")
    assert native.fingerprint != jvm.fingerprint
    assert jvm.reason == "never built"


def test_a_mode_that_begins_like_another(root: Path) -> None:
    path = root / "versions" / "baseline" / "snapshot" / "service.yaml"
    data = json.loads(path.read_text())
    data["modes"]["jvm-graal"] = data["modes"]["jvm"]
    path.write_text(json.dumps(data))
    ensure(root, "jvm-graal")
    assert ensure(root, "jvm").reason == "never built"


@pytest.mark.parametrize("change", ["source", "command", "compiler"])
def test_changed_inputs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """SM-05: another source, command or compiler is a miss that says so; put back, the earlier one is found again."""
    tools = tmp_path / "tools"
    tools.mkdir()
    compiler = tools / "mycc"
    shutil.copy(shutil.which("cp") or "/bin/cp", compiler)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    make_version(root, "baseline", "baseline", build=[["mycc", *COPY[1:]]])
    source = root / "versions" / "baseline" / "snapshot" / "service.py"
    facts = compiler.stat()
    first = ensure(root)
    original = source.read_text()
    if change == "source":
        source.write_text(original + "# more\n")
    elif change == "command":
        make_version(root, "baseline", "baseline", build=[["mycc", "-f", *COPY[1:]]])
    else:
        os.utime(compiler, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    second = ensure(root)
    reason = {"source": "snapshot", "command": "snapshot, build commands", "compiler": "mycc"}[change]
    assert (second.hit, second.reason) == (False, f"changed: {reason}")
    assert second.image.ref != first.image.ref
    if change == "compiler":
        os.utime(compiler, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        make_version(root, "baseline", "baseline", build=[["mycc", *COPY[1:]]])
    assert ensure(root) == BuiltImage(first.image, first.fingerprint, True, "fingerprints match", 0.0)


def test_forced(root: Path) -> None:
    """SM-05: --force-rebuild-images builds although the cache matches, under the same name."""
    first = ensure(root)
    (path_of(first) / "stale").write_text("")
    second = ensure(root, force=True)
    assert (second.hit, second.reason, second.image) == (False, "forced", first.image)
    assert files(second) == ["service.py"]
    assert images(root) == [path_of(first).name]


BAD_BUILDS: dict[str, tuple[list[list[str]], dict[str, Any], str]] = {
    "status": ([["sh", "-c", "echo half > {artifact}/half; echo why it failed; exit 3"]], {}, "sh ended with status 3"),
    "second": ([COPY, ["false"]], {}, "false ended with status 1"),
    "killed": ([["sh", "-c", "kill -9 $$"]], {}, "sh ended with status -9"),
    "missing": ([["no-such-compiler"]], {}, "no-such-compiler is not installed. Install it, or put it on PATH"),
    "no program": ([["./service.py"]], {}, "./service.py cannot be run: Permission denied"),
    "deadline": ([["sleep", "300"]], {"build_timeout_s": 0.2}, "did not end in 0.2 s"),
}


@pytest.mark.parametrize("name", BAD_BUILDS)
def test_a_failed_build_leaves_nothing(root: Path, name: str) -> None:
    """SM-05: no artifact, no temporary folder; the error names version, mode, command and log."""
    build, more, message = BAD_BUILDS[name]
    make_version(root, "baseline", "baseline", build=build, **more)
    with pytest.raises(BuildFailed) as caught:
        ensure(root)
    assert caught.value.reason.startswith("build of baseline in mode native")
    assert message in caught.value.reason
    assert images(root) == []
    if name == "status":
        assert caught.value.log_tail == "why it failed"
        assert str(root / "build.log") in caught.value.reason


def test_a_failed_rebuild_keeps_the_artifact(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced build that fails must not take away what other cells may be running from."""
    monkeypatch.setenv("SWITCH", str(tmp_path / "fail"))
    make_version(root, "baseline", "baseline", build=[["sh", "-c", "test ! -e $SWITCH && cp service.py {artifact}/"]])
    first = ensure(root)
    (tmp_path / "fail").write_text("")
    with pytest.raises(BuildFailed):
        ensure(root, force=True)
    assert files(first) == ["service.py"]
    assert ensure(root).hit


def test_a_snapshot_that_changes_while_it_is_built(root: Path) -> None:
    """What is built must be what the fingerprint says, or a wrong artifact would be found for ever."""
    workspace = Workspace(root)
    version = store.load_version(workspace, "baseline")
    (workspace.snapshot("baseline") / "late.py").write_text("")
    with pytest.raises(BuildFailed, match="the snapshot of baseline was changed while it was read"):
        cache_of(root).ensure(version, "native", root / "build.log")
    assert images(root) == []


ENSURE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_images import ensure
print("begun", flush=True)
print(ensure(Path(sys.argv[1])).hit, flush=True)
"""


def ensuring(root: Path) -> subprocess.Popen[str]:
    """`ensure` in a process of its own."""
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent)])}
    command = [sys.executable, "-c", ENSURE, str(root), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_several_processes_build_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: parallel workers build an image once; the others wait and find it."""
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    wait = "echo in > $COUNT.in; while test ! -e $COUNT.go; do sleep 0.01; done; "
    make_version(root, "baseline", "baseline", build=[[*COUNTING[:2], wait + COUNTING[2]]])
    processes = [ensuring(root) for _ in range(3)]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["begun\n"] * 3
    wait_for(lambda: (tmp_path / "count.in").exists())
    (tmp_path / "count.go").write_text("")
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert answers == ["False", "True", "True"]
    assert (tmp_path / "count").read_text() == "built\n"


def test_killed_while_building(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05, XP-03: after SIGKILL there is no artifact, and the next build works at once."""
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    build = "cp service.py {artifact}/; echo begun >> $COUNT; test -e $COUNT.go || sleep 300"
    make_version(root, "baseline", "baseline", build=[["sh", "-c", build]])
    with ensuring(root) as process:
        wait_for(lambda: (tmp_path / "count").exists())
        process.send_signal(signal.SIGKILL)
    assert [name for name in images(root) if not name.startswith(".")] == []
    (tmp_path / "count.go").write_text("")
    with LocalTarget().lease("the next campaign", 20):  # which ends what the dead one left running
        made = ensure(root)
    assert (made.hit, made.reason) == (False, "never built")
    assert files(made) == ["service.py"]


def test_what_a_killed_build_left_is_swept(root: Path) -> None:
    """XP-03: by the next build of the same thing, and by no other, which may be going on."""
    built = path_of(ensure(root))
    ours, theirs = (built.parent / f".{name}.abcd1234.tmp" for name in (built.name, "baseline-jvm-000000000000"))
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "half").write_text("")
    ensure(root, force=True)
    assert not ours.exists()
    assert theirs.exists()


def test_somebody_builds_for_too_long(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has a deadline, and the message names what is waited for."""
    from filelock import FileLock

    make_version(root, "baseline", "baseline", build=[COPY], build_timeout_s=0.05)
    monkeypatch.setattr("pytest_staging.images.cache.LOCK_MARGIN_S", 0.05)
    folder = root / "versions" / "baseline" / "images"
    folder.mkdir()
    with (
        FileLock(str(folder / ".native.artifact.lock")),
        pytest.raises(LeaseTimeout, match=r"baseline in mode native is being built elsewhere for over 0\.1 s"),
    ):
        ensure(root)


def test_a_folder_that_cannot_be_made(root: Path) -> None:
    (root / "versions" / "baseline" / "images").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*images"):
        ensure(root)


def test_a_build_without_commands(root: Path) -> None:
    """A mode that needs no build has an empty artifact to start from."""
    make_version(root, "baseline", "baseline", build=[])
    assert files(ensure(root)) == []
