"""Who measures on a host now, safe between controllers that know nothing of each other.

The lease is a file in the work directory, read and written under flock(1) there. It runs out by the host's own uptime,
which no correction of a clock moves, and not by any controller's clock; a boot ends it. Its holder renews it for as
long as it lives. Source: proc_uptime(5), random(4) for boot_id.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_staging.model.errors import ConnectionLost, HostUnreachable, LeaseLost, LeaseTimeout, StagingError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.host import RECONNECT_S, Host
from pytest_staging.targets.local import LEASE_MARK

TTL_S = 60
FIRST_POLL_S, MAX_POLL_S = 0.05, 1.0
CALL_S = 10.0
MAX_HOLDER_LETTERS = 200
_HOLDER_END = re.compile(r"\(pid (\d+)\) on (\S+)$")

# A file: token, boot, uptime in whole seconds at which it ends, epoch second at which it began, holder. One that makes
# no sense, after a full disk say, is free.
_COMMON = r"""
folder=$1; exec 9>>"$1/lock" && flock -w 5 9 || { echo "$1/lock is held" >&2; exit 1; }
read -r up rest </proc/uptime; now=${up%%.*}; read -r boot </proc/sys/kernel/random/boot_id
load() {
  token= born= until=0 since=0 holder=
  [ ! -f "$folder/held" ] ||
    { read -r token; read -r born; read -r until; read -r since; read -r holder; } <"$folder/held"
  case $until in '' | *[!0-9]*) until=0;; esac
  [ "$born" = "$boot" ] || until=0
}
save() {
  printf '%s\n' "$token" "$boot" "$((now + $1 + 1))" "$since" "$holder" >"$folder/new" &&
    mv -f "$folder/new" "$folder/held"
}
"""
# $1 folder, $2 token, $3 seconds, $4 holder, $5 a holder that is known to be dead
_TAKE = (
    _COMMON
    + r"""
load; [ "$now" -ge "$until" ] || [ "${5:-.}" = "$holder" ] || { echo "taken $holder"; exit 0; }
token=$2 holder=$4 since=$(date +%s); save "$3" && echo held
"""
)
# $1 folder, $2 token, $3 seconds
_RENEW = _COMMON + 'load; [ "$token" = "$2" ] || { echo "gone $holder"; exit 0; }; save "$3"'
# $1 folder, $2 token
_RELEASE = _COMMON + 'load; [ "$token" != "$2" ] || rm -f "$1/held"'
# $1 the work directory, which need not be there, nor any of its slots
_LIST = (
    r"""
case $1 in /*) root=$1;; *) root=$HOME/$1;; esac
for folder in "$root/lease" "$root"/slot-*/lease; do
  [ ! -f "$folder/lock" ] || (
    set -- "$folder"; slot=1; case $folder in */slot-*/lease) slot=${folder%/lease} slot=${slot##*-};; esac
"""
    + _COMMON
    + r"""
    load; [ "$now" -ge "$until" ] || echo "$slot $((until - now)) $since $holder"
  )
done
"""
)


@dataclass(frozen=True)
class LeaseInfo:
    """A lease that holds now. Slots count from 1; `held_since` is an epoch second by the host's clock."""

    slot: int
    holder: str
    seconds_left: int
    held_since: int


