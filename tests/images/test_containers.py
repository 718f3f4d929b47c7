"""Container images by the engine's classic builder: when the cache hits, and why it misses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from image_workspaces import PLAIN, ImageWorkspace

from pytest_staging import store
from pytest_staging.model.errors import BuildFailed, WorkspaceError
from pytest_staging.store import Workspace

WITH_ARGUMENT = "FROM scratch\nARG COLOUR=red\nCOPY data /data\nLABEL colour=$COLOUR\n"


def build_log(place: ImageWorkspace) -> str:
    return (place.root / "build.log").read_text()


def make_base(place: ImageWorkspace, folder: Path, content: str) -> str:
    """A base image under this test's own name; returns the name."""
    folder.mkdir(exist_ok=True)
    (folder / "base").write_text(content)
    (folder / "Dockerfile").write_text(f"FROM scratch\nLABEL {place.label}\nCOPY base /base\n")
    name = f"staging-test-{place.token}:1"
    place.engine("build", "--quiet", "--tag", name, str(folder))
    return name


def test_what_the_manifest_says(place: ImageWorkspace) -> None:
    """SM-05: name and id as the engine's own inspect has them, both fingerprints, and when it was built."""
    place.write()
    built = place.ensure()
    assert (built.hit, built.reason) == (False, "never built")
    (entry,) = place.entries()
    known = place.engine.inspect("image", entry["image_ref"])
    assert entry["image_id"] == known["Id"] == built.image.id
    assert entry["size_bytes"] == known["Size"]
    assert known["Config"]["Labels"]["pytest-staging.version"] == "baseline"
    assert known["Config"]["Labels"]["pytest-staging.mode"] == "native"
    assert re.fullmatch(r"[0-9a-f]{64}", entry["snapshot_fingerprint"])
    assert re.fullmatch(r"[0-9a-f]{64}", entry["build_fingerprint"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["built_at"])
    assert set(entry["inputs"]) == {"mode", "builder", "platform", "Dockerfile", "build arguments"}
    assert "Successfully built" in build_log(place)


def test_found_again(place: ImageWorkspace) -> None:
    """SM-05: the second time no build is started, not even one that the engine's own cache would answer."""
    place.write()
    first = place.ensure()
    before = build_log(place)
    second = place.ensure()
    assert (second.hit, second.reason, second.image) == (True, "fingerprints match", first.image)
    assert build_log(place) == before, "the log of the build is kept"


def remove(place: ImageWorkspace) -> None:
    place.engine("image", "rm", place.entries()[0]["image_ref"])


def move(place: ImageWorkspace) -> None:
    other = place.root / "other"
    make_base(place, other, "another")
    place.engine("tag", f"staging-test-{place.token}:1", place.entries()[0]["image_ref"])


def change_argument(place: ImageWorkspace) -> None:
    place.write(WITH_ARGUMENT, image={"arguments": {"COLOUR": "blue"}})


CHANGES: dict[str, tuple[Callable[[ImageWorkspace], object], str]] = {
    "removed behind our back": (remove, r"pytest-staging:baseline-native-\w{12} is gone"),
    "name moved": (move, r"pytest-staging:baseline-native-\w{12} is not what was built"),
    "build argument": (change_argument, "changed: snapshot, build arguments"),
    "Dockerfile": (lambda place: place.write_dockerfile(f"{WITH_ARGUMENT}ENV A=b\n"), "changed: snapshot, Dockerfile"),
    "file": (lambda place: (place.snapshot() / "data").write_text("other"), "changed: snapshot"),
    "file more": (lambda place: (place.snapshot() / "more").write_text(""), "changed: snapshot"),
    "executable": (lambda place: (place.snapshot() / "data").chmod(0o755), "changed: snapshot"),
}


def test_misses(place: ImageWorkspace) -> None:
    """SM-05: each miss names its reason, and what is built then is found again. One change after the other."""
    place.write(WITH_ARGUMENT, image={"arguments": {"COLOUR": "green"}})
    place.ensure()
    for name, (change, reason) in CHANGES.items():
        change(place)
        again = place.ensure()
        assert not again.hit, name
        assert re.fullmatch(reason, again.reason), name
        assert place.entries()[0]["image_id"] == place.engine.inspect("image", again.image.ref)["Id"], name
        assert place.ensure().hit, name


def test_an_argument_reaches_the_build(place: ImageWorkspace) -> None:
    """SM-05: what is fingerprinted is what was built with."""
    place.write(WITH_ARGUMENT, image={"arguments": {"COLOUR": "green"}})
    assert place.engine.inspect("image", place.ensure().image.ref)["Config"]["Labels"]["colour"] == "green"


def test_a_base_image_that_became_another(place: ImageWorkspace, tmp_path: Path) -> None:
    """SM-05: the same Dockerfile on another base is another image; back on the first one it is found again."""
    base = make_base(place, tmp_path / "base", "one")
    old = place.engine.inspect("image", base)["Id"]
    place.write(f"FROM {base}\nCOPY data /data\n")
    first = place.ensure()
    make_base(place, tmp_path / "base", "two")
    second = place.ensure()
    assert (second.hit, second.reason) == (False, f"changed: base image {base}")
    assert second.image.id != first.image.id
    place.engine("tag", old, base)
    assert place.ensure() == first.__class__(first.image, first.fingerprint, True, "fingerprints match", 0.0)


def test_what_the_engine_never_sees(place: ImageWorkspace) -> None:
    """SM-05: a file that .dockerignore excludes may change; the one that it keeps may not."""
    place.write(files={".dockerignore": "*.md\nlogs\n!kept.md\n", "notes.md": "a", "kept.md": "a"})
    place.ensure()
    (place.snapshot() / "notes.md").write_text("b")
    (place.snapshot() / "logs").mkdir()
    (place.snapshot() / "logs" / "today").write_text("b")
    assert place.ensure().hit
    (place.snapshot() / "kept.md").write_text("b")
    assert place.ensure().reason == "changed: snapshot"


def test_ignored_files_are_not_in_the_image(place: ImageWorkspace, tmp_path: Path) -> None:
    """SM-05: what the fingerprint leaves out must not be in the image, or a wrong one would be found for ever."""
    names = {"notes.md": "", "kept.md": "", "deep/notes.md": "", "deep/logs/x": "", "logs/x": "", "a b": "", "é": ""}
    place.write("FROM scratch\nCOPY . /\n")
    for name in names:
        (place.snapshot() / name).parent.mkdir(parents=True, exist_ok=True)
        (place.snapshot() / name).write_text("")
    rules = "# no rule\n*.md\n!kept.md\n**/logs\n/a?b\n\nservice.*\nDockerfile\n"
    (place.snapshot() / ".dockerignore").write_text(rules)
    image = place.ensure().image
    container = place.engine("create", image.id, "nothing")
    exported = tmp_path / "image.tar"
    place.engine("export", "--output", str(exported), container)
    place.engine("rm", container)
    listed = subprocess.run(["tar", "-tf", exported], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "deep/notes.md" in listed.split()
    for name in ("notes.md", "logs/x", "deep/logs/x", "service.py", "service.yaml"):
        assert name not in listed.split()


def test_forced(place: ImageWorkspace) -> None:
    """SM-05: a forced build takes nothing from the engine's cache of steps, and replaces the entry."""
    place.write()
    first = place.ensure()
    assert place.ensure(force=False).hit
    forced = place.ensure(force=True)
    assert (forced.hit, forced.reason) == (False, "forced")
    assert "Using cache" not in build_log(place)
    assert build_log(place).count("Step 1/") == 1, "the log is that of the last build"
    assert forced.image.id != first.image.id
    assert [entry["image_id"] for entry in place.entries()] == [forced.image.id]


def test_a_snapshot_that_changes_while_it_is_built(place: ImageWorkspace) -> None:
    """SM-05: nobody knows which of the two is in the image, so there is neither entry nor image."""
    place.write()

    def change(data: bytes) -> None:
        (place.snapshot() / "data").write_text("changed")

    version = store.load_version(Workspace(place.root), "baseline")
    with pytest.raises(BuildFailed, match=r"its snapshot or a base image changed while it was read. Run again"):
        place.cache().ensure(version, "native", place.root / "build.log", echo=change)
    assert place.entries() == []
    ours = ["--filter", f"label={place.label}", "--filter", "label=pytest-staging.version"]
    assert "pytest-staging" not in place.engine("image", "ls", "--format", "{{.Repository}}", *ours)
    assert place.ensure().reason == "never built"


def test_modes_are_apart(place: ImageWorkspace) -> None:
    """SM-05: the modes of a version, and versions with the same files, have images of their own."""
    place.write(modes=("jvm", "native"))
    place.write(slug="copy", status="candidate", modes=("jvm", "native"))
    (place.snapshot("copy") / "data").write_text("baseline\n")
    built = [place.ensure(slug, mode) for slug in ("baseline", "copy") for mode in ("jvm", "native")]
    assert [one.reason for one in built] == ["never built"] * 4
    assert len({one.image.ref for one in built}) == len({one.image.id for one in built}) == 4


def test_no_dockerfile(place: ImageWorkspace) -> None:
    """SM-05: one clear error, that the command gives with exit code 2."""
    place.write(image={"dockerfile": "Dockerfile.other"})
    with pytest.raises(
        WorkspaceError, match=r"Dockerfile.other of baseline in mode native is not in .*snapshot. Write"
    ):
        place.ensure()
    done = place.build()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("staging-manager: Dockerfile.other of baseline in mode native is not in")


def test_a_foreign_image_is_not_removed(place: ImageWorkspace, tmp_path: Path) -> None:
    """SM-05: a manifest may name any image; only those that this program labelled are removed."""
    place.write(PLAIN)
    place.ensure()
    base = make_base(place, tmp_path / "base", "precious")
    path = place.images() / "manifest.json"
    data = json.loads(path.read_text())
    data["images"][0]["image_ref"] = base
    path.write_text(json.dumps(data))
    with pytest.raises(WorkspaceError, match=f"{base} was not built by this program for baseline, so it is not"):
        place.cache().forget("baseline", {base})
    assert place.engine.inspect("image", base)
    assert [entry["image_ref"] for entry in place.entries()] == [base]
