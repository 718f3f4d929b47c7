"""What bites in paramiko and sshd, one test each: every one fails when its guard is taken away."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest
from hosting import LabHost, in_background, noticed
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_EOF
from workspaces import wait_for

from pytest_staging.model.errors import ConnectionLost, HostBusy, HostKeyRefused, HostUnreachable, RemoteFailed
from pytest_staging.ssh import kept
from pytest_staging.ssh.config import resolve_endpoint
from pytest_staging.ssh.connection import SshConnection

MakeHost = Callable[..., LabHost]


def test_1_no_rekey_while_channels_close(host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """paramiko's own limit is 512 MB and here 300 KB: a rekey of ours that meets a closed channel hangs for 30 s."""
    monkeypatch.setattr(paramiko.packet.Packetizer, "REKEY_BYTES", 300_000)
    with host.connection() as connection:
        command = ["head", "-c", "200000", "/dev/zero"]
        calls = [in_background(lambda: connection.run(command, deadline_s=20)) for _ in range(40)]
        ended = [call.result(30) for call in calls]
        assert [(done.status, len(done.stdout)) for done in ended] == [(0, 200_000)] * 40
        assert connection.times_dialled == 1


def test_2_input_that_meets_the_commands_end(host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data or an end of input after the channel's CLOSE was answered: sshd drops the whole connection for it."""
    send = paramiko.Transport._send_user_message  # type: ignore[attr-defined]

    def send_late(transport: paramiko.Transport, message: paramiko.Message) -> None:
        """Widens the moment between "the channel is open" and the message, which is else 7 in 3,000."""
        if message.asbytes()[:1] in (cMSG_CHANNEL_DATA, cMSG_CHANNEL_EOF) and threading.current_thread() != transport:
            time.sleep(0.02)
        send(transport, message)

    monkeypatch.setattr(paramiko.Transport, "_send_user_message", send_late)
    with host.connection() as connection:
        for size in (0, 1, 100_000) * 4:
            assert connection.run(["true"], stdin=b"x" * size, deadline_s=20).status == 0
        assert connection.times_dialled == 1


def test_3_more_commands_than_the_host_has_sessions(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """MaxSessions 2: everybody's turn comes; the kill at a deadline gets through though both are taken."""
    host = make_host(sshd=["MaxSessions 2"])
    with host.connection() as connection:
        calls = [in_background(lambda: connection.run(["sleep", "0.1"], deadline_s=30)) for _ in range(8)]
        assert [call.result(40).status for call in calls] == [0] * 8
        first, second = connection.start(["sleep", "4201"]), connection.start(["sleep", "4202"])
        monkeypatch.setattr(kept, "BUSY_S", 0.3)
        with pytest.raises(HostBusy, match="Raise MaxSessions"):
            connection.open_session(time.monotonic() + 10, busy_s=0.3)
        assert [first.stop(0), second.stop(0)] == ["killed", "killed"]
        assert host.processes("sleep 420") == []


def test_3_few_sessions_at_once(connection: SshConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty commands at once are not thirty sessions."""
    counts = []

    def count(data: bytes) -> None:
        counts.append(int(data))

    script = "sleep 0.05; set -- $(grep -la FEW=yes /proc/[0-9]*/environ | xargs -n1 dirname | sort -u); echo $#"
    calls = [
        in_background(lambda: connection.run(["sh", "-c", script], env={"FEW": "yes"}, deadline_s=30, on_stdout=count))
        for _ in range(30)
    ]
    assert [call.result(40).status for call in calls] == [0] * 30
    # Each is a shell with a subshell and up to three programs in it.
    assert max(counts) <= 6 * kept.SESSIONS_AT_ONCE


def test_4_killed_and_lost_are_told_apart(make_host: MakeHost) -> None:
    """paramiko says -1 for both."""
    host = make_host()
    with host.connection() as connection:
        killed = connection.run(["sh", "-c", "kill -KILL $$"], deadline_s=10)
        assert (killed.signal, killed.lost) == ("KILL", None)
        running = in_background(lambda: connection.run(["sleep", "4203"], deadline_s=60))
        wait_for(lambda: host.processes("sleep 4203"))
        host.cut_sessions()
        with noticed():
            lost = running.result(60)
        assert (lost.status, lost.signal, lost.timed_out, bool(lost.lost)) == (None, None, False, True)


def test_5_deadlines_hold(make_host: MakeHost) -> None:
    """For a command that runs on, and on a host that stands still in the middle of the opening of a session."""
    host = make_host()
    with host.connection() as connection:
        connection.connect()  # which is no part of the deadlines here
        with noticed(10):
            assert connection.run(["sleep", "4204"], deadline_s=0.5).timed_out
        host.stop_sshd()
        # Before the watchman, who takes 10 s.
        with noticed(9), pytest.raises(ConnectionLost, match=r"lab .*: no session"):
            connection.run(["true"], deadline_s=1.0)


def test_6_stopped_sshd_is_noticed(make_host: MakeHost) -> None:
    """Its kernel goes on acknowledging, so that no option of TCP helps."""
    host = make_host()
    with host.connection() as connection:
        running = in_background(lambda: connection.run(["sleep", "4205"], deadline_s=60))
        wait_for(lambda: host.processes("sleep 4205"))
        host.stop_sshd()
        with noticed():
            assert "has not answered for 10 s" in running.result(60).lost
        host.wake_sshd()
        assert connection.run(["true"], deadline_s=10).ok


@pytest.mark.parametrize(
    ("script", "stdin", "sizes"),
    [
        ("head -c 3000000 /dev/zero >&2; echo out", None, (4, 3_000_000)),
        ("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", None, (3_000_000, 3_000_000)),
        ("head -c 30000000 /dev/zero; exit 0", None, (30_000_000, 0)),
        ("sleep 0.3; exit 0", 20_000_000, (0, 0)),
        ("exit 0", 20_000_000, (0, 0)),
        ("exec cat", 20_000_000, (20_000_000, 0)),
        ("tee /dev/stderr", 9_000_000, (9_000_000, 9_000_000)),
    ],
)
def test_7_nothing_stands_still(
    connection: SshConnection, script: str, stdin: int | None, sizes: tuple[int, int]
) -> None:
    """Much on one output while another is read, much input for a command that does not read."""
    content = None if stdin is None else b"x" * stdin
    done = connection.run(["sh", "-c", script], stdin=content, deadline_s=30)
    assert (done.status, len(done.stdout), len(done.stderr)) == (0, *sizes)


def test_8_nothing_goes_on_after_the_deadline(connection: SshConnection, host: LabHost) -> None:
    """Closing the channel ends nothing; children with a session of their own neither."""
    script = "setsid sleep 4206 & sleep 4206 & exec sleep 4206"
    connection.connect()
    done = connection.run(["sh", "-c", script], deadline_s=1.0)
    assert (done.timed_out, host.processes("sleep 4206")) == (True, [])


def test_8_all_sessions_may_run_out_of_time_at_once(connection: SshConnection, host: LabHost) -> None:
    """Each kill needs a session too."""
    connection.connect()
    calls = [in_background(lambda: connection.run(["sleep", "4207"], deadline_s=1.5)) for _ in range(4)]
    assert [call.result(20).timed_out for call in calls] == [True] * 4
    assert host.processes("sleep 4207") == []


def test_8_a_login_shell_that_is_slow_is_killed(make_host: MakeHost) -> None:
    """Before it came to the command, so that neither the process nor its environment is known."""
    host = make_host()
    with host.connection() as connection:
        connection.connect()  # which is no part of the command's second
        host.sh("echo '[ -e /tmp/quick ] || { touch /tmp/quick; sleep 4208; }' >/root/.bashrc")
        assert connection.run(["touch", "/tmp/ran"], deadline_s=1.0).timed_out
        wait_for(lambda: host.sh("pidof sleep || true"))
        host.sh("kill $(pidof sleep)")
        assert connection.run(["sh", "-c", "! [ -e /tmp/ran ]"], deadline_s=10).ok


def test_8_a_login_shell_that_hangs_does_not_begin_later(make_host: MakeHost) -> None:
    """No command gets through to kill it. When it comes to the command after all, nobody is there to hear it."""
    host = make_host()
    with host.connection() as connection:
        connection.connect()
        host.sh("echo 'sleep 4209' >/root/.bashrc")
        with noticed():
            assert connection.run(["touch", "/tmp/ran"], deadline_s=0.5).timed_out
        wait_for(lambda: host.sh("pidof sleep || true"))
        host.sh("rm /root/.bashrc; kill $(pidof sleep)")
        wait_for(lambda: not host.processes("touch"))
        assert connection.run(["sh", "-c", "! [ -e /tmp/ran ]"], deadline_s=10).ok


def test_9_silent_server_is_called_silent() -> None:
    """Something that takes connections and says nothing: paramiko calls that "No existing session"."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = resolve_endpoint("lab", address="127.0.0.1", port=server.getsockname()[1], config_files=[])
        with noticed(8), pytest.raises(HostUnreachable, match=r"lab .*: .* said nothing for 0.5 s"):
            SshConnection(endpoint, connect_timeout_s=0.5).connect()


def test_10_host_known_by_another_key_type(host: LabHost, tmp_path: Path) -> None:
    """Its RSA key is known, and it would rather show the ed25519 one. No other line of the file is touched."""
    known = tmp_path / "known"
    text = f"# mine\n|1|broken\n{host.address} {host.host_key('rsa')}\n"
    known.write_text(text)
    for accept_new in (False, True):
        with host.connection(known_hosts=known, accept_new=accept_new) as connection:
            assert connection.run(["true"], deadline_s=10).ok
    assert known.read_text() == text
    known.write_text(f"{host.address} ecdsa-sha2-nistp256 AAAA\n")
    with pytest.raises(HostKeyRefused, match="no key of the types that known_hosts holds"):
        host.connection(known_hosts=known, accept_new=True).connect()


def inner_address(host: LabHost) -> str:
    form = "{{.NetworkSettings.IPAddress}}"
    return subprocess.run(
        ["docker", "inspect", "-f", form, host.container], capture_output=True, text=True, timeout=20, check=True
    ).stdout.strip()


@pytest.mark.parametrize("way", ["ProxyJump edge", "ProxyCommand ssh -F {config} -W %h:%p edge"])
def test_11_include_and_the_way_through_another_host(hosts: list[LabHost], tmp_path: Path, way: str) -> None:
    """The inner host is named in an included file and reached only through the other one."""
    edge, inner = hosts
    config, known = tmp_path / "config", tmp_path / "known"
    known.write_text(f"{edge.known_hosts.read_text()}{inner_address(inner)} {inner.host_key()}\n")
    config.write_text("Include hosts.d/*\n")
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d" / "lab").write_text(
        f"Host inner\n  HostName {inner_address(inner)}\n  {way.format(config=config)}\n"
        f"Host edge\n  HostName {edge.address}\n"
        f"Host *\n  User root\n  IdentityFile {inner.key}\n  UserKnownHostsFile {known}\n  BatchMode yes\n"
    )
    # ssh itself takes relative includes from its user's home.
    text = (tmp_path / "hosts.d" / "lab").read_text()
    with SshConnection(resolve_endpoint("inner", config_files=[config])) as connection:
        if "ProxyCommand" in way:
            config.write_text(config.read_text() + text)
        assert connection.run(["hostname"], deadline_s=20).stdout.decode().strip() == inner.container[:12]
        assert connection.run(["cat"], stdin=b"x" * 3_000_000, deadline_s=20).stdout == b"x" * 3_000_000
        assert connection.times_dialled == 1


def test_11_way_that_leads_nowhere(host: LabHost, tmp_path: Path) -> None:
    """Which hop does not answer; and a proxy that ends is noticed at once."""
    known = tmp_path / "known"
    known.write_text(host.known_hosts.read_text())
    config = tmp_path / "config"
    config.write_text(
        f"Host inner\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump {host.address}\n"
        "Host broken\n  ProxyCommand echo s3cret\nHost failing\n  ProxyCommand sh -c 'exit 7' s3cret\n"
        "Host shot\n  ProxyCommand sh -c 'kill -KILL $$' s3cret\n"
        f"Host lost\n  ProxyJump 127.0.0.1:1\nHost *\n  User root\n  IdentityFile {host.key}\n"
        f"  UserKnownHostsFile {known}\n"
    )
    for alias, message in (
        ("inner", r"inner .*: the jump host cannot reach it"),
        ("lost", r"@lost:22: its jump host does not answer. .*127.0.0.1:1: connection refused"),
        ("broken", r"@broken:22: its ProxyCommand \(.*config, line 6\) ended with status 0 before the SSH connection"),
        ("failing", r"@failing:22: its ProxyCommand \(.*, line 8\) ended with status 7 .* `ssh failing` shows"),
        ("shot", r"@shot:22: its ProxyCommand \(.*, line 10\) was ended by signal 9"),
    ):
        with pytest.raises(HostUnreachable, match=message) as error:
            SshConnection(resolve_endpoint(alias, config_files=[config])).connect()
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "bashrc",
    ["echo chatter; echo noise >&2; printf 'no end of line'", "set -x; echo chatter", "printf 'x%.0s' $(seq 300000)"],
)
def test_what_a_bashrc_says_is_not_the_commands(make_host: MakeHost, bashrc: str) -> None:
    """A .bashrc speaks before every command, also one that prints what it runs."""
    host = make_host()
    host.sh("cat >/root/.bashrc", stdin=bashrc.encode())
    with host.connection() as connection:
        done = connection.run(["sh", "-c", "echo out; echo err >&2"], deadline_s=20)
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
        process = connection.start(["echo", "out"])
        assert (process.wait(10), process.stdout, process.stderr) == (0, b"out\n", b"")


def test_a_login_shell_that_does_not_get_there_is_named(make_host: MakeHost) -> None:
    host = make_host()
    host.sh("echo 'echo closed for today; exit 0' >/root/.bashrc")
    with host.connection() as connection:
        for ask in (connection.run, connection.start):
            with pytest.raises(RemoteFailed, match=r"did not get to the command. .*bashrc.* closed for today"):
                ask(["true"], deadline_s=10)


def test_login_banner_is_no_output(make_host: MakeHost) -> None:
    host = make_host(sshd=["Banner /etc/passwd", "PrintMotd yes"])
    with host.connection() as connection:
        assert connection.run(["echo", "x"], deadline_s=10).stdout == b"x\n"


def test_version_of_the_guarded_parts() -> None:
    """The parts of paramiko that the guards rest on and that it calls private: a release without them shows here."""
    table = paramiko.Transport._channel_handler_table  # type: ignore[attr-defined]
    assert table[paramiko.common.MSG_CHANNEL_CLOSE] is paramiko.Channel._handle_close  # type: ignore[attr-defined]
    assert re.match(r"\d+\.", paramiko.__version__)
