"""Hosts that break while something goes on: noticed within 15 s, told with the host's name, and nothing half done used.

The slow ones run at the same time, each on a host of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from hosting import (
    NOTICE_S,
    VERDICTS,
    LabHost,
    Stopwatch,
    answers,
    call,
    clear_firewall,
    in_background,
    noticed,
    remove_hosts,
)
from workspaces import give_up, wait_for

from pytest_staging.model.errors import ConnectionLost, HostUnreachable, RemoteFailed, StagingError
from pytest_staging.ssh import files
from pytest_staging.ssh.commands import Result
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import get_file, put_file, put_tree
from pytest_staging.ssh.sync import sync_tree

Break = Callable[[LabHost, ExitStack], object]

FAULTS: dict[str, Break] = {
    "killed": lambda host, stack: host.docker("kill"),
    "stopped": lambda host, stack: host.stop_sshd(),
    "black hole": lambda host, stack: stack.enter_context(host.firewall(*VERDICTS["black hole"])),
    "reset": lambda host, stack: stack.enter_context(host.firewall(*VERDICTS["reset"])),
    "sshd killed": lambda host, stack: host.cut_sessions(),
}
FOREVER = ["sh", "-c", "while :; do echo 4301; sleep 0.2; done"]
PHASES = {"output": None, "input": bytes(20_000_000)}


@dataclass(frozen=True)
class Outcome:
    """What a caller saw, and how long after the fault; then what a new command sees."""

    seen: Any
    after_s: float
    again: StagingError | None


@pytest.fixture(scope="module")
def outcomes(lab: Callable[..., LabHost]) -> Iterator[dict[str, Outcome]]:
    """Every fault during a command that speaks, and during one that does not take its input."""
    if os.geteuid() != 0:
        give_up("firewall rules need root")
    starting = {name: in_background(lab) for name in FAULTS}
    hosts = {name: future.result(90) for name, future in starting.items()}
    with ExitStack() as stack:
        futures = {name: in_background(_suffer, hosts[name], name, stack) for name in FAULTS}
        found: dict[str, Outcome] = {}
        for future in futures.values():
            found |= future.result(90)
        yield found
    remove_hosts([host.container for host in hosts.values()])


def _suffer(host: LabHost, name: str, stack: ExitStack) -> dict[str, Outcome]:
    """Both commands go on over one connection when it happens."""
    with host.connection() as connection:
        going = {phase: in_background(_listen, connection, content) for phase, content in PHASES.items()}
        wait_for(lambda: len(host.processes("4301")) >= len(PHASES) or any(one.done() for one in going.values()), 60)
        assert not any(one.done() for one in going.values()), [one.result() for one in going.values() if one.done()]
        FAULTS[name](host, stack)
        with Stopwatch() as watch:
            ended = {phase: (one.result(60), watch.seconds) for phase, one in going.items()}
        again = None
        if name != "sshd killed":
            again = in_background(lambda: connection.run(["true"], deadline_s=5)).exception(60)
        assert again is None or isinstance(again, StagingError)
        return {f"{name} during {phase}": Outcome(*one, again) for phase, one in ended.items()}


def _listen(connection: SshConnection, content: bytes | None) -> Result:
    return connection.run(FOREVER, stdin=content, deadline_s=120)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FAULTS)
def test_fault_during_a_command(outcomes: dict[str, Outcome], name: str, phase: str) -> None:
    """PT-02: a lost command is told as lost and not as a status, also while its input is written; a new one fails."""
    outcome = outcomes[f"{name} during {phase}"]
    assert (outcome.seen.status, outcome.seen.signal, outcome.seen.timed_out) == (None, None, False)
    assert outcome.seen.lost
    assert outcome.after_s < NOTICE_S
    with pytest.raises(ConnectionLost, match=r"lab .*: counting: "):
        outcome.seen.require("counting")
    if name != "sshd killed":
        assert isinstance(outcome.again, HostUnreachable), outcome.again


@pytest.mark.parametrize("name", ["killed", "black hole", "stopped"])
def test_fault_before_the_connection(make_host: Callable[..., LabHost], name: str) -> None:
    """Within its own time limit, with what to look at."""
    host = make_host()
    with ExitStack() as stack:
        FAULTS[name](host, stack)
        with noticed(), pytest.raises(HostUnreachable, match=rf"lab \(root@{host.address}:22\): .*(up|overloaded)"):
            SshConnection(host.endpoint(), connect_timeout_s=2).connect()


def test_what_a_killed_test_left_in_the_firewall() -> None:
    """The next host takes rules away at whose address nobody listens, and no others."""
    if os.geteuid() != 0:
        give_up("firewall rules need root")
    rules = [f"OUTPUT -d 127.0.1.{number}/32 -p tcp -j DROP" for number in (253, 254)]  # no host gets these
    with socket.create_server(("127.0.1.253", 22)), ExitStack() as stack:
        for rule in rules:
            call("iptables", "-w", "20", "-A", *rule.split())
            stack.callback(subprocess.run, ["iptables", "-w", "20", "-D", *rule.split()], capture_output=True)
        clear_firewall("127.0.1.252")
        left = call("iptables", "-w", "20", "-S", "OUTPUT")
    assert [rule in left for rule in rules] == [True, False]


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Halves:
    """Every transfer stops in its middle until `go` is set."""
    return Halves(monkeypatch)


class Halves:
    """`half` is set when the first megabytes of a transfer are on their way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.half, self.go = threading.Event(), threading.Event()
        self._chunks = files._chunks
        monkeypatch.setattr(files, "_chunks", self._held)

    def _held(self, file: IO[bytes]) -> Iterator[bytes]:
        for number, chunk in enumerate(self._chunks(file)):
            if number == 8:
                self.half.set()
                self.go.wait(30)
            yield chunk

    def cut(self, host: LabHost, work: Callable[[], object]) -> None:
        """Runs the work up to its middle, cuts the connection, and looks at how it ends. sshd is back then."""
        self.half.clear()
        self.go.clear()
        going = in_background(work)
        assert self.half.wait(30)
        host.cut_sessions()
        self.go.set()
        with noticed():
            error = going.exception(60)
        assert isinstance(error, ConnectionLost), error
        wait_for(lambda: answers(host.address))


