"""Processes of the local target: everything that a program started ends with it, and its output stays bounded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workspaces import wait_for

from pytest_staging.model.errors import StorageError
from pytest_staging.model.ports import Command
from pytest_staging.targets import procfs
from pytest_staging.targets.local import LocalProcess, LocalTarget
from pytest_staging.targets.output import HEAD_BYTES, TAIL_BYTES

MIB = 1 << 20
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[LocalProcess]]:
    """Whatever a test starts is stopped."""
    processes: list[LocalProcess] = []
    yield processes
    for process in processes:
        process.stop(0.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "out.log"


def start(started: list[LocalProcess], log: Path, *argv: str, **env: str) -> LocalProcess:
    process = LocalTarget().start(Command(argv=argv, cwd=log.parent, log=log, env=env))
    started.append(process)
    return process


def python(started: list[LocalProcess], log: Path, program: str) -> LocalProcess:
    return start(started, log, sys.executable, "-c", program)


def numbers_in(log: Path, count: int) -> list[int]:
    """The pids, or the port, that a program printed, one on each line."""

    def read() -> list[int]:
        found = [int(line) for line in log.read_text().split("\n")[:-1] if line.isdigit()]
        return found if len(found) >= count else []

    try:
        return wait_for(read)
    except pytest.fail.Exception:
        pytest.fail(f"{count} numbers were expected in {log.read_text()!r}")


def test_what_a_program_is_given(started: list[LocalProcess], log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, its environment and no input; nothing of pytest's own."""
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "this one")
    monkeypatch.setenv("KEPT", "yes")
    program = "import os, sys; print(os.getcwd(), os.environ['MINE'], os.environ['KEPT'], sys.stdin.read() == '', " \
              "'PYTEST_CURRENT_TEST' in os.environ); print('err', file=sys.stderr)"  # fmt: skip
    process = start(started, log, sys.executable, "-c", program, MINE="1")
    assert process.wait(20) == 0
    assert process.stop(1) == "had ended"
    assert sorted(log.read_text().splitlines()) == [f"{log.parent} 1 yes True False", "err"]


# Written at once: with PYTHONUNBUFFERED a print is two writes, and those of several processes mix.
FAMILY = """
import os, subprocess, sys, time
os.write(1, str(os.getpid()).encode() + bytes([10]))
CHILD = [sys.executable, "-c", "import os, time; os.write(1, str(os.getpid()).encode() + bytes([10])); time.sleep(300)"]
subprocess.Popen(CHILD)
subprocess.Popen(CHILD, start_new_session=True)
subprocess.Popen(["env", "-i", *CHILD])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, str(os.getpid()).encode() + bytes([10]))
        time.sleep(300)
    os._exit(0)
"""


@pytest.mark.parametrize("end", ["time.sleep(300)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_whole_family_ends(started: list[LocalProcess], log: Path, end: str) -> None:
    """A child, one with a session of its own, one without the environment's mark, and a daemon: none is left, however
    the program itself ended."""
    process = python(started, log, FAMILY + end)
    pids = numbers_in(log, 5)
    if end != "time.sleep(300)":
        wait_for(lambda: process.poll() is not None)
    assert sum(map(procfs.is_alive, pids)) >= 4, "the test proves something only while they live"
    process.stop(0.2)
    assert [pid for pid in pids if procfs.is_alive(pid)] == []


def test_sigterm_is_enough_for_the_polite(started: list[LocalProcess], log: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(3)))\n"
        "print('up', flush=True)\ntime.sleep(300)\n"
    )
    process = python(started, log, program)
    wait_for(lambda: "up\n" in log.read_text())
    assert process.poll() is None
    assert process.stop(20.0) == "ended"
    assert process.poll() == 3
    assert log.read_text() == "up\nbye\n", "the output up to the end is kept"


def test_one_that_ignores_sigterm_is_killed(started: list[LocalProcess], log: Path) -> None:
    process = python(started, log, DEAF)
    wait_for(lambda: "deaf" in log.read_text())
    assert process.stop(0.1) == "killed"
    assert process.poll() == -signal.SIGKILL
    assert process.stop(0.1) == "killed", "may be called twice"


def test_one_that_lost_its_mark_and_ignores_sigterm(started: list[LocalProcess], log: Path) -> None:
    """`env -i` takes the mark away from the leader itself."""
    process = start(started, log, "env", "-i", sys.executable, "-c", DEAF)
    wait_for(lambda: "deaf" in log.read_text())
    assert process.stop(0.1) == "killed"
    assert process.poll() == -signal.SIGKILL


