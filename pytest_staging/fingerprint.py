"""Fingerprints of a folder that read only what changed since the last one.

A file is not read again while its size, times, inode, device and mode are those of the moment when it was read. What
makes that safe against a change that keeps size and modification time:

- The change time (ctime) is one of these facts. The kernel sets it at every write, truncation, chmod, utime and rename,
  and user space has no call to set it back. A file put in another's place has another inode as well.
- A timestamp is only as fine as the file system's clock: two changes within one tick look the same. So a file whose
  change time is not older than its reading by a margin is read again at the next fingerprint, as git does with its
  "racily clean" files. The margin is 50 ms, some ticks of a kernel; 2.5 s where timestamps have no digits below a
  millisecond, as on file systems that store whole seconds. The moment of reading is taken from the clock of the file
  system that holds the index if that one is behind this machine's, as a server's may be: keep both on one.
- A file is remembered only if what was opened is what was listed: a folder may be swapped for another meanwhile.

What no timestamp shows, and so no index of this kind either: a process that mapped a file into memory and goes on
writing to pages which it had changed before the file was read (the kernel stamps such a file when it writes the pages
back); a clock set back to the very nanosecond of an earlier change; writes to the disk below the file system; and file
systems that keep no change time of their own (FAT, some FUSE). Delete the index there, or do not use one.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pytest_staging.model.errors import WorkspaceError

FINE_MARGIN_NS = 50_000_000
COARSE_MARGIN_NS = 2_500_000_000

# marshal loads several times as fast as JSON, but trusts its input and differs between Python versions: hence the
# interpreter's tag in the first line, and a checksum over all that is given to it.
SCHEMA = f"pytest-staging files 1 {sys.implementation.cache_tag}\n".encode()
_CHECKSUM_BYTES = 32
_SIZE_BYTES = 8
_CHUNK_BYTES = 1 << 20
_DETERMINISTIC = 2  # the format of marshal in which equal values have equal bytes

_Facts = tuple[int, ...]
_facts = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev", "st_mode")
# A file or link: its facts when it was read, what it adds to the fingerprint (None: not read), and whether the rules
# keep it (None: not asked). A plain tuple, because marshal takes no other.
_Row = tuple[_Facts, "bytes | None", "bool | None"]
_UNSETTLED: _Facts = ()


class IgnoreRules(Protocol):
    """Which files do not count. Equal digests mean equal decisions."""

    @property
    def digest(self) -> str:
        """Names the rules."""

    def __call__(self, path: str) -> bool:
        """Whether the file or link at `path`, relative and with '/', is ignored."""


class TreeIndex:
    """What is known about the files of one folder, kept in the file `path` outside of it.

    Only a cache: missing, damaged, not writable or used by two processes at once, it costs time and never an answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprint(self, root: Path, ignored: IgnoreRules | None = None) -> str:
        """As durable.fingerprint_tree, over the files below `root` that are not `ignored`.

        Raises WorkspaceError for what is neither file, folder nor link, and OSError for what cannot be read.
        """
        index, rules = _load(self.path), None if ignored is None else ignored.digest
        tree = _Tree(f"{root}{os.sep}")
        if rules in index.results and tree.states == index.states:
            return index.results[rules]
        reading = _Reading(tree, index, ignored, self.path.parent)
        result = hashlib.sha256(b"".join(reading.shares())).hexdigest()
        learned = reading.learned(result)
        if learned != index:
            _save(self.path, learned)
        return result


class _Index(NamedTuple):
    """What is remembered: fingerprints by rules (None: no rules) that hold while the folders are in these states.

    `rules` is the digest of the rules that the rows, one for each path, tell about. They stay packed until needed.
    """

    results: dict[str | None, str]
    states: dict[str, bytes]
    rules: str | None
    rows: bytes


