"""Files and folders to and from a host. What arrives has its name only when it is whole.

A file goes through `cat`, a folder through `tar` at both ends: SFTP takes twice as long for the first and many times as
long for the second. Paths on the host are absolute, or begin in the home folder.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

from pytest_staging import durable
from pytest_staging.model.errors import StorageError, UnsafeName, WorkspaceError
from pytest_staging.ssh.commands import Result
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.exchange import CHUNK_BYTES, Receiver

QUICK_S = 30.0
_TAR_END_S = 10.0

# $1 final path, $2 temporary path, $3 bytes, $4 mode. A connection that is cut looks like the end of the input.
_PUT = r"""
mkdir -p "$(dirname "$1")" && cat >"$2" && [ "$(wc -c <"$2")" -eq "$3" ] && chmod "$4" "$2" && mv -f "$2" "$1" && exit 0
rm -f "$2"; echo "$1 is not whole" >&2; exit 1
"""
# Some tars say only that they wrote less than they wanted.
GIVE_UP = r"""
give_up() { full=$(set -- $(df -Pk "$1" | tail -n 1); [ "$4" -lt 64 ] && echo "$6: No space left on device")
  rm -rf "$1"; [ -z "$full" ] || echo "$full" >&2; exit 1; }
"""
# $1 folder that is made anew.
UNPACK = GIVE_UP + r"""rm -rf "$1"; mkdir -p "$1" && tar -xof - -C "$1" && exit 0; give_up "$1" """
# $1 temporary folder, $2 final name.
_TAKE_NAME = r"""
if [ -e "$2" ] || [ -L "$2" ]; then rm -rf "$1"; echo "$2 exists already" >&2; exit 1; fi; mv "$1" "$2"
"""


def put_file(
    connection: SshConnection, local: Path, remote: str, *, deadline_s: float, mode: int | None = None
) -> None:
    """Replaces `remote` as a whole; `mode` defaults to the local file's.

    Raises RemoteFailed (no space, no permission), ConnectionLost, StorageError when the local file cannot be read.
    """
    target = safe_path(remote)
    with reading(local), local.open("rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        permissions = format((facts.st_mode if mode is None else mode) & 0o7777, "o")
        temporary = beside(target, "part")
        connection.run_script(
            _PUT, target, temporary, str(facts.st_size), permissions, deadline_s=deadline_s, feed=_chunks(file)
        ).require(f"writing {target}")


def get_file(connection: SshConnection, remote: str, local: Path, *, deadline_s: float) -> None:
    """Replaces `local` as a whole. Raises RemoteFailed when there is no such file, ConnectionLost, StorageError."""
    source = safe_path(remote)
    with durable.storing(local):
        local.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{local.name}.", suffix=".part", dir=local.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            result = connection.run_script('cat "$1"', source, deadline_s=deadline_s, on_stdout=_writer(file, local))
            result.require(f"reading {source}")
        with durable.storing(local):
            os.chmod(temporary, 0o644)
            os.replace(temporary, local)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def put_tree(connection: SshConnection, local: Path, remote: str, *, deadline_s: float) -> None:
    """Copies a folder to a new one; links and modes stay as they are.

    Raises RemoteFailed when `remote` exists, UnsafeName for a name that cannot go there, WorkspaceError for a pipe.
    """
    target = safe_path(remote)
    require_plain(local)
    temporary = beside(target, "part")
    send_tar(connection, local, temporary, ["."], UNPACK, deadline_s=deadline_s)
    # Only now: tar takes an archive that is cut between two files for a whole one.
    take_name(connection, temporary, target)


def get_tree(connection: SshConnection, remote: str, local: Path, *, deadline_s: float) -> None:
    """Copies a folder of the host to a new one here. Raises WorkspaceError when `local` exists."""
    source = safe_path(remote)
    with durable.new_folder(local) as temporary:
        command = ["tar", "-x", "-o", "-f", "-", "-C", str(temporary)]
        with _tar(command, stdin=subprocess.PIPE) as tar:
            assert tar.stdin
            script = 'tar -C "$1" -cf - .'
            result = connection.run_script(
                script, source, deadline_s=deadline_s, on_stdout=_writer(tar.stdin, local)
            )  # fmt: skip
            result.require(f"reading {source}")


def send_tar(
    connection: SshConnection, local: Path, remote: str, names: Sequence[str], script: str, *, deadline_s: float
) -> Result:
    """Packs `names` of the folder `local` into the input of `script`, whose $1 is `remote`. Raises as `put_tree`."""
    # As input and not as arguments: there may be more names than fit.
    listing = b"".join(os.fsencode(name) + b"\0" for name in names)
    command = ["tar", "-C", str(local), "-c", "-f", "-", "--null", "--no-recursion", "-T", "-"]
    if list(names) == ["."]:
        command.remove("--no-recursion")
    with _tar(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tar:
        assert tar.stdin
        assert tar.stdout
        feeder = threading.Thread(target=_hand_over, args=(tar.stdin, listing), name="tar names", daemon=True)
        feeder.start()
        result = connection.run_script(script, remote, deadline_s=deadline_s, feed=_chunks(tar.stdout))
        result.require(f"unpacking into {remote}")
        feeder.join(_TAR_END_S)
    return result


def take_name(connection: SshConnection, temporary: str, final: str) -> None:
    """Renames on the host; RemoteFailed when the name is taken."""
    result = connection.run_script(_TAKE_NAME, temporary, final, deadline_s=QUICK_S)
    result.require(f"renaming to {final}")


def safe_path(remote: str) -> str:
    """A path on the host that names one thing below a folder. Raises UnsafeName."""
    path = PurePosixPath(remote)
    if not remote or not path.name or ".." in path.parts or not remote.isprintable() or remote.startswith("-"):
        raise UnsafeName(f"{remote!r} is no path on a host: no '..', no control characters, not the root folder.")
    return str(path)


def beside(remote: str, what: str) -> str:
    """A hidden name in the same folder, so that a rename is all it takes."""
    path = PurePosixPath(remote)
    return str(path.with_name(f".{path.name}.{what}"))


def require_plain(local: Path) -> int:
    """How many files and links there are. Raises as `walk`."""
    with reading(local):
        return sum(entry is not None and not entry.is_dir(follow_symlinks=False) for _, entry in walk(local))


def walk(local: Path) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Everything below a folder by its path with '/', the folder itself first (`''`, None).

    Raises WorkspaceError for what is no folder, file or link, UnsafeName for what cannot go through a list of names.
    """
    if not local.is_dir():
        raise WorkspaceError(f"{local} is no folder.")
    yield "", None
    waiting = [(str(local), "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                _require_plain(entry)
                yield prefix + entry.name, entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))


