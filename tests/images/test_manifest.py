"""The manifest: when an image counts as there, and what becomes of a file that nobody can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workspaces import make_version

from pytest_staging import durable, store
from pytest_staging.images.artifact import ArtifactBuilder
from pytest_staging.images.cache import BuiltImage, ImageCache
from pytest_staging.images.manifest import (
    KEPT,
    Entry,
    Manifest,
    Wanted,
    decide,
    digest_inputs,
    parse_manifest,
    render_manifest,
)
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.store import Workspace
from pytest_staging.targets.local import LocalTarget

INPUTS = {"mode": "jvm", "Dockerfile": "d1", "base image jre:17": "sha256:b1"}
WANTED = Wanted(mode="jvm", builder="docker", snapshot_fingerprint="s1", inputs=INPUTS)


def entry(number: int = 0, **changes: Any) -> Entry:
    made: dict[str, Any] = {
        "mode": "jvm", "builder": "docker", "image_ref": f"it:{number}", "image_id": f"sha256:{number}",
        "size_bytes": 1, "snapshot_fingerprint": "s1", "inputs": INPUTS,
        "built_at": "2026-01-01T00:00:00Z", "seconds": 0.5, **changes,
    }  # fmt: skip
    return Entry(build_fingerprint=digest_inputs(made["inputs"]), **made)


REASONS: dict[str, tuple[Manifest, str | None, str]] = {
    "hit": (Manifest((entry(),)), "sha256:0", "fingerprints match"),
    "an earlier build": (
        Manifest((entry(1, snapshot_fingerprint="s2"), entry())), "sha256:0", "fingerprints match",
    ),
    "never": (Manifest(), "sha256:0", "never built"),
    "other mode": (Manifest((entry(mode="native"),)), "sha256:0", "never built"),
    "other builder": (Manifest((entry(builder="buildkit"),)), "sha256:0", "never built"),
    "damage": (Manifest(damage="it is torn"), "sha256:0", "the manifest was unreadable"),
    "gone": (Manifest((entry(),)), None, "it:0 is gone"),
    "moved": (Manifest((entry(),)), "sha256:9", "it:0 is not what was built"),
    "snapshot": (Manifest((entry(snapshot_fingerprint="s2"),)), "sha256:0", "changed: snapshot"),
    "input": (Manifest((entry(inputs={**INPUTS, "Dockerfile": "d2"}),)), "sha256:0", "changed: Dockerfile"),
    "input more": (
        Manifest((entry(inputs={"mode": "jvm", "Dockerfile": "d1"}),)), "sha256:0", "changed: base image jre:17",
    ),
    "input less": (Manifest((entry(inputs={**INPUTS, "cc": "1"}),)), "sha256:0", "changed: cc"),
    "several": (
        Manifest((entry(snapshot_fingerprint="s2", inputs={**INPUTS, "Dockerfile": "d2"}),)),
        "sha256:0",
        "changed: snapshot, Dockerfile",
    ),
    "against the newest": (
        Manifest((entry(1, inputs={**INPUTS, "Dockerfile": "d2"}), entry(2, snapshot_fingerprint="s2"))),
        "sha256:0",
        "changed: Dockerfile",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_reasons(name: str) -> None:
    """SM-05: a hit needs both fingerprints and the engine's id; each miss names its reason."""
    manifest, found, reason = REASONS[name]
    asked: list[str] = []

    def inspect(ref: str) -> str | None:
        asked.append(ref)
        return found

    decision = decide(manifest, WANTED, inspect)
    assert (decision.reason, decision.hit) == (reason, reason == "fingerprints match")
    assert asked == (["it:0"] if reason.startswith(("fingerprints", "it:0")) else [])


def test_what_is_kept() -> None:
    """SM-05: the newest builds of a mode and builder, so that the file stays small; the others' are not touched."""
    other = entry(99, mode="native")
    manifest = Manifest((other,))
    for number in range(KEPT + 3):
        manifest = manifest.with_entry(entry(number, snapshot_fingerprint=f"s{number}"))
    assert [one.image_ref for one in manifest.of("jvm", "docker")] == [f"it:{n}" for n in range(KEPT + 2, 2, -1)]
    assert manifest.of("native", "docker") == [other]
    again = manifest.with_entry(entry(5, image_id="sha256:new"))
    assert [one.image_ref for one in again.of("jvm", "docker")][:2] == ["it:5", f"it:{KEPT + 2}"]
    assert [one.image_id for one in again.entries if one.image_ref == "it:5"] == ["sha256:new"]
    assert len(again.of("jvm", "docker")) == KEPT


def test_there_and_back() -> None:
    """SM-05: what is written is read again, whatever a name or path of this machine holds."""
    manifest = Manifest((entry(inputs={"cc": "/home/\udcff/cc é 1"}),))
    text = render_manifest(manifest)
    assert parse_manifest(text.encode().decode(), "here") == manifest
    assert set(json.loads(text)["images"][0]) >= {
        "image_ref", "image_id", "snapshot_fingerprint", "build_fingerprint", "built_at",
    }  # fmt: skip


def changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["images"][0].update(changes)


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no schema": lambda data: data.pop("schema_version"),
    "schema 0": lambda data: data.update(schema_version=0),
    "schema as text": lambda data: data.update(schema_version="1"),
    "no images": lambda data: data.pop("images"),
    "images as object": lambda data: data.update(images={}),
    "images as text": lambda data: data.update(images=""),
    "entry as text": lambda data: data.update(images=["x"]),
    "a key less": lambda data: data["images"][0].pop("image_id"),
    "a key more": changed(surprise=1),
    "id as number": changed(image_id=3),
    "size as text": changed(size_bytes="3"),
    "inputs as list": changed(inputs=[]),
    "inputs of numbers": changed(inputs={"mode": 1}, build_fingerprint=digest_inputs({"mode": 1})),  # type: ignore[dict-item]
    "seconds as text": changed(seconds="3"),
    "forged fingerprint": changed(build_fingerprint="0" * 64),
    "forged input": lambda data: data["images"][0]["inputs"].update({"build commands": "[]"}),
    "half a surrogate pair": changed(image_ref="\ud800"),
    "NUL": changed(image_ref="baseline/images/\0"),
    "escape sequence": changed(image_ref="\x1b[2J"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_version(tmp_path, "baseline", "baseline")
    return tmp_path


def cache_of(root: Path) -> ImageCache:
    versions = Workspace(root).versions_folder
    return ImageCache(versions, ArtifactBuilder(versions, LocalTarget()))


def ensure(root: Path) -> BuiltImage:
    return cache_of(root).ensure(store.load_version(Workspace(root), "baseline"), "native", root / "build.log")


def manifest_of(root: Path) -> Path:
    return root / "versions" / "baseline" / "images" / "manifest.json"


def assert_built_anew(root: Path, before: BuiltImage) -> None:
    again = ensure(root)
    assert (again.hit, again.reason) == (False, "the manifest was unreadable")
    assert again.image == before.image
    assert ensure(root).hit


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged(root: Path, name: str) -> None:
    """SM-05: a manifest with anything wrong in it is no manifest: it is built anew, and the reason is said."""
    first = ensure(root)
    data = json.loads(manifest_of(root).read_text())
    DAMAGES[name](data)
    manifest_of(root).write_text(json.dumps(data))
    assert_built_anew(root, first)


@pytest.mark.parametrize("tenth", range(10))
def test_truncated(root: Path, tenth: int) -> None:
    """SM-05: whichever part of the file is there."""
    first = ensure(root)
    content = manifest_of(root).read_bytes()
    manifest_of(root).write_bytes(content[: len(content) * tenth // 10])
    assert_built_anew(root, first)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 100_000, b"null", b'{"schema_version": NaN, "images": []}']
)
def test_not_even_json(root: Path, content: bytes) -> None:
    """SM-05: bytes that are no text, and JSON that is too deep or no object."""
    first = ensure(root)
    manifest_of(root).write_bytes(content)
    assert_built_anew(root, first)


def test_of_a_newer_program(root: Path) -> None:
    """SM-05: it is refused and not touched: the newer program still wants it."""
    made = ensure(root)
    data = {**json.loads(manifest_of(root).read_text()), "schema_version": 2, "images": {"in another": "shape"}}
    manifest_of(root).write_text(json.dumps(data))
    before = durable.fingerprint_tree(root / "versions")
    with pytest.raises(WorkspaceError, match=r"manifest.json has schema version 2, this program knows 1. Upgrade"):
        ensure(root)
    with pytest.raises(WorkspaceError, match="schema version 2"):
        cache_of(root).forget("baseline", {made.image.ref})
    assert durable.fingerprint_tree(root / "versions") == before


OUTSIDE = (
    "../../treasure",
    "baseline/images/../../../treasure",
    "/etc",
    "treasure",
    "a/b/c",
    "baseline/images/.lock",
    "",
)


@pytest.mark.parametrize("ref", OUTSIDE)
def test_a_name_that_leads_elsewhere(root: Path, ref: str) -> None:
    """SM-05: whatever a manifest names, only folders of built files are looked at and removed."""
    treasure = root / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_text("")
    cache = cache_of(root)
    ensure(root)
    forged = replace(cache.read_manifest("baseline").entries[0], image_ref=ref)
    manifest_of(root).write_text(render_manifest(Manifest((forged,))))
    if cache.read_manifest("baseline").entries:
        with pytest.raises(WorkspaceError, match="is no folder of built files"):
            ensure(root)
    with pytest.raises(WorkspaceError, match="is no folder of built files"):
        cache.forget("baseline", {ref})
    assert (treasure / "gold").exists()


def test_the_manifest_itself_is_no_image(root: Path) -> None:
    """SM-05: a name inside of images/ that is not of built files removes nothing either."""
    ensure(root)
    cache_of(root).forget("baseline", {"baseline/images/manifest.json"})
    assert manifest_of(root).exists()
    assert ensure(root).hit
