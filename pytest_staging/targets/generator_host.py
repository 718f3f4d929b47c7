"""One host that sends load: what it has, what is brought there, and the programs that run there."""

from __future__ import annotations

import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import (
    HOST_GONE,
    ConnectionLost,
    HostUnreachable,
    LoadFailed,
    ToolMissing,
    ToolUnsupported,
)
from pytest_staging.model.inventory import GeneratorSpec
from pytest_staging.model.placing import Clock, Need
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S, put_file
from pytest_staging.ssh.host import SYNC_DEADLINE_S, Host
from pytest_staging.ssh.sync import sync_tree
from pytest_staging.targets.clock import measure_clock
from pytest_staging.targets.local import LEASE_MARK
from pytest_staging.targets.remote_facts import missing_tools, read_facts
from pytest_staging.targets.remote_lease import lease_mark
from pytest_staging.targets.remote_process import MERGED, StreamedLog

# Below the ports that systems give to outgoing connections.
PORTS = range(20000, 32768)
ASK_S = 30.0
# $1 a Python, $2 a program or nothing, then what makes it say its version. Each answer on a line of its own.
_LOOK = r"""
command -v "$1" || echo
"$1" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo
uname -s; uname -m
if [ -z "$2" ]; then program=$1; else program=$(command -v "$2"); fi; echo "$program"; shift 2
[ -z "$program" ] || "$program" "$@" 2>&1 </dev/null | head -c 2000 | tr '\n' ' '; echo
"""
# The ports in use, as /proc/net/tcp has them.
_TAKEN = r"""
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _; do
  case $local in *:*) echo "${local##*:}";; esac
done | sort -u
"""
# $1 a file that came whole under a name of its own, $2 the name that it gets, then what makes it say its version.
_TAKE_PROGRAM = (
    r"""[ "$1" = "$2" ] || mv -f "$1" "$2" || exit 1; program=$2; shift 2; "$program" "$@" 2>&1 </dev/null"""
)
# $1 a file, $2 the process that is to write it. Ends without a word when that process has ended.
AWAIT = r"""
while [ ! -f "$1" ]; do
  [ -d "/proc/$2" ] || { [ -f "$1" ] || exit 0; break; }
  sleep 0.02
done
cat "$1"
"""
LEAST_PYTHON = (3, 10)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a generator has for a load tool: the paths of its Python and of the tool's program, and the version."""

    python: str
    program: str
    version: str


