"""A local folder made equal on a host, sending only what differs.

Each side says what it has in the same manifest: hashes, executable bits, links and folders in sorted lines. The host's
is made from what lies there at that moment and not from a record: a record would vouch for files that somebody has
changed since. While the host hashes, so does this machine. Equal digests of the manifests are the end of it.

A change is made in a copy of hard links, whose manifest has to be right before it gets the folder's name. So what has
that name is always whole; for the moment between two renames nothing has it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import RemoteFailed
from pytest_staging.ssh import files
from pytest_staging.ssh.commands import Result
from pytest_staging.ssh.connection import SshConnection

# Prints the manifest of the folder $1. The words before each line keep the kinds apart.
_SURVEY = r"""
survey() (
  export LC_ALL=C; cd "$1" || exit 1
  { find . -type f -exec sha256sum {} + | sed 's/^\([0-9a-f]*\)  */file \1 /'
    find . -type d | sed 's/^/folder /'; find . -type f -perm -100 | sed 's/^/program /'
    find . -type l | while IFS= read -r link; do printf 'link %s -> %s\n' "$link" "$(readlink "$link")"; done
    find . ! -type f ! -type d ! -type l | sed 's/^/other /'
  } | sort
)
"""
# $1 the folder, $2 the copy, $3 where the former folder goes. A stop between two renames is mended first.
_LOOK = (
    _SURVEY
    + r"""
rm -rf "$2"
if [ -d "$3" ]; then if [ -e "$1" ]; then rm -rf "$3"; else mv "$3" "$1"; fi; fi
[ -e "$1" ] || [ -L "$1" ] || { echo none; exit 0; }
[ -d "$1" ] && [ ! -L "$1" ] || { echo "$1 is no folder" >&2; exit 1; }
survey "$1" | sha256sum
"""
)
# $1 the folder.
_LIST = _SURVEY + 'survey "$1"'
# $1 the folder, $2 the copy; its input names what must not be in the copy.
_COPY = files.GIVE_UP + r"""cp -al "$1" "$2" && cd "$2" && xargs -0 rm -rf -- && exit 0; give_up "$2" """
# $1 the copy.
_ADD = files.GIVE_UP + r"""tar -xof - -C "$1" && exit 0; give_up "$1" """
# $1 the folder, $2 the copy, $3 where the former folder goes, $4 the digest that the copy has to have.
_TAKE_OVER = (
    _SURVEY
    + r"""
found=$(survey "$2" | sha256sum); found=${found%% *}
if [ "$found" != "$4" ]; then rm -rf "$2"; echo "it is not what was sent" >&2; exit 1; fi
mv "$1" "$3" && mv "$2" "$1" && rm -rf "$3"
"""
)


@dataclass(frozen=True)
class Synced:
    """What a sync did, in files, links and new folders. `whole`: there was nothing to build on."""

    sent: int
    removed: int
    whole: bool = False


def sync_tree(connection: SshConnection, local: Path, remote: str, *, deadline_s: float) -> Synced:
    """Makes the folder `remote` equal to `local`; what is only there goes. `deadline_s` holds for each step.

    One at a time for each folder. Raises RemoteFailed, ConnectionLost (the folder is then as it was), UnsafeName,
    WorkspaceError.
    """
    folder = files.safe_path(remote)
    copy, former = files.beside(folder, "sync"), files.beside(folder, "former")
    looking = _Looking(connection, folder, copy, former, deadline_s)
    wanted = build_manifest(local, is_needless=looking.found_none)
    found = looking.answer()
    if found == "none":
        count = files.require_plain(local)
        files.send_tar(connection, local, copy, ["."], files.UNPACK, deadline_s=deadline_s)
        files.take_name(connection, copy, folder)
        return Synced(sent=count, removed=0, whole=True)
    digest = hashlib.sha256(wanted).hexdigest()
    if found == digest:
        return Synced(sent=0, removed=0)
    listed = connection.run_script(_LIST, folder, deadline_s=deadline_s).require(f"looking at {folder}").stdout
    here, there = _entries(wanted), _entries(listed)
    removed = sorted(name for name in there if there[name] != here.get(name))
    sent = sorted(name for name in here if here[name] != there.get(name))
    _change(connection, local, folder, copy, removed, sent, deadline_s)
    take_over = connection.run_script(_TAKE_OVER, folder, copy, former, digest, deadline_s=deadline_s)
    take_over.require(f"syncing {local} to {folder}")
    return Synced(sent=len(sent), removed=len(set(removed) - set(here)))


def build_manifest(local: Path, is_needless: Callable[[], bool] = lambda: False) -> bytes:
    """What `survey` prints on a host for the same tree; nothing as soon as it `is_needless`.

    Raises UnsafeName and WorkspaceError for what cannot be copied, StorageError for what cannot be read.
    """
    lines = []
    with files.reading(local):
        for name, entry in files.walk(local):
            if is_needless():
                return b""
            path = f"./{name}" if name else "."
            if entry is None or entry.is_dir(follow_symlinks=False):
                lines.append(f"folder {path}")
            elif entry.is_symlink():
                lines.append(f"link {path} -> {os.readlink(entry.path)}")
            else:
                lines.append(f"file {durable.hash_file(Path(entry.path))} {path}")
                if entry.stat(follow_symlinks=False).st_mode & 0o100:
                    lines.append(f"program {path}")
    return b"".join(sorted(os.fsencode(line) + b"\n" for line in lines))


class _Looking:
    """The host's part of the comparison, while this machine does its own."""

    def __init__(self, connection: SshConnection, folder: str, copy: str, former: str, deadline_s: float) -> None:
        self._folder = folder
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._look, args=(connection, (folder, copy, former), deadline_s), name="ssh survey", daemon=True
        )
        self._thread.start()

    def found_none(self) -> bool:
        """Whether the host has said that there is no such folder."""
        return self._result is not None and self._result.stdout == b"none\n"

    def answer(self) -> str:
        """`none`, or the digest of the host's manifest. The command's own deadline bounds the wait."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        words = self._result.require(f"looking at {self._folder}").stdout.decode().split()
        return words[0]

    def _look(self, connection: SshConnection, arguments: Iterable[str], deadline_s: float) -> None:
        try:
            self._result = connection.run_script(_LOOK, *arguments, deadline_s=deadline_s)
        except BaseException as error:
            self._error = error


def _change(
    connection: SshConnection,
    local: Path,
    folder: str,
    copy: str,
    removed: list[str],
    sent: list[str],
    deadline_s: float,
) -> None:
    unwanted = b"".join(os.fsencode(name) + b"\0" for name in removed if name != ".")
    connection.run_script(_COPY, folder, copy, deadline_s=deadline_s, feed=[unwanted]).require(f"copying {folder}")
    if sent:
        files.send_tar(connection, local, copy, sent, _ADD, deadline_s=deadline_s)


def _entries(manifest: bytes) -> dict[str, str]:
    """Each path with all that is said about it. Raises RemoteFailed for lines that no manifest has."""
    entries: dict[str, str] = {}
    for line in manifest.decode(errors="surrogateescape").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "file":
            value, _, name = rest.partition(" ")
        elif kind == "link":
            name, _, value = rest.partition(" -> ")
        else:
            name, value = rest, ""
        if not name.startswith("."):
            raise RemoteFailed(f"the host's list of files has a line that makes no sense: {line[:200]!r}")
        entries[name] = f"{entries.get(name, '')}{kind} {value};"
    return entries
