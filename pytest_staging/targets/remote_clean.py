"""Removes everything that campaigns made on a host: what runs there by its marks, images, then the work directory."""

from __future__ import annotations

import re

from pytest_staging.model.errors import LeaseTimeout, RemoteFailed, WorkspaceError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S, safe_path
from pytest_staging.ssh.host import MARKER, SYNC_DEADLINE_S
from pytest_staging.targets.local import LEASE_MARK
from pytest_staging.targets.remote_lease import read_leases
from pytest_staging.wording import number_of

LEASE_LABEL = "pytest-staging.lease"
NOT_OURS = 3
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
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
# An engine that does not answer has no container that runs, and must not keep the files there.
_CONTAINERS = rf"""
command -v docker >/dev/null || exit 0
docker ps --all --quiet --no-trunc --filter "label={LEASE_LABEL}=$1" 2>/dev/null || true
"""
_REMOVE_CONTAINERS = 'docker rm --force --volumes "$@" >/dev/null'
# $1 the work directory. The images that were brought there, but those that the engine says it does not have.
_IMAGES = r"""
[ -f "$1/images" ] && command -v docker >/dev/null || exit 0
sort -u "$1/images" | while read -r id; do
  said=$(docker image inspect "$id" 2>&1 >/dev/null </dev/null) ||
    case $said in *"No such image"*) continue;; esac
  echo "$id"
done; true
"""
# $@ images. Never by force: somebody may have given one a name, or run it.
_REMOVE_IMAGES = 'for id in "$@"; do said=$(docker image rm "$id" 2>&1 >/dev/null </dev/null) || echo "$id $said"; done'
# $1 the work directory, then the images that could not be removed. The marker goes last: what is left after an
# interruption is still known to be ours.
_REMOVE = rf"""
cd "$1" && [ -f {MARKER} ] || exit 1
find . -mindepth 1 -maxdepth 1 ! -name {MARKER} ! -name images -exec rm -rf {{}} + || exit 1
root=$1; shift; [ $# -eq 0 ] || {{ printf '%s\n' "$@" >images; exit; }}
cd / && rm -rf "$root"
"""


def clean(connection: SshConnection, host: HostSpec, *, dry_run: bool = False, force: bool = False) -> list[str]:
    """Says what it removed, or with `dry_run` what it would remove; nothing is an empty list.

    Raises WorkspaceError for a work directory that is not ours, LeaseTimeout while somebody measures there (`force`
    ends that), RemoteFailed (also for an image that is in use), ConnectionLost, and what connecting raises.
    """
    shown = safe_path(host.work_directory.removeprefix("~/"))
    looked = connection.run_script(_LOOK, shown, deadline_s=SYNC_DEADLINE_S)
    if looked.status == NOT_OURS:
        where = f"{host.work_directory} on {connection.endpoint}"
        raise WorkspaceError(f"{where} was not made by pytest-staging for this user, so nothing there is removed.")
    lines = looked.require(f"looking at {shown}").stdout.decode(errors="replace").splitlines()
    if not lines:
        return []
    if not force:
        _require_free(connection, host)
    root, kib, versions, *marks = lines
    removed = [said for mark in marks for said in _end(connection, mark, dry_run)]
    images = [one for one in _ask(connection, _IMAGES, root).split() if IMAGE_ID.fullmatch(one)]
    removed += [f"{len(images)} images that were brought to the host's engine"] if images else []
    if not dry_run:
        if not force:  # somebody may have come meanwhile
            _require_free(connection, host)
        _remove(connection, root, images)
    return [*removed, f"{root}: {number_of(int(versions), 'version')}, {int(kib) / 1024:.1f} MiB"]


def _remove(connection: SshConnection, root: str, images: list[str]) -> None:
    """Images first, because the list of them lies in the folder."""
    refused = _ask(connection, _REMOVE_IMAGES, *images, deadline_s=SYNC_DEADLINE_S).splitlines() if images else []
    left = [line.split()[0] for line in refused]
    connection.run_script(_REMOVE, root, *left, deadline_s=SYNC_DEADLINE_S).require(f"removing {root}")
    if refused:
        raise RemoteFailed(f"{connection.endpoint}: all is removed but {len(left)} images: {'; '.join(refused)}")


def _require_free(connection: SshConnection, host: HostSpec) -> None:
    if leases := read_leases(connection, host):
        raise LeaseTimeout(
            f"{connection.endpoint} is measured by {leases[0].holder}. Let it finish, or stop it; --force removes what "
            "it works with."
        )


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


def _ask(connection: SshConnection, script: str, *arguments: str, deadline_s: float = QUICK_S) -> str:
    result = connection.run_script(script, *arguments, deadline_s=deadline_s).require("looking for leftovers")
    return result.stdout.decode(errors="replace")
