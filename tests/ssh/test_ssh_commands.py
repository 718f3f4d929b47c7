"""Commands on a real host: how they end, what they are given, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hosting import LabHost, answers, in_background, noticed
from workspaces import wait_for

from pytest_staging.model.errors import ConnectionLost, RemoteFailed, UnsafeName
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.shell import PROCESS_MARK

AWKWARD = ["two words", "$HOME `id` $(id)", "it's", 'say "no"', "*", "-n", "", "line\nline", "ä☃", "\\n;&|<>!#~"]


def test_words_arrive_as_they_are(connection: SshConnection) -> None:
    """Nothing in an argument, a variable or a folder's name means anything to a shell."""
    for word in AWKWARD:
        done = connection.run(["printf", "%s|%s", word, "end"], deadline_s=10)
        assert (done.status, done.stdout.decode()) == (0, f"{word}|end")
        done = connection.run(["sh", "-c", 'printf %s "$A_B"'], env={"A_B": word}, deadline_s=10)
        assert done.stdout.decode() == word
    assert connection.run(["mkdir", "-p", "/tmp/a folder; $x"], deadline_s=10).ok
    assert connection.run(["pwd"], cwd="/tmp/a folder; $x", deadline_s=10).stdout == b"/tmp/a folder; $x\n"


def test_status_and_outputs(connection: SshConnection) -> None:
    done = connection.run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline_s=10)
    assert (done.status, done.stdout, done.stderr, done.ok) == (3, b"out\n", b"err\n", False)
    assert (done.signal, done.lost, done.timed_out, done.code) == (None, None, False, 3)
    assert done.ending == "ended with status 3"
    with pytest.raises(RemoteFailed, match=r"lab .*: counting ended with status 3: err"):
        done.require("counting")


def test_high_status_is_no_signal_and_a_signal_no_status(connection: SshConnection) -> None:
    """A program may end with 137 by itself; only the host knows whether it was killed."""
    assert connection.run(["sh", "-c", "exit 137"], deadline_s=10).code == 137
    killed = connection.run(["sh", "-c", "kill -TERM $$"], deadline_s=10)
    assert (killed.status, killed.signal, killed.lost, killed.code) == (None, "TERM", None, -15)
    assert killed.ending == "was killed by SIGTERM"


def test_missing_programs_and_folders_have_their_status(connection: SshConnection) -> None:
    missing = connection.run(["no-such-program"], deadline_s=10)
    assert (missing.status, b"not found" in missing.stderr) == (127, True)
    nowhere = connection.run(["true"], cwd="/no/such/folder", deadline_s=10)
    assert (nowhere.status, b"/no/such/folder" in nowhere.stderr) == (125, True)


@pytest.mark.parametrize("argv", [[], [""], ["-c", "id"], ["echo", "a\0b"]])
def test_what_no_quoting_makes_safe_is_refused(connection: SshConnection, argv: list[str]) -> None:
    with pytest.raises(UnsafeName):
        connection.run(argv, deadline_s=10)
    with pytest.raises(UnsafeName, match="A=B"):
        connection.run(["true"], env={"A=B": "1"}, deadline_s=10)


def test_input_arrives_whole(connection: SshConnection) -> None:
    content = bytes(range(256)) * 20_000
    assert connection.run(["cat"], stdin=content, deadline_s=30).stdout == content
    assert connection.run(["cat"], deadline_s=10).stdout == b"", "without input it is /dev/null"


def test_output_is_streamed(connection: SshConnection) -> None:
    """A receiver gets it while the command runs: this one ends only after its first words were answered."""
    heard: list[bytes] = []

    def answer(data: bytes) -> None:
        heard.append(data)
        connection.run(["touch", "/tmp/answered"], deadline_s=10)

    connection.run(["rm", "-f", "/tmp/answered"], deadline_s=10)
    script = "echo first; while ! [ -e /tmp/answered ]; do sleep 0.02; done; echo second"
    done = connection.run(["sh", "-c", script], deadline_s=20, on_stdout=answer)
    assert (done.status, b"".join(heard), done.stdout) == (0, b"first\nsecond\n", b"")


def test_a_receivers_own_error_is_not_hidden(connection: SshConnection, host: LabHost) -> None:
    def fail(data: bytes) -> None:
        raise FileNotFoundError("its own")

    with pytest.raises(FileNotFoundError, match="its own"):
        connection.run(["sh", "-c", "echo x; exec sleep 4103"], deadline_s=20, on_stdout=fail)
    assert host.processes("sleep 4103") == []


def test_started_program_is_followed_and_stopped(connection: SshConnection, host: LabHost) -> None:
    """TERM first, with the time to end well."""
    script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    process = connection.start(["sh", "-c", script])
    wait_for(lambda: process.stdout == b"up\n")
    assert process.poll() is None
    assert process.wait(0.05) is None
    assert process.stop(10) == "ended"
    assert (process.poll(), process.stdout, process.stop(10)) == (7, b"up\nbye\n", "ended")


