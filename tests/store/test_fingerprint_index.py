"""The index makes a fingerprint cheap and never another one: not by any edit, and not by any damage to itself."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_staging import durable, fingerprint
from pytest_staging.fingerprint import COARSE_MARGIN_NS, FINE_MARGIN_NS, TreeIndex
from pytest_staging.model.errors import WorkspaceError

DEADLINE_S = 10.0


@dataclass
class Suffixes:
    """Ignores files by the ends of their names, and counts how often it is asked."""

    ends: tuple[str, ...]
    asked: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return " ".join(self.ends)

    def __call__(self, path: str) -> bool:
        self.asked.append(path)
        return path.endswith(self.ends)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Every kind of thing, and names that sort in their own way beside a folder's."""
    root = tmp_path / "snapshot"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "empty folder").mkdir()
    (root / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (root / "src" / "deep" / "data.bin").write_bytes(bytes(1_100_000))
    (root / "src.txt").write_text("sorts before src/main.c by its path, and behind by its name\n")
    (root / "src-1").write_text("")
    (root / "new\nline é \u2028").write_text("odd")
    (root / "build.sh").write_text("#!/bin/sh\n")
    (root / "build.sh").chmod(0o755)
    (root / "link").symlink_to("src/main.c")
    (root / "to folder").symlink_to("src")
    (root / "dangling").symlink_to(os.fsdecode(b"nowhere \xff"))
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).write_text("latin")
    Path(os.fsdecode(os.fsencode(root) + b"/\xf0\x9f\x98\x80")).write_text("beyond the basic plane")
    return root


@pytest.fixture
def index(tmp_path: Path) -> TreeIndex:
    return TreeIndex(tmp_path / "images" / ".files")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content is read."""
    found: list[str] = []
    real = fingerprint._hash

    def noting(place: str, size: int) -> tuple[bytes, tuple[int, ...]]:
        found.append(Path(place).name)
        return real(place, size)

    monkeypatch.setattr(fingerprint, "_hash", noting)
    return found


def wait_until_old(root: Path) -> None:
    """Until no file's change time is within the margin of now."""
    newest_ns = max(
        (entry.stat(follow_symlinks=False).st_ctime_ns for _, entry in durable.iterate_tree(root)), default=0
    )
    deadline = time.monotonic() + DEADLINE_S
    # The file system's clock is what counts, and it may be some milliseconds behind.
    while fs_clock_ns(root.parent) <= newest_ns + FINE_MARGIN_NS + 20_000_000:
        assert time.monotonic() < deadline, "the file system's clock stands still"
        time.sleep(0.005)


def fs_clock_ns(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_ctime_ns


def settle(index: TreeIndex, root: Path) -> str:
    """A fingerprint that remembers every file."""
    wait_until_old(root)
    return index.fingerprint(root)


def test_the_same_digest_as_without(tree: Path, index: TreeIndex) -> None:
    """SM-05: first, second, and by another process's index object."""
    expected = durable.fingerprint_tree(tree)
    assert [index.fingerprint(tree) for _ in range(2)] == [expected] * 2
    wait_until_old(tree)
    assert [TreeIndex(index.path).fingerprint(tree) for _ in range(3)] == [expected] * 3


def test_an_empty_folder(tmp_path: Path, index: TreeIndex) -> None:
    (tmp_path / "nothing").mkdir()
    expected = durable.fingerprint_tree(tmp_path / "nothing")
    assert [index.fingerprint(tmp_path / "nothing") for _ in range(2)] == [expected] * 2


def test_nothing_is_read_twice(tree: Path, index: TreeIndex, reads: list[str]) -> None:
    """SM-05: and nothing written, once there is nothing to learn."""
    settle(index, tree)
    facts = index.path.stat()
    reads.clear()
    index.fingerprint(tree)
    assert reads == []
    assert index.path.stat() == facts


def test_only_what_changed_is_read(tree: Path, index: TreeIndex, reads: list[str]) -> None:
    settle(index, tree)
    reads.clear()
    (tree / "src-1").write_text("other")
    (tree / "build.sh").chmod(0o600)
    (tree / "src.txt").rename(tree / "src.md")
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree)
    assert sorted(reads) == ["build.sh", "src-1", "src.md"]