def _require_plain(entry: os.DirEntry[str]) -> None:
    texts = [entry.name, os.readlink(entry.path)] if entry.is_symlink() else [entry.name]
    if not all(text.isprintable() and "\\" not in text for text in texts):
        raise UnsafeName(f"{entry.path!r}: a name with control characters, backslashes or broken bytes: rename it.")
    if len(texts) == 1 and not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
        raise WorkspaceError(f"{entry.path} is a pipe, socket or device, which cannot be copied.")


@contextmanager
def reading(local: Path) -> Iterator[None]:
    """Translates what the operating system says about a file below `local`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {error.filename or local}: {error.strerror or error}.") from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _writer(file: IO[bytes], path: Path) -> Receiver:
    """Writes to a file here; what the file system says becomes a StorageError that names `path`."""

    def write(data: bytes) -> None:
        with durable.storing(path):
            file.write(data)

    return write


def _hand_over(pipe: IO[bytes], content: bytes) -> None:
    with suppress(OSError), pipe:
        pipe.write(content)


@contextmanager
def _tar(command: list[str], *, stdin: int, stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A local tar that has to end well, and is killed when the block fails."""
    with tempfile.TemporaryFile() as complaints:
        tar = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=complaints, start_new_session=True)
        try:
            yield tar
            if tar.stdin:
                tar.stdin.close()
            status = tar.wait(_TAR_END_S)
            complaints.seek(0)
            if status:
                raise StorageError(f"{' '.join(command[:3])}: {complaints.read(2000).decode(errors='replace').strip()}")
        finally:
            if tar.poll() is None:
                tar.kill()
                tar.wait(_TAR_END_S)
            for pipe in (tar.stdin, tar.stdout):
                if pipe:
                    with suppress(OSError):
                        pipe.close()