class HeldLease:
    """A host that is ours until `release`, or until `lost_reason` says otherwise."""

    def __init__(self, host: Host, token: str, ttl_s: int, taken_at: float) -> None:
        self.mark = lease_mark(host)
        self._host, self._token, self._ttl_s = host, token, ttl_s
        self._folder = f"{host.root}/lease"
        self._renewed_at = taken_at
        self._reason = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name=f"lease {host.name}", daemon=True)
        self._thread.start()

    def lost_reason(self) -> str:
        """Why it is not ours any more; empty while it is. Costs no call."""
        if not self._reason and time.monotonic() - self._renewed_at > self._ttl_s and not self._over.is_set():
            self._reason = f"it could not be renewed for {self._ttl_s} s"
        return self._reason

    def require(self) -> None:
        """Raises LeaseLost."""
        if reason := self.lost_reason():
            raise LeaseLost(f"{self._host.name}: the lease of the host was lost: {reason}.")

    def end_leftovers(self) -> int:
        """Kills what was started under the host's lease, whoever held it. Says how many there were."""
        return self._host.end_marked(LEASE_MARK, self.mark)

    def release(self) -> None:
        """Ends what was started under it, and gives it back. On a host that is gone it runs out by itself."""
        self._over.set()
        connection = self._host.connection
        with suppress(ConnectionLost, HostUnreachable):
            if connection.is_connected:
                self._give_back(connection, QUICK_S)
                return
        with suppress(ConnectionLost, HostUnreachable), self._host.dialled_again() as other:
            self._give_back(other, RECONNECT_S)

    def _give_back(self, connection: SshConnection, deadline_s: float) -> None:
        # Only while it is ours: what runs under the mark would be somebody else's.
        if self._renew(connection, deadline_s) == "":
            try:
                connection.end_marked(LEASE_MARK, self.mark, deadline_s)
            finally:
                arguments = (self._folder, self._token)
                connection.run_script(_RELEASE, *arguments, deadline_s=deadline_s).require("giving the lease back")

    def _renew_for_ever(self) -> None:
        while not self._over.wait(self._ttl_s / 4):
            with suppress(StagingError):
                self._reason = self._reason or self._renew(self._host.connection, min(CALL_S, self._ttl_s / 2))
            if self.lost_reason():
                return

    def _renew(self, connection: SshConnection, deadline_s: float) -> str:
        """Empty, or who has it. The time is that before the call: the host's may be no later."""
        began = time.monotonic()
        arguments = (self._folder, self._token, str(self._ttl_s))
        result = connection.run_script(_RENEW, *arguments, deadline_s=deadline_s).require("renewing the lease")
        words = result.stdout.decode(errors="replace").strip()
        if words.startswith("gone"):
            return f"it is held by {words[5:] or 'nobody'}"
        self._renewed_at = began
        return ""


def take_lease(host: Host, holder: str, timeout_s: float, ttl_s: int = TTL_S) -> HeldLease:
    """Waits until the host is free. Raises LeaseTimeout naming the holder, and what `Host.prepare` raises."""
    folder = f"{host.prepare()}/lease"
    token, name = secrets.token_hex(16), _holder_text(holder)
    until, pause_s = time.monotonic() + timeout_s, FIRST_POLL_S
    dead = ""
    while True:
        began = time.monotonic()
        arguments = (folder, token, str(ttl_s), name, dead)
        result = host.connection.run_script(_TAKE, *arguments, deadline_s=QUICK_S).require("taking the lease")
        kind, _, rest = result.stdout.decode(errors="replace").strip().partition(" ")
        if kind == "held":
            return HeldLease(host, token, ttl_s, began)
        if not dead and _is_dead(rest):
            dead = rest
            continue
        if time.monotonic() + pause_s > until:
            waited = f"waited {timeout_s:g} s. Let it finish, or stop it; a dead one's lease ends within {ttl_s} s."
            raise LeaseTimeout(f"the host {host.name} is measured by {rest}; {waited}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, MAX_POLL_S)


def read_leases(connection: SshConnection, host: HostSpec) -> list[LeaseInfo]:
    """The leases that hold on a host now; makes nothing there. Raises RemoteFailed, ConnectionLost, as `connect`."""
    folder = host.work_directory.removeprefix("~/")
    result = connection.run_script(_LIST, folder, deadline_s=QUICK_S).require("reading the leases")
    rows = [line.split(" ", 3) for line in result.stdout.decode(errors="replace").splitlines()]
    return [LeaseInfo(int(slot), holder, int(left), int(since)) for slot, left, since, holder in rows]


def lease_mark(host: Host) -> str:
    """Value of STAGING_LEASE for what we start on a host: the same for every holder, so that leftovers are found."""
    return f"{host.root}/lease"


def _holder_text(holder: str) -> str:
    end = f" (pid {os.getpid()}) on {_here()}"
    return "".join(letter for letter in holder if letter.isprintable())[: MAX_HOLDER_LETTERS - len(end)] + end


def _is_dead(text: str) -> bool:
    """Whether a holder was a process of this machine that has ended: its lease need not be waited for."""
    found = _HOLDER_END.search(text)
    if found is None or found[2] != _here():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@cache
def _here() -> str:
    """This machine, since it started, and the processes that one sees from here: in a container others do."""
    facts = []
    with suppress(OSError):  # not on every system
        facts = [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return f"{socket.gethostname()[:64]}/{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}"
