"""What the fixture `staging_vm` gives: a host of the inventory, in the hands of an ordinary test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh import files, sync
from pytest_staging.ssh.commands import Result
from pytest_staging.ssh.forward import PortForward
from pytest_staging.ssh.hosts import connection_to

DEADLINE_S = 60.0


class StagingVm:
    """One kept SSH connection. Paths on the host are absolute; every call has a deadline in seconds.

    Tests are seldom checked for types, so what would be misread is refused: UsageProblem.
    """

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
        if isinstance(argv, (str, bytes)) or not all(isinstance(word, str) for word in argv):
            # A text is a sequence of words too: of its letters.
            example = "run(['ls', '/tmp']), and for a shell run(['sh', '-c', 'ls | wc -l'])"
            raise UsageProblem(f"staging_vm.run takes a program and its arguments as a list of texts: {example}.")
        return self.connection.run(argv, env=env, cwd=cwd, stdin=stdin, deadline_s=deadline_s)

    def put(self, local: str | Path, remote: str | Path, deadline_s: float = DEADLINE_S) -> None:
        """Copies a file or a whole folder; it appears at `remote` at once, or not at all."""
        copy = files.put_tree if os.path.isdir(local) else files.put_file
        copy(self.connection, Path(local), str(remote), deadline_s=deadline_s)

    def get(self, remote: str | Path, local: str | Path, deadline_s: float = DEADLINE_S) -> None:
        """Fetches a file or a whole folder."""
        is_folder = self.run(["test", "-d", str(remote)], deadline_s=deadline_s).ok
        copy = files.get_tree if is_folder else files.get_file
        copy(self.connection, str(remote), Path(local), deadline_s=deadline_s)

    def sync(self, local: str | Path, remote: str | Path, deadline_s: float = DEADLINE_S) -> sync.Synced:
        """Makes `remote` like `local`, sending only what changed."""
        return sync.sync_tree(self.connection, Path(local), str(remote), deadline_s=deadline_s)

    def forward(self, port: int, host: str = "127.0.0.1") -> PortForward:
        """Listens on a free port here and leads to `port` there: `with staging_vm.forward(8080) as tunnel`."""
        return PortForward(self.connection, port, host)

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()