def change_and_restore_times(path: Path) -> None:
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_same_size_and_time_after_a_while(tree: Path, index: TreeIndex) -> None:
    """SM-05: only the change time tells."""
    before = settle(index, tree)
    change_and_restore_times(tree / "src" / "main.c")
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree) != before


def test_same_size_and_time_at_once(tree: Path, index: TreeIndex) -> None:
    """SM-05: within one tick of the clock not even the change time tells. Many times, since ticks are short."""
    for _ in range(100):
        change_and_restore_times(tree / "build.sh")
        index.fingerprint(tree)
        change_and_restore_times(tree / "build.sh")
        assert index.fingerprint(tree) == durable.fingerprint_tree(tree)


def stop_clock(monkeypatch: pytest.MonkeyPatch, changed_ns: int, now_ns: int) -> None:
    """Every change happened at `changed_ns`, as if within one tick of a coarse clock; and it stays `now_ns`."""
    real = fingerprint._facts
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    monkeypatch.setattr(fingerprint, "_facts", lambda status: (*real(status)[:2], changed_ns, *real(status)[3:]))


def test_within_one_tick(tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: as above, made certain."""
    now_ns = time.time_ns() | 1
    stop_clock(monkeypatch, now_ns, now_ns)
    before = index.fingerprint(tree)
    change_and_restore_times(tree / "build.sh")
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree) != before


@pytest.mark.parametrize(
    ("age_ns", "fine", "remembered"),
    [
        (FINE_MARGIN_NS // 2, True, False),
        (FINE_MARGIN_NS * 4, True, True),
        (FINE_MARGIN_NS * 4, False, False),
        (COARSE_MARGIN_NS * 3 // 4, False, False),
        (COARSE_MARGIN_NS * 2, False, True),
        (-60_000_000_000, True, False),
    ],
)
def test_who_is_remembered(
    index: TreeIndex, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, fine: bool,
    remembered: bool,
) -> None:  # fmt: skip
    """SM-05: no file that changed within the margin, or in the future; stamps without fine digits need a longer one."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("")
    now_ns = time.time_ns()
    stop_clock(monkeypatch, (now_ns - age_ns) // 1_000_000 * 1_000_000 + fine, now_ns)
    written = []
    for _ in range(2):
        index.fingerprint(tmp_path / "tree")
        written.append(index.path.stat().st_ino)
    assert len(set(written)) == 1, "written again with nothing learned"
    assert reads == ["file"] * (1 if remembered else 2)


def test_a_file_system_whose_clock_is_behind(
    tree: Path, index: TreeIndex, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SM-05: by this machine's clock its fresh files are an hour old."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3_600_000_000_000)
    (tree / "src-1").write_text("fresh")
    index.fingerprint(tree)
    reads.clear()
    index.fingerprint(tree)
    assert "src-1" in reads


def test_a_folder_in_anothers_place_while_it_is_read(
    tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SM-05: a rename of the folder leaves no trace at its files; only what was opened tells."""
    (tree / "twin").mkdir()
    (tree / "twin" / "main.c").write_text("int main(void) { return 1; }\n")
    wait_until_old(tree)
    real = fingerprint._hash

    def exchanged(place: str, size: int) -> tuple[bytes, tuple[int, ...]]:
        exchange(tree / "src", tree / "twin")
        try:
            return real(place.replace("src/deep", "twin/deep"), size)
        finally:
            exchange(tree / "src", tree / "twin")

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_hash", exchanged)
        assert index.fingerprint(tree) != durable.fingerprint_tree(tree)
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree)


def test_a_link_in_a_files_place_is_not_followed(tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: put there after the folder was listed."""
    real = fingerprint._hash

    def replaced(place: str, size: int) -> tuple[bytes, tuple[int, ...]]:
        Path(place).unlink()
        Path(place).symlink_to("/etc/hostname")
        return real(place, size)

    monkeypatch.setattr(fingerprint, "_hash", replaced)
    with pytest.raises(OSError, match="symbolic links"):
        index.fingerprint(tree)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_cannot_be_copied_is_refused(
    tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """SM-05: in the words of the fingerprint without an index, also when all else is known."""
    settle(index, tree)
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        os.mkfifo("src/odd") if kind == "pipe" else listener.bind("src/odd")
        messages = []
        for one in (durable.fingerprint_tree, index.fingerprint, index.fingerprint):
            with pytest.raises(WorkspaceError, match="snapshot/src/odd is a pipe, socket or device") as raised:
                one(tree)
            messages.append(str(raised.value))
    assert len(set(messages)) == 1


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated in the first line": lambda path: path.write_bytes(path.read_bytes()[:10]),
    "truncated after it": lambda path: path.write_bytes(path.read_bytes()[: len(fingerprint.SCHEMA) + 4]),
    "truncated in the head": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "truncated in the rows": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "another schema": lambda path: path.write_bytes(path.read_bytes().replace(b"files 1 ", b"files 2 ", 1)),
    "something else": lambda path: path.write_bytes(b"PK" + bytes(range(256)) * 40),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a loop of links": lambda path: (path.unlink(), path.symlink_to(path.name)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_none(tree: Path, index: TreeIndex, damage: str) -> None:
    """SM-05: the right digest, for what is there and for what changed meanwhile."""
    settle(index, tree)
    DAMAGES[damage](index.path)
    (tree / "src-1").write_text(damage)
    expected = durable.fingerprint_tree(tree)
    assert [index.fingerprint(tree) for _ in range(2)] == [expected] * 2


def test_any_flipped_bit_is_found(tree: Path, index: TreeIndex) -> None:
    """SM-05: a digest in the index with one bit changed would be a wrong answer."""
    expected = settle(index, tree)
    content = index.path.read_bytes()
    for position in range(0, len(content), 7):
        index.path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert index.fingerprint(tree) == expected


def refusing(*_: object, **__: object) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("module", [tempfile, os])
def test_a_full_disk(tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """SM-05: when making the file, and when it is there but cannot be finished; nothing half done stays."""
    for name in {"mkstemp", "TemporaryFile", "replace"} & set(vars(module)):
        monkeypatch.setattr(module, name, refusing)
    expected = durable.fingerprint_tree(tree)
    assert [index.fingerprint(tree) for _ in range(2)] == [expected] * 2
    assert list(index.path.parent.iterdir()) == []


def test_no_place_for_the_index(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert TreeIndex(tmp_path / "file" / "index").fingerprint(tree) == durable.fingerprint_tree(tree)


def test_interrupted_while_it_is_written(tree: Path, index: TreeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.fingerprint(tree)
    assert list(index.path.parent.iterdir()) == []


def test_many_at_once(tree: Path, index: TreeIndex) -> None:
    """SM-05: workers that share the index disturb nobody's answer."""
    expected = durable.fingerprint_tree(tree)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: TreeIndex(index.path).fingerprint(tree), range(40)))
    assert set(found) == {expected}
    assert [path.name for path in index.path.parent.iterdir()] == [index.path.name]


def test_only_what_is_not_ignored_counts(tree: Path, index: TreeIndex, tmp_path: Path) -> None:
    """SM-05: the digest is that of a tree without the ignored files."""
    ignored = Suffixes((".c", ".sh", "link"))
    found = index.fingerprint(tree, ignored)
    shutil.copytree(tree, tmp_path / "kept", symlinks=True)
    for name in ("src/main.c", "build.sh", "link"):
        (tmp_path / "kept" / name).unlink()
    assert found == durable.fingerprint_tree(tmp_path / "kept")
    (tree / "build.sh").write_text("other")
    os.mkfifo(tree / "src" / "pipe.c")
    assert index.fingerprint(tree, ignored) == found


def test_rules_are_asked_once_per_file(tree: Path, index: TreeIndex, reads: list[str]) -> None:
    """SM-05: also when another fingerprint, without rules, comes between; and ignored files are not read."""
    wait_until_old(tree)
    ignored = Suffixes((".c", ".bin"))
    first = index.fingerprint(tree, ignored)
    assert {"main.c", "data.bin"}.isdisjoint(reads)
    assert sorted(ignored.asked) == sorted(name for name, _ in durable.iterate_tree(tree))
    ignored.asked.clear()
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree)
    (tree / "new.c").write_text("")
    assert index.fingerprint(tree, ignored) == first
    assert ignored.asked == ["new.c"]
    reads.clear()
    assert index.fingerprint(tree) == durable.fingerprint_tree(tree)
    assert reads == ["new.c"]


def test_other_rules(tree: Path, index: TreeIndex, reads: list[str]) -> None:
    """SM-05: no decision outlives its rules, and no content is read again for new ones."""
    settle(index, tree)
    reads.clear()
    fresh = TreeIndex(index.path.parent / "other")
    for ends in ((".c",), (".sh", ".c"), (".sh",), (".c",), ("nothing",)):
        found = index.fingerprint(tree, Suffixes(ends))
        assert reads == []
        assert found == fresh.fingerprint(tree, Suffixes(ends))
        reads.clear()
        fresh.path.unlink()
    assert found == index.fingerprint(tree) == durable.fingerprint_tree(tree)
    facts = index.path.stat()
    assert found == index.fingerprint(tree, Suffixes(("nothing",))) == index.fingerprint(tree)
    assert index.path.stat() == facts, "both are known, and nothing was learned"


NAMES = ("a", "b", "c/d", "c/e", "c-", "f/g/h")
names = st.sampled_from(NAMES)
EDITS = st.one_of(
    st.tuples(st.just("write"), names, st.binary(max_size=3)),
    st.tuples(st.just("flip"), names),
    st.tuples(st.just("chmod"), names, st.sampled_from([0o644, 0o755, 0o600])),
    st.tuples(st.just("move"), names, names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("link"), names, names),
    st.tuples(st.just("hard link"), names, names),
    st.tuples(st.just("swap"), names, names),
    st.tuples(st.just("swap folders")),
    st.tuples(st.just("touch"), names, st.integers(0, 2**34)),
)


def edit(root: Path, what: str, *arguments: Any) -> None:
    """Does it where that is possible; the folders c and f are always there."""
    first = root / arguments[0] if arguments else root
    second = root / arguments[1] if len(arguments) == 2 and arguments[1] in NAMES else root
    if what == "write":
        first.unlink(missing_ok=True)
        first.write_bytes(arguments[1])
    elif what == "link":
        first.unlink(missing_ok=True)
        first.symlink_to(arguments[1])
    elif what == "swap folders":
        exchange(root / "c", root / "f")
        (root / "c" / "g").mkdir(exist_ok=True)
        (root / "f" / "g").mkdir(exist_ok=True)
    elif first.is_symlink() or not first.exists():
        return
    elif what == "flip" and first.stat().st_size:
        change_and_restore_times(first)
    elif what == "chmod":
        first.chmod(arguments[1])
    elif what == "move":
        first.replace(second)
    elif what == "delete":
        first.unlink()
    elif what == "hard link" and not os.path.lexists(second):
        os.link(first, second)
    elif what == "swap" and first != second and os.path.lexists(second):
        exchange(first, second)
    elif what == "touch":
        os.utime(first, (arguments[1], arguments[1]))


def exchange(first: Path, second: Path) -> None:
    first.rename(first.parent / "aside")
    second.rename(first)
    (first.parent / "aside").rename(second)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(EDITS, max_size=5), st.booleans()), min_size=1, max_size=5))
def test_no_edits_lead_it_astray(rounds: list[tuple[list[tuple[Any, ...]], bool]]) -> None:
    """SM-05: with an index that lives through all of them, and files that are old enough to be remembered, or not."""
    with tempfile.TemporaryDirectory() as place:
        root, index = Path(place) / "tree", TreeIndex(Path(place) / "index")
        for folder in ("c/g", "f/g"):
            (root / folder).mkdir(parents=True)
        for name in NAMES:
            (root / name).write_text("xyz")
        for edits, wait in rounds:
            if wait:
                wait_until_old(root)
            assert index.fingerprint(root) == durable.fingerprint_tree(root)
            for one in edits:
                edit(root, *one)
            assert index.fingerprint(root) == durable.fingerprint_tree(root)
