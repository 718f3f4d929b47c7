"""Removes everything that campaigns made on a host: what runs there by its marks, then the work directory."""

from __future__ import annotations

from pytest_staging.model.errors import LeaseTimeout, WorkspaceError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S, safe_path
from pytest_staging.ssh.host import MARKER, SYNC_DEADLINE_S
from pytest_staging.targets.local import LEASE_MARK
from pytest_staging.targets.remote_lease import read_leases

LEASE_LABEL = "pytest-staging.lease"
NOT_OURS = 3
# $1 the work directory. Its real path, KiB, versions; then each of its leases' marks.
_LOOK = rf"""
case $1 in /*) root=$1;; *) root=$HOME/$1;; esac
[ -e "$root" ] || [ -L "$root" ] || exit 0
[ ! -L "$root" ] && [ -d "$root" ] && [ -O "$root" ] && [ -f "$root/{MARKER}" ] || exit {NOT_OURS}
cd "$root" && pwd -P || exit 1
set -- $(du -sk .); echo "$1"; ls -d ./*/versions/* slot-*/*/versions/* 2>/dev/null | wc -l
for folder in lease slot-*/lease; do [ ! -d "$folder" ] || echo "$(pwd -P)/$folder"; done
"""
# $1 the mark
_COUNT_PROCESSES = rf"""grep -laF -e "{LEASE_MARK}=$1" /proc/[0-9]*/environ 2>/dev/null | wc -l"""
_CONTAINERS = rf"""
command -v docker >/dev/null || exit 0
docker ps --all --quiet --no-trunc --filter "label={LEASE_LABEL}=$1" 2>/dev/null
"""
_REMOVE_CONTAINERS = 'docker rm --force --volumes "$@" >/dev/null'
# The marker goes last: what is left after an interruption is still known to be ours.
_REMOVE = rf"""
cd "$1" && [ -f {MARKER} ] && find . -mindepth 1 -maxdepth 1 ! -name {MARKER} -exec rm -rf {{}} + &&
  cd / && rm -rf "$1"
"""


def clean(connection: SshConnection, host: HostSpec, *, dry_run: bool = False, force: bool = False) -> list[str]:
    """Says what it removed, or with `dry_run` what it would remove; nothing is an empty list.

    Raises WorkspaceError for a work directory that is not ours, LeaseTimeout while somebody measures there (`force`
    ends that), RemoteFailed, ConnectionLost, and what connecting raises.
    """
    shown = safe_path(host.work_directory.removeprefix("~/"))
    looked = connection.run_script(_LOOK, shown, deadline_s=SYNC_DEADLINE_S)
    if looked.status == NOT_OURS:
        where = f"{host.work_directory} on {connection.endpoint}"
        raise WorkspaceError(f"{where} was not made by pytest-staging for this user, so nothing there is removed.")
    lines = looked.require(f"looking at {shown}").stdout.decode(errors="replace").splitlines()
    if not lines:
        return []
    if not force and (leases := read_leases(connection, host)):
        raise LeaseTimeout(f"{connection.endpoint} is measured by {leases[0].holder}. Let it finish, or stop it.")
    root, kib, versions, *marks = lines
    removed = [said for mark in marks for said in _end(connection, mark, dry_run)]
    if not dry_run:
        script = connection.run_script(_REMOVE, root, deadline_s=SYNC_DEADLINE_S)
        script.require(f"removing {root}")
    return [*removed, f"{root}: {versions.strip()} versions, {int(kib) / 1024:.1f} MiB"]


def _end(connection: SshConnection, mark: str, dry_run: bool) -> list[str]:
    """Processes and containers that carry a lease's mark."""
    containers = _ask(connection, _CONTAINERS, mark).split()
    if dry_run:
        processes = int(_ask(connection, _COUNT_PROCESSES, mark))
    else:
        if containers:
            _ask(connection, _REMOVE_CONTAINERS, *containers)
        processes = connection.end_marked(LEASE_MARK, mark)
    counts = {"processes": processes, "containers": len(containers)}
    return [f"{count} {what} of {mark}" for what, count in counts.items() if count]


def _ask(connection: SshConnection, script: str, *arguments: str) -> str:
    result = connection.run_script(script, *arguments, deadline_s=QUICK_S).require("looking for leftovers")
    return result.stdout.decode(errors="replace")