def test_a_zombie_is_dead(log: Path) -> None:
    """It still answers signal 0, and nobody waits for it here."""
    zombie = subprocess.Popen([sys.executable, "-c", "pass"], env={"STAGING_TEST": "zombie"})
    try:
        wait_for(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        os.kill(zombie.pid, 0)
        assert not procfs.is_alive(zombie.pid)
        assert zombie.pid not in procfs.session_members(os.getsid(0))
        assert procfs.marked_processes("STAGING_TEST", "zombie") == []
    finally:
        zombie.wait()


def test_alive() -> None:
    assert procfs.is_alive(os.getpid())
    assert os.getpid() in procfs.session_members(os.getsid(0))
    assert not procfs.is_alive(2**22 + 1)


def test_run_to_the_end(log: Path) -> None:
    target = LocalTarget()
    command = Command(argv=[sys.executable, "-c", "import sys; print('x'); sys.exit(7)"], cwd=log.parent, log=log)
    assert target.run(command, 20.0) == 7
    assert log.read_text() == "x\n"


def test_run_past_its_deadline(log: Path) -> None:
    """None, and the group is gone, the grandchild too."""
    program = (
        "import os, subprocess, sys\n"
        "SAY = 'import os, time; os.write(1, str(os.getpid()).encode() + bytes([10]));'\n"
        "exec(SAY)\n"
        "subprocess.run([sys.executable, '-c', SAY + 'time.sleep(300)'])\n"
    )
    command = Command(argv=[sys.executable, "-c", program], cwd=log.parent, log=log)
    for deadline_s in (1.0, 10.0, 60.0):
        assert LocalTarget().run(command, deadline_s) is None
        if log.read_text().count("\n") == 2:
            break  # on a machine that is busy two programs may need longer to begin
    pids = numbers_in(log, 2)
    assert [pid for pid in pids if procfs.is_alive(pid)] == []


def test_a_program_that_is_not_there(log: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalTarget().start(Command(argv=["no-such-program-here"], cwd=log.parent, log=log))


def test_a_log_that_cannot_be_opened_starts_nothing(tmp_path: Path) -> None:
    """A program without anybody who reads its output, and without an owner, must not run."""
    mark = tmp_path / "ran"
    command = Command(argv=["touch", str(mark)], cwd=tmp_path, log=tmp_path / "no folder" / "log")
    with pytest.raises(StorageError, match="cannot write"):
        LocalTarget().start(command)
    assert not mark.exists()


def test_a_log_without_end(started: list[LocalProcess], log: Path) -> None:
    """200 MB are drained, and what is kept is the beginning and the end, within bounds."""
    script = "echo first; yes 0123456789 | head -c 200000000; echo; echo last"
    process = start(started, log, "sh", "-c", script)
    assert process.wait(60) == 0
    process.stop(0.0)
    content = log.read_bytes()
    assert HEAD_BYTES + TAIL_BYTES <= len(content) < HEAD_BYTES + TAIL_BYTES + 1000
    assert content.startswith(b"first\n0123456789\n")
    assert content.endswith(b"last\n")
    note = content[HEAD_BYTES : HEAD_BYTES + 100]
    dropped = int(note.split(b"... ")[1].split(b" ")[0])
    assert dropped == 200_000_000 + len("first\n\nlast\n") - HEAD_BYTES - TAIL_BYTES


@pytest.mark.parametrize("size", [50 * MIB, 150 * MIB])
def test_peak_memory(started: list[LocalProcess], log: Path, size: int) -> None:
    """The peak stays after the memory is given back, and the children's counts."""
    program = (
        "import subprocess, sys, time\n"
        f"block = b'x' * {size}\ndel block\n"
        f"child = subprocess.Popen([sys.executable, '-c', \"import time; b = b'y' * {size}; print('up', flush=True);"
        ' time.sleep(300)"])\ntime.sleep(300)\n'
    )
    process = python(started, log, program)
    wait_for(lambda: "up" in log.read_text())
    peak = process.peak_resident_bytes()
    assert peak is not None
    assert 2 * size < peak < 2 * size + 60 * MIB
    process.stop(0.0)
    assert process.peak_resident_bytes() is None


# Any free port: one that was looked for before may be somebody else's by then.
LISTEN = (
    "import socket, time; s = socket.socket({family}); s.bind(('{host}', 0)); s.listen();"
    "print(s.getsockname()[1], flush=True); time.sleep(300)"
)


@pytest.mark.parametrize(("family", "host"), [("socket.AF_INET", "127.0.0.1"), ("socket.AF_INET6", "::")])
def test_who_listens(started: list[LocalProcess], log: Path, family: str, host: str) -> None:
    """True for the program's own port, False for somebody else's, None where nobody listens."""
    process = python(started, log, LISTEN.format(family=family, host=host))
    (port,) = numbers_in(log, 1)
    assert process.listens_on(port) is True
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = int(other.getsockname()[1])
        assert process.listens_on(taken) is None, "bound, and nobody listens"
        other.listen()
        assert process.listens_on(taken) is False


def test_a_grandchild_listens(started: list[LocalProcess], log: Path) -> None:
    """Services are often started by a script."""
    child = LISTEN.format(family="socket.AF_INET", host="127.0.0.1")
    process = start(started, log, "sh", "-c", '"$0" -c "$1"; true', sys.executable, child)
    (port,) = numbers_in(log, 1)
    assert process.listens_on(port) is True


def test_files_that_may_not_be_seen(started: list[LocalProcess], log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of another user does not show its files: that is no proof that somebody else answers."""

    def refuse(*_: object) -> None:
        raise PermissionError

    process = python(started, log, "import time; print('up', flush=True); time.sleep(300)")
    wait_for(lambda: "up" in log.read_text())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        assert process.listens_on(port) is False
        monkeypatch.setattr(procfs, "_socket_inodes", refuse)
        assert process.listens_on(port) is None


def test_facts() -> None:
    """SM-07: what the host is, in each cell."""
    facts = LocalTarget().facts()
    assert set(facts) >= {"name", "cpu", "cpus", "kernel", "machine", "memory_bytes", "load_average_1min"}
    assert facts["memory_bytes"] > 64 * MIB
