"""Files that are whole or not there: written under a temporary name, synced, renamed. And digests of folders.

Every error of the file system becomes a StorageError that names the path.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_staging.model.errors import StorageError, WorkspaceError

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space and run again.",
    errno.EDQUOT: "Your disk quota is used up: free some space and run again.",
    errno.EROFS: "The file system is read-only: choose another folder or mount it writable.",
    errno.EACCES: "No permission: check the owner and mode of the folder.",
    errno.EPERM: "No permission: check the owner and mode of the folder.",
}


def on_step(what: str, path: Path) -> None:
    """Called after each step on the file system; tests put in its place what they want to happen there."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Translates what the operating system says about `path`."""
    try:
        yield
    except OSError as error:
        raise refused(f"write {path}", error) from error


def refused(what: str, error: OSError) -> StorageError:
    """The error that says what could not be done, why, and what helps."""
    advice = _ADVICE.get(error.errno or 0, "")
    return StorageError(f"cannot {what}: {error.strerror or error}. {advice}".rstrip())


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` as a whole; a reader sees the old content or the new, also after a crash."""
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                on_step("opened", path)
                file.write(content)
                file.flush()
                on_step("written", path)
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            on_step("synced", path)
            os.replace(temporary, path)
            on_step("renamed", path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file for good: its folder is synced."""
    with storing(path):
        path.unlink(missing_ok=True)
        on_step("removed", path)
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """As write_bytes, in UTF-8."""
    write_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(final: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill; it gets its name `final` only when the block ends well, and is removed when it does not.

    With `replace` it takes the place of what has that name, which is untouched until then.
    """
    with storing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name[:200]}.", suffix=".tmp", dir=final.parent))
        os.chmod(temporary, 0o755)
    aside = temporary.with_suffix(".before")
    try:
        yield temporary
        with storing(final):
            if final.exists():
                if not replace:
                    raise WorkspaceError(f"{final} exists already.")
                os.rename(final, aside)
            os.rename(temporary, final)
            sync_folder(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists() and not final.exists():
            os.rename(aside, final)
        shutil.rmtree(aside, ignore_errors=True)


def sweep_new_folders(final: Path) -> None:
    """Removes what killed processes left of `new_folder(final)`. Only for who is alone with that name."""
    for left in final.parent.glob(f".{glob.escape(final.name[:200])}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def iterate_tree(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file and link below `root` as (path with '/', entry), in a fixed order. Links are not followed."""

    def walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from walk(Path(entry.path), f"{name}/")
            else:
                yield name, entry

    yield from walk(root, "")


def fingerprint_tree(root: Path) -> str:
    """SHA-256 over names, executable bits, contents and link targets of everything below `root`.

    Raises WorkspaceError for what is neither file, folder nor link.
    """
    digest = hashlib.sha256()
    for name, entry in iterate_tree(root):
        if entry.is_symlink():
            kind, content = b"link", os.fsencode(os.readlink(entry.path))
        elif not entry.is_file():
            # A pipe would block its reader for ever, and none of them can be copied.
            raise WorkspaceError(
                f"{entry.path} is a pipe, socket or device; a snapshot holds files, folders and links."
            )
        else:
            executable = entry.stat(follow_symlinks=False).st_mode & 0o111
            kind = b"exec" if executable else b"file"
            content = hash_file(Path(entry.path)).encode()
        for part in (os.fsencode(name), kind, content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of one file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def escaping_link(root: Path) -> str | None:
    """The first symbolic link below `root` that leaves it or is absolute, or None."""
    inside = Path(os.path.realpath(root))
    for name, entry in iterate_tree(root):
        if not entry.is_symlink():
            continue
        target = os.readlink(entry.path)
        # Not Path.resolve(), which raises for links that go round in a circle.
        resolved = Path(os.path.realpath(entry.path))
        if os.path.isabs(target) or not resolved.is_relative_to(inside):
            return name
    return None


def copy_tree(source: Path, destination: Path) -> None:
    """Copies files, modes and links as they are."""
    with storing(destination):
        try:
            shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True)
        except shutil.Error as error:
            first = error.args[0][0]
            raise StorageError(f"cannot copy {first[0]} to {first[1]}: {first[2]}") from error


def read_tail(path: Path, lines: int = 20, max_bytes: int = 16_384) -> str:
    """The last lines of a log; empty when there is none. Never raises: it is used while reporting other errors."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
