"""A snapshot's fingerprint changes with what a build can see, and with nothing else. Links must stay inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_staging import durable
from pytest_staging.model.errors import WorkspaceError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "snapshot"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (root / "build.sh").write_text("#!/bin/sh\n")
    (root / "link").symlink_to("src/main.c")
    return root


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "build.sh").write_text("#!/bin/bash\n"),
    "name": lambda root: (root / "build.sh").rename(root / "make.sh"),
    "folder": lambda root: (root / "src").rename(root / "lib"),
    "moved": lambda root: (root / "build.sh").rename(root / "src" / "build.sh"),
    "executable": lambda root: (root / "build.sh").chmod(0o755),
    "new file": lambda root: (root / "empty").write_text(""),
    "removed": lambda root: (root / "build.sh").unlink(),
    "link target": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("build.sh")),
    "link made a file": lambda root: ((root / "link").unlink(), shutil.copy(root / "src" / "main.c", root / "link")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_it_changes(tree: Path, change: str) -> None:
    """SM-05: a changed snapshot has another fingerprint."""
    before = durable.fingerprint_tree(tree)
    CHANGES[change](tree)
    assert durable.fingerprint_tree(tree) != before


def test_it_stays(tree: Path, tmp_path: Path) -> None:
    """SM-05: times, other mode bits, the place and the order of making do not matter."""
    before = durable.fingerprint_tree(tree)
    os.utime(tree / "build.sh", (1, 1))
    (tree / "build.sh").chmod(0o600)
    assert durable.fingerprint_tree(tree) == before
    durable.copy_tree(tree, tmp_path / "elsewhere" / "copy")
    assert durable.fingerprint_tree(tmp_path / "elsewhere" / "copy") == before
    assert (tmp_path / "elsewhere" / "copy" / "link").is_symlink()


def test_the_border_between_name_and_target(tmp_path: Path) -> None:
    """Two trees whose names and link targets, put together, are the same text."""
    for folder, name, target in (("one", "a", "blinkc"), ("other", "alinkb", "c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).symlink_to(target)
    assert durable.fingerprint_tree(tmp_path / "one") != durable.fingerprint_tree(tmp_path / "other")


def test_names_that_are_no_utf8(tree: Path) -> None:
    before = durable.fingerprint_tree(tree)
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9")).write_text("")
    assert durable.fingerprint_tree(tree) != before


def test_a_pipe_is_refused(tree: Path) -> None:
    """Reading it would wait for ever."""
    os.mkfifo(tree / "pipe")
    with pytest.raises(WorkspaceError, match=r"snapshot/pipe is a pipe, socket or device"):
        durable.fingerprint_tree(tree)


@pytest.mark.parametrize(
    ("name", "target", "escapes"),
    [
        ("inside", "src/main.c", False),
        ("src/up", "../build.sh", False),
        ("src/self", ".", False),
        ("dangling", "src/nothing", False),
        ("circle", "circle", False),
        ("absolute", "/etc/hostname", True),
        ("parent", "..", True),
        ("src/far", "../../outside", True),
        ("dots", "src/../../outside", True),
        ("dangling-out", "../nothing", True),
    ],
)
def test_escaping_links(tree: Path, name: str, target: str, escapes: bool) -> None:
    """SM-03: a link that leaves the snapshot is found, whatever way it takes."""
    (tree / name).symlink_to(target)
    assert durable.escaping_link(tree) == (name if escapes else None)


def test_an_absolute_link_inside_escapes_too(tree: Path) -> None:
    """SM-03: in a copy it would point into the original."""
    (tree / "here").symlink_to(tree / "build.sh")
    assert durable.escaping_link(tree) == "here"


def test_a_link_through_another_link(tree: Path) -> None:
    """SM-03: `way` looks harmless by its text; the folder that it goes through is a link to somewhere deeper."""
    (tree / "src" / "deep" / "er").mkdir(parents=True)
    (tree / "shallow").symlink_to("src/deep/er")
    (tree / "way").symlink_to("shallow/../../../..")
    assert durable.escaping_link(tree) == "way"
    (tree / "way").unlink()
    (tree / "way").symlink_to("shallow/../../main.c")
    assert durable.escaping_link(tree) is None


def test_a_snapshot_behind_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tree)
    assert durable.escaping_link(tmp_path / "alias") is None
