"""Cells as containers of another host's engine, which is reached over SSH alone. The load tool stays on this machine.

Images are built here, once, and shipped to a host that does not have them. A container's port is published on every
address of the host when load goes there directly, and on its loopback address when it goes through the connection.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_staging.engine import LABEL, Engine
from pytest_staging.model.errors import ConnectionLost, HostUnreachable, StagingError
from pytest_staging.model.inventory import HostSpec, Traffic
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.version import ModeSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.engine_link import EngineLink
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.forward import PortForward
from pytest_staging.ssh.host import Host
from pytest_staging.targets.cgroups import PROC, MemoryGroup, machine_oom_kills, memory_group
from pytest_staging.targets.container import LOOPBACK, ContainerService
from pytest_staging.targets.containers import Containers, unfit_reason
from pytest_staging.targets.image_shipping import ship_image
from pytest_staging.targets.local import LocalProcess, LocalTarget
from pytest_staging.targets.remote_clean import LEASE_LABEL
from pytest_staging.targets.remote_lease import TTL_S, lease_mark
from pytest_staging.targets.ssh import SshTarget

# $@ files. Each as + and its text, or nothing when it cannot be read, and a NUL.
_READ = r"""
for file in "$@"; do
  if text=$(cat "$file" 2>/dev/null); then printf '+%s\n\0' "$text"; else printf '\0'; fi
done
"""
# $1 the folder of the lease
_FOLDER = 'stat -c %d:%i "$1"'


class HostEngine(Engine):
    """The engine of a host. What the link to it knows about a failure is said, and not what the SDK makes of that."""

    advice = "Look at it there: sudo systemctl status docker."

    def __init__(self, link: EngineLink) -> None:
        super().__init__()
        self._link = link
        # Not where the last user happens to let go of it: it may be a thread of the link's own.
        end = threading.Thread(target=link.end, name="engine link end", daemon=True)
        weakref.finalize(self, end.start).atexit = False

    @cached_property
    def client(self) -> Any:
        """As everywhere. Each connection of it is a process on the host, and the SDK would keep one for each URL."""
        client = super().client
        adapter, base_url = client.api.get_adapter(client.api.base_url), client.api.base_url
        by_url = adapter.get_connection
        adapter.get_connection = lambda url, proxies=None: by_url(base_url, proxies)
        adapter.close()  # only what is kept already
        return client

    @cached_property
    def address(self) -> str:
        return f"unix://{self._link.listen()}"

    @property
    def shown(self) -> str:
        return str(self._link.endpoint)

    def explained(self, error: StagingError, began: float) -> StagingError:
        known = self._link.failure_since(began)
        if known is None:
            return error
        if isinstance(known, HostUnreachable):
            return ConnectionLost(str(known))
        # Whoever deals with an engine that goes away in the middle of something expects that.
        return known if isinstance(known, ConnectionLost) else type(error)(str(known))


class SshDockerTarget:
    """Containers on the host `name` of the inventory, one cell at a time, under the same lease as its processes.

    `engine` is the one that builds the images. The other arguments are those of `SshTarget`.
    """

    name = "ssh-docker"

    def __init__(
        self,
        name: str,
        host: HostSpec,
        *,
        local: LocalTarget | None = None,
        connection: SshConnection | None = None,
        ttl_s: int = TTL_S,
        engine: Engine | None = None,
    ) -> None:
        """Dials nothing yet. Raises SshConfigError, UnsafeName."""
        self._ssh = SshTarget(name, host, local=local, connection=connection, ttl_s=ttl_s)
        self.host_name, self.host = name, self._ssh.host
        self._builds_on = engine or Engine()
        self._link = EngineLink(self.host.connection.endpoint, self._ssh.runner.marks)
        self._engine = HostEngine(self._link)
        self._labels = HostLabels(self.host)
        self._containers = Containers(self._engine, self._labels)

    def require_ready(self) -> None:
        """Raises what `SshTarget.require_ready` raises, and EngineMissing naming the host."""
        self._ssh.require_ready()
        self._engine.require_answer()

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return unfit_reason(mode)

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """Exclusive on the host, between controllers and with processes too. Raises as `SshTarget.lease`.

        EngineMissing, EngineLost or ConnectionLost when leftovers cannot be looked for.
        """
        with self._ssh.lease(holder, timeout_s):
            # What a dead holder left was ended by its mark, and calls of this program's carry the same one.
            self._link.hang_up()
            self._labels.look_again()
            self._containers.reap()
            try:
                yield
            finally:
                # As on this machine: an interrupt leaves nothing either, and what happened is not hidden.
                with suppress(StagingError):
                    self._containers.reap()
                self._link.close()

    def facts(self) -> Mapping[str, Any]:
        """Those of the host and its engine; of one that does not answer, what is known without it."""
        return {**self._ssh.facts(), **self._containers.facts()}

    def start(self, command: Command) -> LocalProcess:
        return self._ssh.start(command)

    def close(self) -> None:
        """Ends the connections; the next use dials again."""
        self._link.close()
        self._ssh.close()

    def deploy(self, deployment: Deployment) -> ContainerService:
        """As the Protocol says; nothing is left of what cannot be started. Raises ConnectionLost, LeaseLost too.

        The image is shipped first when the host does not have it.
        """
        try:
            self._ssh.require_lease()
            self.host.connection.connect()
            if deployment.mode.image:
                ship_image(deployment.image, self._builds_on, self.host, self._engine, deployment.environment)
            return self._containers.deploy(deployment, HostGround(self.host, self._ssh.lease_lost()))
        except HostUnreachable as error:
            raise ConnectionLost(str(error)) from error


class HostLabels:
    """By which leftovers of a host's lease are found.

    Hosts that share an engine may have work directories of the same name: hence the second one.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._folder = ""

    def look_again(self) -> None:
        """The folder of the lease may have been made anew."""
        self._folder = ""

    def __call__(self) -> dict[str, str]:
        """Raises ConnectionLost, RemoteFailed."""
        mark = lease_mark(self._host)
        if not self._folder:
            found = self._host.connection.run_script(_FOLDER, mark, deadline_s=QUICK_S).require(f"looking at {mark}")
            self._folder = found.stdout.decode(errors="replace").strip()
        return {LEASE_LABEL: mark, f"{LABEL}.lease-folder": self._folder}


