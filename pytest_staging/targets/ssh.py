"""Cells as processes of another host that SSH reaches. The load tool stays on this machine.

A service listens on every address of the host when load goes there directly, and on its loopback address when it goes
through the connection; which of them is the inventory's word (`traffic`).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_staging.model.errors import ConnectionLost, HostUnreachable, ServiceFailed, StagingError, ToolMissing
from pytest_staging.model.inventory import HostSpec, Traffic
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.version import ModeSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.forward import PortForward
from pytest_staging.ssh.host import Host
from pytest_staging.ssh.shell import NO_FOLDER
from pytest_staging.targets.local import LEASE_MARK, LOOPBACK, LocalProcess, LocalTarget, end_marked, start_command
from pytest_staging.targets.remote_facts import missing_tools, read_facts
from pytest_staging.targets.remote_lease import TTL_S, HeldLease, take_lease
from pytest_staging.targets.remote_process import (
    MERGED,
    NOT_FOUND,
    SERVICE_MARK,
    HostRunner,
    RemoteService,
    StreamedLog,
)

# Below the ports that systems give to outgoing connections.
PORTS = range(20000, 32768)
# $1 the program. The ports in use, as /proc/net/tcp has them.
_LOOK = r"""
command -v "$1" >/dev/null || exit 127
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _; do
  case $local in *:*) echo "${local##*:}";; esac
done | sort -u
"""


class SshTarget:
    """Processes on the host `name` of the inventory, one cell at a time.

    A second slot of a host is a target with a work directory of its own. `runner` runs builds there, under the same
    lease. `ttl_s` is how long the lease of a controller that died still holds; it is renewed four times as often.
    """

    name = "ssh"

    def __init__(
        self,
        name: str,
        host: HostSpec,
        *,
        local: LocalTarget | None = None,
        connection: SshConnection | None = None,
        ttl_s: int = TTL_S,
    ) -> None:
        """Dials nothing yet. Raises SshConfigError, UnsafeName."""
        self.host_name = name
        self.host = Host(name, host, connection)
        self.runner = HostRunner(self.host)
        self._local = local or LocalTarget()
        self._ttl_s = ttl_s
        self._held: HeldLease | None = None
        self._facts: Mapping[str, Any] = {}

    def require_ready(self) -> None:
        """Raises what connecting raises, WorkspaceError for a work directory that is not ours, ToolMissing."""
        self.host.prepare()
        if missing := missing_tools(self.host.connection):
            words = ", ".join(missing)
            raise ToolMissing(f"{self.host_name}: the host has no {words}. Install it there (apt-get install {words}).")

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return None if mode.start else "has no start command"

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """Exclusive on the host, between controllers too. Raises LeaseTimeout, and what `Host.prepare` raises.

        Load tools that a dead holder left on this machine are ended too.
        """
        held = take_lease(self.host, holder, timeout_s, self._ttl_s)
        self._held = held
        generator_mark = self._generator_mark()
        try:
            held.end_leftovers()
            end_marked(LEASE_MARK, generator_mark)
            yield
        finally:
            self._held = None
            try:
                end_marked(LEASE_MARK, generator_mark)
            finally:
                held.release()

    def facts(self) -> Mapping[str, Any]:
        """Those of the host; of one that does not answer, what it said before."""
        try:
            self._facts = read_facts(self.host.connection)
        except StagingError:
            self._facts = {**self._facts, "load_average_1min": None} if self._facts else {}
        return {"name": self.host_name, "address": self.host.address, **self._facts}

    def deploy(self, deployment: Deployment) -> RemoteService:
        """As the Protocol says; nothing is left of what cannot be started. Raises ConnectionLost, LeaseLost too.

        The image's `path` is a folder of the host.
        """
        self.require_lease()
        log = StreamedLog(deployment.log)
        try:
            return self._deploy(deployment, log)
        except BaseException as error:
            log.close()
            if isinstance(error, HostUnreachable):
                raise ConnectionLost(str(error)) from error
            raise

    def require_lease(self) -> None:
        """Raises LeaseLost when the lease that was taken is not ours any more."""
        if self._held:
            self._held.require()

    def lease_lost(self) -> Callable[[], str]:
        """Says, at the cost of no call, why the lease that is held now was lost; nothing while it was not."""
        return self._held.lost_reason if self._held else str

    def start(self, command: Command) -> LocalProcess:
        """On this machine, but under the host's lease: another campaign may measure here and end what is its own."""
        return LocalProcess(command, {LEASE_MARK: self._generator_mark()})

    def close(self) -> None:
        """Ends the connection; the next use dials again."""
        self.host.connection.close()

    def _deploy(self, deployment: Deployment, log: StreamedLog) -> RemoteService:
        host, forwarded = self.host, self.host.spec.traffic is Traffic.FORWARDED
        placed = replace(deployment, snapshot=Path(host.sync_snapshot(deployment.snapshot)))
        listen = LOOPBACK if forwarded else "::" if ":" in host.address else "0.0.0.0"
        port = self._free_port(start_command(placed, listen, 0))
        command, mark = start_command(placed, listen, port), uuid.uuid4().hex
        process = host.connection.start(
            [*MERGED, *command.argv],
            cwd=str(command.cwd),
            env={**command.env, **self.runner.marks(), SERVICE_MARK: mark},
            on_stdout=log.receive,
        )
        try:
            forward = PortForward(host.connection, port) if forwarded else None
        except BaseException:
            process.stop(0.0)
            raise
        shown = f"[{host.address}]" if ":" in host.address else host.address
        base_url = f"http://{LOOPBACK}:{forward.port}" if forward else f"http://{shown}:{port}"
        return RemoteService(
            host, process, mark, log, port, base_url=base_url, forward=forward, lease_lost=self.lease_lost()
        )

    def _free_port(self, command: Command) -> int:
        """Nobody listens there now. Raises ServiceFailed when there is nothing to start."""
        program, folder = command.argv[0], str(command.cwd)
        look = ["/bin/sh", "-c", _LOOK, "sh", program]
        result = self.host.connection.run(look, cwd=folder, env=command.env, deadline_s=QUICK_S)
        if result.status == NO_FOLDER:
            raise ServiceFailed(f"the service cannot be started: {folder} is not on {self.host_name}; build it again")
        if result.status == NOT_FOUND:
            raise ServiceFailed(f"the service cannot be started: no such program on {self.host_name}: {program}")
        taken = {int(word, 16) for word in result.require("looking for a free port").stdout.split()}
        return random.choice([port for port in PORTS if port not in taken])

    def _generator_mark(self) -> str:
        """Of what runs on this machine for the host."""
        where = f"{self.host.connection.endpoint.address}:{self.host.connection.endpoint.port}"
        return f"{self._local.lease_path}@{where}{self.host.shown_root}"