def test_cut_during_a_sync(make_host: Callable[..., LabHost], tmp_path: Path, halves: Halves) -> None:
    """The half tree is never used: the folder is as it was, and the next sync ends equal."""
    host = make_host()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "small").write_text("one")
    with host.connection() as connection:
        sync_tree(connection, tree, "/tmp/tree", deadline_s=30)
        (tree / "small").write_text("two")
        for number in range(20):
            (tree / f"large{number}").write_bytes(bytes(300_000))
        for folder, before in (("/tmp/tree", "small\none"), ("/tmp/new", "")):
            halves.cut(host, lambda at=folder: sync_tree(connection, tree, at, deadline_s=60))  # type: ignore[misc]
            assert host.sh(f"ls {folder} 2>/dev/null && cat {folder}/small || true") == before
            sync_tree(connection, tree, folder, deadline_s=60)
            assert host.sh(f"ls {folder} | wc -l; cat {folder}/small; ls -A /tmp | grep sync || true") == "21\ntwo"


def test_cut_during_a_copy(make_host: Callable[..., LabHost], tmp_path: Path, halves: Halves) -> None:
    """A file, a new tree and a file that is fetched: not there rather than half."""
    host = make_host()
    large, tree = tmp_path / "large", tmp_path / "tree"
    tree.mkdir()
    for path in (large, tree / "a", tree / "b"):
        path.write_bytes(bytes(6_000_000))
    with host.connection() as connection:
        halves.cut(host, lambda: put_file(connection, large, "/tmp/file", deadline_s=60))
        halves.cut(host, lambda: put_tree(connection, tree, "/tmp/tree", deadline_s=60))
        assert host.sh("ls /tmp") == ""
        connection.run(["mkfifo", "/tmp/there"], deadline_s=10)
        writer = connection.start(["sh", "-c", "exec >/tmp/there; head -c 3000000 /dev/zero; exec sleep 4302"])
        going = in_background(lambda: get_file(connection, "/tmp/there", tmp_path / "got" / "file", deadline_s=60))
        wait_for(lambda: [path for path in (tmp_path / "got").glob(".*") if path.stat().st_size])
        host.cut_sessions()
        with noticed():
            error = going.exception(60)
        assert isinstance(error, ConnectionLost), error
        assert list((tmp_path / "got").iterdir()) == []
        wait_for(lambda: answers(host.address))
        writer.stop(0)


def test_full_disk_on_the_host(make_host: Callable[..., LabHost], tmp_path: Path) -> None:
    """Told as what it is, soon, with the connection kept, and nothing left in the way."""
    host = make_host(options=["--tmpfs", "/small:size=4m"])
    large, tree = tmp_path / "large", tmp_path / "tree"
    large.write_bytes(bytes(80_000_000))
    tree.mkdir()
    (tree / "one").write_text("1")
    with host.connection() as connection:
        sync_tree(connection, tree, "/small/synced", deadline_s=30)
        (tree / "large").write_bytes(bytes(8_000_000))
        for work in (
            lambda: put_file(connection, large, "/small/file", deadline_s=30),
            lambda: put_tree(connection, tree, "/small/tree", deadline_s=30),
            lambda: sync_tree(connection, tree, "/small/synced", deadline_s=30),
        ):
            with pytest.raises(RemoteFailed, match="No space left on device"):
                work()
        assert host.sh("cd /small && find . ! -name . | sort") == "./synced\n./synced/one"
        assert connection.times_dialled == 1