class HostGround:
    """The ground of a host's engine: its files are read over SSH, its ports reached as the inventory says."""

    def __init__(self, host: Host, lease_lost: Callable[[], str]) -> None:
        self.name = host.name
        self.lease_lost = lease_lost
        self._host = host
        self._forwarded = host.spec.traffic is Traffic.FORWARDED
        self._forward: PortForward | None = None

    def listen_address(self) -> str:
        if self._forwarded:
            return LOOPBACK
        return "::" if ":" in self._host.address else "0.0.0.0"

    def reach(self, port: int) -> str:
        """Raises ConnectionLost, HostUnreachable."""
        address = self._host.address
        if self._forwarded:
            self._forward = PortForward(self._host.connection, port)
            return f"http://{LOOPBACK}:{self._forward.port}"
        return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"

    def leave(self) -> None:
        if self._forward:
            self._forward.close()

    def memory_group(self, pid: int, container_id: str) -> MemoryGroup | None:
        """Raises ConnectionLost, RemoteFailed."""
        return memory_group(pid, container_id, PROC, self._read)

    def oom_kills(self) -> int | None:
        """Raises ConnectionLost, RemoteFailed."""
        return machine_oom_kills(PROC, self._read)

    def _read(self, paths: Sequence[Path]) -> list[str | None]:
        connection = self._host.connection
        if not connection.is_connected:  # dialling would take as long as it takes to find out that the host is gone
            raise ConnectionLost(f"{self.name}: the connection was lost.")
        result = connection.run_script(_READ, *map(str, paths), deadline_s=QUICK_S).require("looking at a container")
        texts = result.stdout.decode(errors="replace").split("\0")
        return [text[1:] if text.startswith("+") else None for text in texts[: len(paths)]]
