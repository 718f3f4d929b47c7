"""What the fixture `staging_vm` gives: a host of the inventory, in the hands of an ordinary test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh import files, sync
from pytest_staging.ssh.commands import Result
from pytest_staging.ssh.forward import PortForward
from pytest_staging.ssh.hosts import connection_to

DEADLINE_S = 60.0


class StagingVm:
    """One kept SSH connection. Paths on the host are absolute; every call has a deadline in seconds."""

    def __init__(self, name: str, host: HostSpec) -> None:
        self.name = name
        self.work_directory = host.work_directory
        self.connection = connection_to(name, host)

    def __repr__(self) -> str:
        return f"<StagingVm {self.connection.endpoint}>"

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Result:
        """Runs a program to its end. Its exit status, signal or the loss of the host are in the result."""
        return self.connection.run(argv, env=env, cwd=cwd, stdin=stdin, deadline_s=deadline_s)

    def put(self, local: Path, remote: str, deadline_s: float = DEADLINE_S) -> None:
        """Copies a file or a whole folder; it appears at `remote` at once, or not at all."""
        copy = files.put_tree if local.is_dir() else files.put_file
        copy(self.connection, local, remote, deadline_s=deadline_s)

    def get(self, remote: str, local: Path, deadline_s: float = DEADLINE_S) -> None:
        """Fetches a file or a whole folder."""
        is_folder = self.run(["test", "-d", remote], deadline_s=deadline_s).ok
        copy = files.get_tree if is_folder else files.get_file
        copy(self.connection, remote, local, deadline_s=deadline_s)

    def sync(self, local: Path, remote: str, deadline_s: float = DEADLINE_S) -> sync.Synced:
        """Makes `remote` like `local`, sending only what changed."""
        return sync.sync_tree(self.connection, local, remote, deadline_s=deadline_s)

    def forward(self, port: int, host: str = "127.0.0.1") -> PortForward:
        """Listens on a free port here and leads to `port` there: `with staging_vm.forward(8080) as tunnel`."""
        return PortForward(self.connection, port, host)

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()