class GeneratorHost:
    """The generator `name` of the inventory. Nothing is dialled before it is needed.

    Everything here raises ConnectionLost or HostUnreachable that names the generator.
    """

    def __init__(self, name: str, spec: GeneratorSpec, connection: SshConnection | None = None) -> None:
        """Raises SshConfigError, UnsafeName."""
        self.name = name
        self.host = Host(name, spec.as_host(), connection)
        self._python = spec.python
        self._fits: dict[str, Fit] = {}
        self._facts: Mapping[str, object] = {}

    @property
    def peer_address(self) -> str:
        """Where other generators reach it."""
        return self.host.address

    @property
    def work(self) -> str:
        """The folder for the load that it sends now."""
        return f"{self.host.root}/load/work"

    @property
    def marks(self) -> Mapping[str, str]:
        """What everything carries that runs under its lease."""
        return {LEASE_MARK: lease_mark(self.host)}

    @property
    def machine(self) -> str:
        """What a calibration holds on: this host with these CPUs."""
        facts = self.facts()
        endpoint = self.host.connection.endpoint
        return f"{self.name} ({endpoint.address}:{endpoint.port}): {facts['cpus']} x {facts['cpu']}"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of the block that say that a host is gone say that it is this generator."""
        try:
            yield
        except HOST_GONE as error:
            kind = ConnectionLost if isinstance(error, ConnectionLost) else HostUnreachable
            raise kind(f"generator {self.name}: {error}") from error

    def facts(self) -> Mapping[str, object]:
        """CPU, kernel and memory, as they were found first."""
        if not self._facts:
            with self.named():
                self._facts = read_facts(self.host.connection)
        return self._facts

    def fit(self, tool: str, need: Need) -> Fit:
        """Looked at once; a program of this machine is brought there if need be. Raises ToolMissing and its kinds."""
        if tool not in self._fits:
            with self.named():
                self._fits[tool] = self._find_fit(tool, need)
        return self._fits[tool]

    def clock(self) -> Clock:
        """As it is now."""
        with self.named():
            return measure_clock(self.host.connection, self._python)

    def free_ports(self, count: int) -> tuple[int, ...]:
        """Where nobody listens now."""
        with self.named():
            result = self.host.connection.run_script(_TAKEN, deadline_s=QUICK_S).require("looking for free ports")
        taken = {int(word, 16) for word in result.stdout.split()}
        free = [port for port in PORTS if port not in taken]
        return tuple(free[at] for at in secrets.SystemRandom().sample(range(len(free)), count))

    def bring(self, files: Mapping[str, Path], folders: Sequence[str] = ()) -> None:
        """Makes the folder `work` hold exactly those files, by their paths in it, and empty `folders`."""
        with tempfile.TemporaryDirectory(prefix="staging-load-") as name:
            stage = Path(name)
            with durable.storing(stage):
                for folder in folders:
                    (stage / folder).mkdir(parents=True, exist_ok=True)
                for path, source in files.items():
                    (stage / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, stage / path)
            with self.named():
                sync_tree(self.host.connection, stage, self.work, deadline_s=SYNC_DEADLINE_S)

    @contextmanager
    def responding(self, program: Path, log: Path, env: Mapping[str, str]) -> Iterator[tuple[str, int]]:
        """The address there of what `program` serves, and its process; `env` marks all of it. Raises LoadFailed."""
        connection, folder = self.host.connection, f"{self.host.root}/load"
        there, port_file = f"{folder}/{program.name}", f"{folder}/port"
        with self.named():
            put_file(connection, program, there, deadline_s=SYNC_DEADLINE_S)
            connection.run_script('rm -f "$1"', port_file, deadline_s=QUICK_S).require("removing a port")
            processes = str(max(1, int(str(self.facts()["cpus"] or 1)) // 2))
            argv = [*MERGED, self._python, "-I", there, port_file, processes]
            streamed = StreamedLog(log)
            process = connection.start(argv, cwd=folder, env={**env, **self.marks}, on_stdout=streamed.receive)
        try:
            arguments = (port_file, str(process.pid))
            waited = connection.run_script(AWAIT, *arguments, deadline_s=ASK_S)
            if not waited.stdout.strip().isdigit():
                raise LoadFailed(f"generator {self.name}: the service that does nothing did not start", log.read_text())
            yield f"http://127.0.0.1:{waited.stdout.decode().strip()}", process.pid
        finally:
            process.stop(0.0)
            streamed.close()

    def close(self) -> None:
        """Ends the connection; the next use dials again."""
        self.host.connection.close()

    def _find_fit(self, tool: str, need: Need) -> Fit:
        self.host.prepare()
        connection = self.host.connection
        if missing := missing_tools(connection):
            words = ", ".join(missing)
            raise ToolMissing(f"generator {self.name} has no {words}. Install it there (apt-get install {words}).")
        asked = connection.run_script(_LOOK, self._python, need.program, *need.question, deadline_s=ASK_S)
        lines = asked.require("looking for the load tool").stdout.decode(errors="replace").splitlines()
        python, python_version, system, machine, program, said = [*lines, *[""] * 6][:6]
        self._require_python(python, python_version)
        found = re.search(need.pattern, said)
        version = found[1] if found else ""
        if need.here and version != need.wanted:
            program, version = self._bring_program(tool, need, (system, machine))
        if not version:
            what = f"{self._python} there has no {tool}" if not need.program else f"it has no {tool}"
            shown = f" ({' '.join(said.split())[-200:]})" if said.strip() and not need.program else ""
            raise ToolMissing(f"generator {self.name}: {what}{shown}. {need.advice}")
        if tuple(map(int, version.split("."))) < need.least:
            least = ".".join(map(str, need.least))
            raise ToolUnsupported(f"generator {self.name}: {tool} is {version}, and {least} or newer is needed.")
        return Fit(python=python, program=program, version=version)

    def _require_python(self, path: str, version: str) -> None:
        least = ".".join(map(str, LEAST_PYTHON))
        if not path or not version:
            raise ToolMissing(
                f"generator {self.name}: {self._python} is no Python there, and {least} or newer is needed. Install it "
                "(apt-get install python3), or name one with python: in targets.yaml."
            )
        if tuple(map(int, version.split("."))) < LEAST_PYTHON:
            raise ToolUnsupported(f"generator {self.name}: {path} is Python {version}, and {least} or newer is needed.")

    def _bring_program(self, tool: str, need: Need, kind: tuple[str, str]) -> tuple[str, str]:
        """Path and version there of this machine's own program, which is sent once for each content."""
        assert need.here
        assert need.wanted
        if kind != (platform.system(), platform.machine()):
            raise ToolMissing(
                f"generator {self.name} is {' '.join(kind)}, for which this machine has no {tool}. Install {tool} "
                f"{need.wanted} there, the version that is here."
            )
        connection = self.host.connection
        folder = f"{self.host.root}/load/programs/{durable.hash_file(need.here)[:32]}"
        path = coming = f"{folder}/{need.program}"
        if not connection.run_script('[ -x "$1" ]', path, deadline_s=QUICK_S).ok:
            coming = f"{folder}/coming-{secrets.token_hex(8)}"  # two controllers may send it at once
            put_file(connection, need.here, coming, deadline_s=SYNC_DEADLINE_S, mode=0o755)
        asked = connection.run_script(_TAKE_PROGRAM, coming, path, *need.question, deadline_s=ASK_S)
        found = re.search(need.pattern, asked.stdout.decode(errors="replace"))
        if found is None or found[1] != need.wanted:
            said = " ".join(asked.stdout.decode(errors="replace").split())[-200:] or asked.ending
            raise ToolMissing(
                f"generator {self.name}: this machine's {tool} does not run there ({said}). Install {tool} "
                f"{need.wanted} there."
            )
        return path, found[1]