class _Tree:
    """The tree as it is now: listed, and not read. Folders are named "" or "some/where/"."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.states: dict[str, bytes] = {}
        self._list("")

    def _list(self, folder: str) -> None:
        # Where the time goes when nothing has changed: hence no iterate_tree, and little that is done once per file.
        place = self.root + folder
        names = sorted(os.listdir(place))
        facts = [_facts(os.lstat(place + name)) for name in names]
        self.states[folder] = marshal.dumps((names, facts), _DETERMINISTIC)
        for name, (*_, mode) in zip(names, facts, strict=True):
            if stat.S_ISDIR(mode):
                self._list(f"{folder}{name}/")

    def entries(self, folder: str = "") -> Iterator[tuple[str, _Facts]]:
        """Path and facts of every file and link, in the order of durable.iterate_tree."""
        for name, facts in zip(*marshal.loads(self.states[folder]), strict=True):
            if stat.S_ISDIR(facts[-1]):
                yield from self.entries(f"{folder}{name}/")
            else:
                yield folder + name, facts


class _Reading:
    """One pass over the files of a tree: reads those that count and are not known."""

    def __init__(self, tree: _Tree, index: _Index, ignored: IgnoreRules | None, index_folder: Path) -> None:
        self._tree, self._index, self._ignored, self._index_folder = tree, index, ignored, index_folder
        self._rules = index.rules if ignored is None else ignored.digest
        self._rows: dict[str, _Row] = {}
        self._settled = True

    def shares(self) -> Iterator[bytes]:
        """What each file and link adds to the digest."""
        known: dict[str, _Row] = _unpack(self._index.rows) or {}
        for path, facts in self._tree.entries():
            facts_then, share, kept = known.get(path, (_UNSETTLED, None, None))
            if self._rules != self._index.rules:
                kept = None
            if self._ignored is not None and kept is None:
                kept = not self._ignored(path)
            counts = kept or self._ignored is None
            if counts and (share is None or facts_then != facts):
                share, facts_then = self._read(path, facts)
            self._rows[path] = facts_then, share, kept
            if counts and share is not None:
                yield share

    def learned(self, result: str) -> _Index:
        """What to remember, after all shares were taken."""
        results: dict[str | None, str] = {None if self._ignored is None else self._rules: result}
        states = self._tree.states
        if not self._settled:
            results, states = {}, {}
        elif states == self._index.states:  # what other rules make of the same files
            results = self._index.results | results
        return _Index(results, states, self._rules, _pack(self._rows))

    def _read(self, path: str, facts: _Facts) -> tuple[bytes, _Facts]:
        """The share of a file or link, and the facts to know it by: none if it may change without showing that."""
        size, _, changed_ns, *_, mode = facts
        place = self._tree.root + path
        moment_ns = time.time_ns() - self._clock_lag_ns
        if stat.S_ISLNK(mode):
            kind, content, after = b"link", os.fsencode(os.readlink(place)), _facts(os.lstat(place))
        elif stat.S_ISREG(mode):
            kind = b"exec" if mode & 0o111 else b"file"
            content, after = _hash(place, size)
        else:
            raise WorkspaceError(f"{place} is a pipe, socket or device; a snapshot holds files, folders and links.")
        share = b"".join(len(part).to_bytes(8, "big") + part for part in (os.fsencode(path), kind, content))
        if facts != after or changed_ns + _margin_ns(changed_ns) >= moment_ns:
            self._settled, facts = False, _UNSETTLED
        return share, facts

    @cached_property
    def _clock_lag_ns(self) -> int:
        """How far the clock of the file system is behind this machine's; 0 where no file can be made."""
        try:
            self._index_folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._index_folder) as probe:
                return max(0, time.time_ns() - os.fstat(probe.fileno()).st_ctime_ns)
        except OSError:
            return 0


def _margin_ns(changed_ns: int) -> int:
    return FINE_MARGIN_NS if changed_ns % 1_000_000 else COARSE_MARGIN_NS


def _hash(place: str, size: int) -> tuple[bytes, _Facts]:
    """SHA-256 of the content in hexadecimal, and the facts afterwards of the very file that was read."""
    digest = hashlib.sha256()
    with open(place, "rb", buffering=0, opener=_open_file) as file:
        while chunk := file.read(min(size, _CHUNK_BYTES) + 1):
            digest.update(chunk)
        return digest.hexdigest().encode(), _facts(os.fstat(file.fileno()))


def _open_file(place: str, flags: int) -> int:
    # A link or a pipe that takes the file's place meanwhile is neither followed nor waited for.
    return os.open(place, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _pack(value: Any) -> bytes:
    content = marshal.dumps(value, _DETERMINISTIC)
    return hashlib.sha256(content).digest() + content


def _unpack(packed: bytes) -> Any:
    """What was packed, or None if these bytes are not what _pack gave."""
    checksum, content = packed[:_CHECKSUM_BYTES], memoryview(packed)[_CHECKSUM_BYTES:]
    return marshal.loads(content) if hashlib.sha256(content).digest() == checksum else None


def _load(path: Path) -> _Index:
    with suppress(OSError):
        content = path.read_bytes()
        begin = len(SCHEMA) + _SIZE_BYTES
        end = begin + int.from_bytes(content[len(SCHEMA) : begin], "big")
        head = _unpack(content[begin:end]) if content.startswith(SCHEMA) else None
        if head is not None:
            results, states, rules = head
            return _Index(results, states, rules, content[end:])
    return _Index({}, {}, None, b"")


def _save(path: Path, index: _Index) -> None:
    """As durable.write_bytes but for the syncing: what a power cut damages is read as missing."""
    head = _pack(tuple(index[:-1]))
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(SCHEMA + len(head).to_bytes(_SIZE_BYTES, "big") + head + index.rows)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
