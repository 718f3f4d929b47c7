"""Programs on a host: a version's service, and commands that run to their end, each with its output in a log here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import ConnectionLost, HostUnreachable, LeaseLost, StagingError
from pytest_staging.model.ports import Command, Usage
from pytest_staging.ssh.commands import RemoteProcess
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.forward import PortForward
from pytest_staging.ssh.host import Host
from pytest_staging.targets.local import LEASE_MARK
from pytest_staging.targets.output import BoundedLog
from pytest_staging.targets.remote_lease import lease_mark

SERVICE_MARK = "STAGING_SERVICE"
NOT_FOUND = 127
# Both outputs as one, in their order.
MERGED = ("/bin/sh", "-c", 'exec "$@" 2>&1', "sh")

# $1 the mark in the environment, $2 the session; neither alone finds all. Prints process ids.
MEMBERS = r"""
fields() { set -- ${1##*) }; state=$1 session=$4; }
members() {
  for file in $(grep -laF -e "$1" /proc/[0-9]*/environ 2>/dev/null); do
    file=${file#/proc/}; echo "${file%/environ}"
  done
  for file in /proc/[0-9]*; do
    { read -r line <"$file/stat"; } 2>/dev/null || continue
    fields "$line"; [ "$session" != "$2" ] || [ "$state$unwaited" = Z ] || echo "${file#/proc/}"
  done
}
pids=$(members "$1" "$2" | sort -u)
"""
# Prints CPU ticks per process, id and switches per thread, resident pages per process, by name, and the two units.
# With the dead ones that nobody has waited for: until then what they used is in no other's account.
_USAGE = (
    "unwaited=too\n"
    + MEMBERS
    + r"""
echo "units $(getconf CLK_TCK 2>/dev/null) $(getconf PAGESIZE 2>/dev/null)"
for pid in $pids; do
  { read -r line <"/proc/$pid/stat"; } 2>/dev/null || continue
  set -- ${line##*) }; shift 11; echo "ticks $(($1 + $2 + $3 + $4))"
  { read -r _ pages _ <"/proc/$pid/statm"; } 2>/dev/null && echo "pages $pages"
  cat "/proc/$pid"/task/*/status 2>/dev/null | grep -e ^Pid: -e ctxt_switches
done; true
"""
)
_PEAK = MEMBERS + 'for pid in $pids; do grep -s "^VmHWM:" "/proc/$pid/status"; done; true'
# $3 the port as /proc/net/tcp has it. Prints yes, no, or unknown: nobody listens, or a process does not show its files.
_OWNS = (
    MEMBERS
    + r"""
inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _ _ _ _ _ inode _; do
  case $local in *:$3) [ "$state" != 0A ] || echo "$inode";; esac
done)
[ -n "$inodes" ] || { echo unknown; exit 0; }
answer=no
for pid in $pids; do
  files=$(ls -l "/proc/$pid/fd" 2>/dev/null) || { [ ! -d "/proc/$pid" ] || answer=unknown; continue; }
  for inode in $inodes; do case $files in *"socket:[$inode]"*) echo yes; exit 0;; esac; done
done
echo $answer
"""
)


class StreamedLog:
    """A bounded log of this machine that a host's output flows into while the program runs."""

    def __init__(self, path: Path, echo: Callable[[bytes], None] | None = None) -> None:
        """Raises StorageError."""
        reading, self._writing = os.pipe()
        self._lock = threading.Lock()
        self._closed = False
        try:
            with durable.storing(path):
                self._log = BoundedLog(path, reading, echo)
        except BaseException:
            os.close(reading)
            os.close(self._writing)
            raise

    def receive(self, data: bytes) -> None:
        """Takes all of it; nothing after `close`."""
        with self._lock, suppress(OSError):
            view = memoryview(data)
            while view and not self._closed:
                view = view[os.write(self._writing, view) :]

    def close(self) -> None:
        """What came until now is in the file then. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._writing)
        self._log.close()


class HostRunner:
    """Runs commands on a host: a CommandRunner whose `cwd` is a folder there, while `log` is a file here."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: Command, deadline_s: float) -> int | None:
        """As the Protocol says. Raises FileNotFoundError for a program that the host does not have, ConnectionLost."""
        connection = self._host.connection
        env = {**command.env, **self.marks()}
        log = StreamedLog(command.log, command.echo)
        try:
            result = connection.run(
                [*MERGED, *command.argv], cwd=str(command.cwd), env=env, deadline_s=deadline_s, on_stdout=log.receive
            )
        finally:
            log.close()
        if result.timed_out:
            return None
        if result.lost:
            result.require(command.argv[0])
        if result.status == NOT_FOUND and not self._has(command):
            raise FileNotFoundError(command.argv[0])
        return result.code

    def marks(self) -> Mapping[str, str]:
        """What everything carries that runs under the lease."""
        return {LEASE_MARK: lease_mark(self._host)}

    def _has(self, command: Command) -> bool:
        look = ["/bin/sh", "-c", 'command -v "$1"', "sh", command.argv[0]]
        return self._host.connection.run(look, cwd=str(command.cwd), env=command.env, deadline_s=QUICK_S).ok


class RemoteService:
    """A version as a process of a host. Nothing here waits longer than it takes to find out that the host is gone."""

    def __init__(
        self,
        host: Host,
        process: RemoteProcess,
        mark: str,
        log: StreamedLog,
        port: int,
        *,
        base_url: str,
        forward: PortForward | None,
        lease_lost: Callable[[], str],
    ) -> None:
        self.base_url = base_url
        self._host, self._process, self._mark, self._port = host, process, mark, port
        self._log, self._forward, self._lease_lost = log, forward, lease_lost
        self._stopped = ""

    def poll(self) -> int | None:
        """As the Protocol says, at the cost of no call. Raises ConnectionLost, LeaseLost."""
        if not self._stopped and (reason := self._lease_lost()):
            raise LeaseLost(f"{self._host.name}: the lease of the host was lost: {reason}.")
        return self._process.poll()

    def ending(self) -> str:
        try:
            code = self._process.poll()
        except ConnectionLost as error:
            return f"is lost from sight: {error.reason}"
        if code is None:
            return "still runs"
        self._log.close()
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """As the Protocol says; there is nothing of a process to keep besides its log. Raises ConnectionLost once."""
        if not self._stopped:
            try:
                self._stopped = self._stop(grace_s)
            except (ConnectionLost, HostUnreachable) as error:
                self._stopped = f"could not be stopped: {error}"
                raise ConnectionLost(f"the service on {self._host.name} could not be stopped: {error}") from error
            finally:
                self._close()
        return self._stopped

    def peak_resident_bytes(self) -> int | None:
        """Largest resident memory so far, summed over the group. Raises ConnectionLost."""
        if self._stopped:
            return None
        lines = self._ask(_PEAK).splitlines()
        return sum(int(line.split()[1]) for line in lines) * 1024 if lines else None

    def usage(self) -> Usage | None:
        """What the living processes of the group have used so far, as on this machine. Raises ConnectionLost."""
        return None if self._stopped else _parse_usage(self._ask(_USAGE))

    def owns_endpoint(self) -> bool | None:
        """Whether one of the group holds the socket that listens on the host's port. Raises ConnectionLost."""
        if self._stopped:
            return None
        return {"yes": True, "no": False}.get(self._ask(_OWNS, f"{self._port:04X}").strip())

    def _stop(self, grace_s: float) -> str:
        try:
            self._process.poll()
            return self._process.stop(grace_s)
        except (ConnectionLost, HostUnreachable):
            # A connection may end and the host go on: then what runs there is ours to end.
            try:
                self._host.end_marked(SERVICE_MARK, self._mark)
            except StagingError:
                pass
            else:
                return "killed, after the connection was lost"
            raise

    def _close(self) -> None:
        if self._forward:
            self._forward.close()
        self._log.close()

    def _ask(self, script: str, *more: str) -> str:
        arguments = (f"{SERVICE_MARK}={self._mark}", str(self._process.pid), *more)
        result = self._host.connection.run_script(script, *arguments, deadline_s=QUICK_S)
        return result.require("looking at the service").stdout.decode(errors="replace")


def _parse_usage(text: str) -> Usage | None:
    """What _USAGE prints, summed up over processes; None when no process was there."""
    sums: dict[str, int] = {}
    switches: dict[int, list[int]] = {}
    units, thread = (100, 4096), 0
    for line in text.splitlines():
        name, *numbers = line.replace(":", " ").split()
        if name == "units" and len(numbers) == 2:
            units = (int(numbers[0]), int(numbers[1]))
        elif name == "Pid" and numbers:
            thread = int(numbers[0])
        elif name.endswith("ctxt_switches") and numbers:
            switches.setdefault(thread, []).append(int(numbers[0]))
        elif numbers:
            sums[name] = sums.get(name, 0) + int(numbers[0])
    if "ticks" not in sums:
        return None
    return Usage(
        cpu_s=sums["ticks"] / units[0],
        switches={one: (found[0], found[1]) for one, found in switches.items() if len(found) == 2} or None,
        resident_bytes=sums["pages"] * units[1] if "pages" in sums else None,
    )
