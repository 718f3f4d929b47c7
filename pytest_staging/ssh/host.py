"""One host of the inventory: its connection, and the one folder there below which everything of ours lies.

- `.pytest-staging`: the marker, which says who made the folder
- `lease/`: who measures there now
- `slot-N/`: the same for a second slot of the host, which is a work directory of its own
- `<workspace id>/versions/<slug>/`: a version's snapshot, and what was built from it
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import ConnectionLost, LeaseTimeout, WorkspaceError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.connection import KILL_DEADLINE_S, SshConnection
from pytest_staging.ssh.files import QUICK_S, safe_path
from pytest_staging.ssh.hosts import connection_to
from pytest_staging.ssh.sync import sync_tree

MARKER = ".pytest-staging"
SYNC_DEADLINE_S = 600.0
RECONNECT_S = 3.0
"""For the clean-up on a host whose connection was lost: it comes on top of the time in which that was noticed."""

# $1: the folder. Prints its real path. Made by two at once it is still one folder; a second slot's lies in the first's.
_PREPARE = rf"""
umask 077
case $1 in /*) root=$1;; *) root=$HOME/$1;; esac
refuse() {{ echo "$1" >&2; exit 3; }}
take() {{
  [ -d "$1" ] || mkdir -p "$1" || exit 1
  [ ! -L "$1" ] && [ -O "$1" ] || refuse "$1 is a link, or belongs to another user"
  if [ ! -f "$1/{MARKER}" ]; then
    [ -z "$(ls -A "$1" | grep -vx 'slot-[0-9]*')" ] || refuse "$1 holds what pytest-staging did not make"
    echo pytest-staging >"$1/{MARKER}" || exit 1
  fi
  chmod 700 "$1" || exit 1
}}
case $root in */slot-[0-9]*) [ -d "${{root%/*}}" ] || take "${{root%/*}}";; esac
take "$root"; cd "$root" && mkdir -p lease && : >>lease/lock && pwd -P
"""


class Host:
    """A host by its name in the inventory. Nothing is dialled before it is needed."""

    def __init__(self, name: str, spec: HostSpec, connection: SshConnection | None = None) -> None:
        """Raises SshConfigError, and UnsafeName for a work directory that is no path below a folder."""
        self.name = name
        self.spec = spec
        self.connection = connection or connection_to(name, spec)
        self.shown_root = safe_path(spec.work_directory.removeprefix("~/"))
        self._root = ""

    @property
    def address(self) -> str:
        """Where load meets its services: as the inventory says, or else where SSH goes."""
        return self.spec.service_address or self.connection.endpoint.address

    @property
    def root(self) -> str:
        """The work directory's real path. Raises as `prepare`."""
        return self._root or self.prepare()

    def prepare(self) -> str:
        """Makes the work directory if it is not there, private to its user, and says its real path.

        Raises WorkspaceError for a folder that is not ours, RemoteFailed (no space, no permission), ConnectionLost,
        and what connecting raises.
        """
        result = self.connection.run_script(_PREPARE, self.shown_root, deadline_s=QUICK_S)
        if result.status == 3:
            words = result.stderr.decode(errors="replace").strip()
            raise WorkspaceError(f"{self.name}: {words}. Name another work_directory for this host in targets.yaml.")
        found = result.require(f"preparing the work directory {self.shown_root}").stdout.decode(errors="replace")
        self._root = safe_path(found.rstrip("\n"))
        return self._root

    def version_folder(self, snapshot: Path) -> str:
        """Where the version whose snapshot lies at `snapshot` on this machine has its files on the host."""
        version = snapshot.resolve().parent
        return safe_path(f"{self.root}/{_workspace_id(version.parent)}/versions/{version.name}")

    def sync_snapshot(self, snapshot: Path) -> str:
        """Makes the host's copy of a snapshot equal to it, and says where that is.

        A copy that is half there never has that name. Raises as `sync_tree`, and LeaseTimeout.
        """
        remote = f"{self.version_folder(snapshot)}/snapshot"
        with _one_at_a_time(snapshot.parent / "images" / f".sync-{self.name}.lock"):
            sync_tree(self.connection, snapshot, remote, deadline_s=SYNC_DEADLINE_S)
        return remote

    def end_marked(self, name: str, value: str) -> int:
        """As `SshConnection.end_marked`; a connection that was lost is dialled once more, for a few seconds only."""
        if self.connection.is_connected:
            with suppress(ConnectionLost):
                return self.connection.end_marked(name, value, KILL_DEADLINE_S)
        with self.dialled_again() as other:
            return other.end_marked(name, value, RECONNECT_S)

    @contextmanager
    def dialled_again(self) -> Iterator[SshConnection]:
        """A connection of its own that is given little time: somebody may be waiting for a host that is gone."""
        with SshConnection(self.connection.endpoint, connect_timeout_s=RECONNECT_S) as other:
            yield other


def _workspace_id(versions_folder: Path) -> str:
    """Tells workspaces of the same host apart, also those of two machines that lie at the same path."""
    with durable.storing(versions_folder):
        facts = versions_folder.stat()
    machine = ""
    with suppress(OSError):
        machine = Path("/etc/machine-id").read_text().strip()
    whole = (socket.gethostname(), machine, os.getuid(), versions_folder, facts.st_dev, facts.st_ino)
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with durable.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path))
        try:
            lock.acquire(timeout=SYNC_DEADLINE_S, poll_interval=0.02)
        except Timeout as error:  # which is an OSError too
            raise LeaseTimeout(f"{path} is held elsewhere for over {SYNC_DEADLINE_S:g} s. Let that finish.") from error
    try:
        yield
    finally:
        lock.release()