def test_stop_reaches_what_left_the_group(connection: SshConnection, host: LabHost) -> None:
    """A child in a session of its own is found by its mark, one without its environment by the session."""
    script = "setsid sleep 4104 & env -i sleep 4105 & trap '' TERM; while :; do sleep 0.05; done"
    process = connection.start(["sh", "-c", script])
    wait_for(lambda: {"sleep 4104", "sleep 4105"} <= {line.strip() for line in host.processes("sleep 410")})
    assert process.stop(0.2) == "killed"
    assert (process.poll(), host.processes("sleep 410")) == (-9, [])


def test_end_of_a_started_program_is_told(connection: SshConnection) -> None:
    ended = connection.start(["sh", "-c", "exit 5"])
    assert (ended.wait(10), ended.stop(1)) == (5, "had ended")
    killed = connection.start(["sh", "-c", "kill -KILL $$"])
    assert (killed.wait(10), killed.stop(1)) == (-9, "had ended")


def test_started_program_may_log_on_the_host(connection: SshConnection, host: LabHost) -> None:
    connection.run(["rm", "-f", "/tmp/its log"], deadline_s=10)
    process = connection.start(["sh", "-c", "echo out; echo err >&2"], log="/tmp/its log")
    assert (process.wait(10), process.stdout, process.stop(0)) == (0, b"", "had ended")
    assert host.sh("cat '/tmp/its log'") == "out\nerr"


def test_marked_processes_are_ended(connection: SshConnection, host: LabHost) -> None:
    """Leftovers of a controller that is gone: by the whole value, and no other's."""
    mine = connection.start(["sleep", "4106"], env={"STAGING_LEASE": "/a/b"})
    other = connection.start(["sleep", "4107"], env={"STAGING_LEASE": "/a/b/c"})
    assert connection.end_marked("STAGING_LEASE", "/a/b") == 1
    assert (mine.wait(10), other.poll()) == (-9, None)
    assert connection.end_marked("STAGING_LEASE", "/a/b/c") == 1
    assert connection.end_marked("STAGING_LEASE", "/a/b") == 0
    assert [mine.stop(0), other.stop(0)] == ["had ended", "had ended"]


def test_marks_are_in_the_environment(connection: SshConnection) -> None:
    """As a local target marks what it starts."""
    assert PROCESS_MARK == "STAGING_PROCESS"
    found = connection.run(["sh", "-c", f"echo ${PROCESS_MARK}"], deadline_s=10).stdout.strip()
    assert len(found) == 32


def test_what_a_command_leaves_behind_does_not_hold_it(connection: SshConnection) -> None:
    """A daemon that keeps the output open: ssh itself would wait for it."""
    done = connection.run(["sh", "-c", "sleep 4108 & echo done"], env={"CASE": "daemon"}, deadline_s=60)
    assert (done.status, done.stdout) == (0, b"done\n")
    assert done.seconds < 30
    connection.end_marked("CASE", "daemon")


def test_many_threads_share_one_connection(connection: SshConnection) -> None:
    calls = [in_background(lambda n=n: connection.run(["echo", str(n)], deadline_s=30)) for n in range(40)]
    assert [int(one.result(30).stdout) for one in calls] == list(range(40))
    assert connection.times_dialled == 1


def test_connection_is_dialled_when_needed_and_again_when_lost(make_host: Callable[..., LabHost]) -> None:
    host = make_host()
    with host.connection() as connection:
        assert (connection.is_connected, connection.times_dialled) == (False, 0)
        connection.run(["true"], deadline_s=10).require("a first command")
        process = connection.start(["sleep", "4109"])
        wait_for(lambda: host.processes("sleep 4109"))
        host.cut_sessions()
        assert wait_for(lambda: not connection.is_connected)
        with pytest.raises(ConnectionLost, match=r"process \d+"):
            process.wait(10)
        wait_for(lambda: answers(host.address))
        assert connection.run(["true"], deadline_s=20).ok
        assert connection.times_dialled == 2
        assert "4109" in "".join(host.processes("sleep")), "it outlives its connection"
        assert process.stop(1) in ("ended, 1 left over killed", "had ended")
        assert host.processes("sleep 4109") == []


def test_no_passphrase_or_command_in_reprs(host: LabHost) -> None:
    endpoint = host.endpoint()
    with SshConnection(endpoint) as connection:
        done = connection.run(["echo", "s3cret"], env={"TOKEN": "s3cret"}, deadline_s=10)
        process = connection.start(["sh", "-c", "sleep 0.1"], env={"TOKEN": "s3cret"})
        assert "s3cret" not in f"{connection!r} {connection} {done!r} {process!r} {endpoint!r}"
        process.stop(0)


def test_deadline_holds_for_endless_output(connection: SshConnection, host: LabHost) -> None:
    connection.connect()
    with noticed():
        done = connection.run(["yes", "4110"], deadline_s=0.5, on_stdout=lambda data: None)
    assert (done.timed_out, done.code, done.ok) == (True, None, False)
    assert host.processes("yes 4110") == []
