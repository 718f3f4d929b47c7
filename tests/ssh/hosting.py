"""Real SSH hosts for tests: containers with an sshd, each on a loopback address of its own, and ways to break them."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from workspaces import give_up, wait_for

from pytest_staging.ssh import link
from pytest_staging.ssh.config import Endpoint, resolve_endpoint
from pytest_staging.ssh.connection import SshConnection

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "staging-lab/host"
LABEL = "staging.lab-ssh-test"
NOT_POSSIBLE_HERE = 2
CALL_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0
INSTALL_TIMEOUT_S = 900.0
NOTICE_S = 15.0
"""Within so long every fault has to be noticed."""

BREAKAGES = ("kill", "pause", "black hole", "reset")
"""What `LabHost.broken` takes."""
SILENT = ("pause", "black hole")
"""Those after which each further call takes as long as it may."""
VERDICTS = {"black hole": ("DROP",), "reset": ("REJECT", "--reject-with", "tcp-reset")}

T = TypeVar("T")


def run_lab_script(name: str) -> None:
    """Skips, or fails where STAGING_REQUIRE_LAB=1 promises the lab."""
    if sys.platform != "linux":
        give_up(f"the lab needs Linux, and this is {sys.platform}")
    done = subprocess.run([ROOT / "scripts/lab" / name], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    if done.returncode == NOT_POSSIBLE_HERE:
        give_up(f"{name}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def call(*command: str | Path, stdin: bytes = b"") -> str:
    """What a program prints; it has to end well."""
    socket_path = os.environ.get("STAGING_ENGINE_SOCKET")
    environment = os.environ | ({"DOCKER_HOST": f"unix://{socket_path}"} if socket_path else {})
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, timeout=CALL_TIMEOUT_S)
    assert done.returncode == 0, f"{command}\n{(done.stdout + done.stderr).decode(errors='replace')}"
    return done.stdout.decode().strip()


def _succeeds(*command: str) -> bool:
    try:
        call(*command)
    except AssertionError:
        return False
    return True


class Stopwatch:
    """Seconds within its context, less those in which this process was not let run: a fault cannot be noticed then."""

    TICK_S = 0.05

    def __enter__(self) -> Stopwatch:
        self._over, self._lost_s = threading.Event(), 0.0
        self._began = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        self._over.set()

    @property
    def seconds(self) -> float:
        return (self._ended if self._over.is_set() else time.monotonic()) - self._began - self._lost_s

    def _watch(self) -> None:
        over = False
        while not over:
            asked = time.monotonic()
            over = self._over.wait(self.TICK_S)
            self._lost_s += max(0.0, time.monotonic() - asked - self.TICK_S)


@contextmanager
def noticed(within_s: float = NOTICE_S) -> Iterator[None]:
    """Fails when the block takes longer."""
    with Stopwatch() as watch:
        yield
    assert watch.seconds < within_s


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on three seconds of silence are enough to give a host up: for faults that have happened already."""
    monkeypatch.setattr(link, "TICK_S", 0.3)


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A key pair; the public part is beside it."""
    call("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path)
    return path


@dataclass(frozen=True)
class LabHost:
    """A running host. `folder` is a place of its own on this machine; its known_hosts file knows the host's key."""

    container: str
    address: str
    key: Path
    folder: Path

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def endpoint(self, **changes: Any) -> Endpoint:
        """As a user's configuration would have it; no file of this machine's user is read."""
        facts = {"address": self.address, "user": "root", "key_file": self.key, "known_hosts": self.known_hosts}
        return resolve_endpoint(changes.pop("alias", "lab"), config_files=[], **{**facts, **changes})

    def connection(self, **changes: Any) -> SshConnection:
        return SshConnection(self.endpoint(**changes))

    def sh(self, script: str, stdin: bytes = b"") -> str:
        """On the host, past SSH."""
        return call("docker", "exec", "-i", self.container, "sh", "-c", script, stdin=stdin)

    def processes(self, word: str) -> list[str]:
        """Command lines there that hold the word."""
        listing = self.sh("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null").splitlines()
        return [line for line in listing if word in line and "cmdline" not in line]

    def host_key(self, kind: str = "ed25519") -> str:
        """`TYPE BASE64`."""
        return " ".join(self.sh(f"cat /etc/ssh/ssh_host_{kind}_key.pub").split()[:2])

    def docker(self, *arguments: str) -> None:
        if arguments == ("pause",):  # on a busy machine the freezer gives up now and then
            wait_for(lambda: _succeeds("docker", "pause", self.container), CALL_TIMEOUT_S)
        else:
            call("docker", *arguments, self.container)

    def cut_sessions(self) -> None:
        """Kills the sshd processes of the connections, and with the listener, which init.sh starts again."""
        self.sh("kill -s KILL $(pidof sshd)")

    def stop_sshd(self) -> None:
        """Its processes stand still and its kernel goes on, as with `docker pause`, which fails on a busy machine."""
        self.sh("kill -s STOP $(pidof sshd)")

    def wake_sshd(self) -> None:
        self.sh("kill -s CONT $(pidof sshd)")

    @contextmanager
    def broken(self, how: str) -> Iterator[None]:
        """By one of BREAKAGES. Packets pass again after the block; a host that is killed or paused stays so."""
        if how not in VERDICTS:
            self.docker(how)
            yield
            return
        if os.geteuid() != 0:
            give_up("firewall rules need root")
        with self.firewall(*VERDICTS[how]):
            yield

    @contextmanager
    def firewall(self, *verdict: str) -> Iterator[None]:
        """Packets to and from this host's address meet the verdict; no other address does.

        A reset comes from that address too, so what comes from there passes when packets are refused.
        """
        ways = ("-d", "-s") if verdict == ("DROP",) else ("-d",)
        rules = [["OUTPUT", way, self.address, "-p", "tcp", "-j", *verdict] for way in ways]
        try:
            for rule in rules:
                call("iptables", "-w", "20", "-I", *rule)
            yield
        finally:
            for rule in rules:
                subprocess.run(["iptables", "-w", "20", "-D", *rule], capture_output=True, timeout=CALL_TIMEOUT_S)


def start_host(
    key: Path, folder: Path, sshd: Sequence[str] = (), options: Sequence[str] = (), image: str = IMAGE
) -> LabHost:
    """Ready to be logged in to."""
    public = key.with_name(key.name + ".pub").read_text()
    settings = ["-e", f"STAGING_LAB_KEY={public}", "-e", "STAGING_LAB_SSHD=" + "\n".join(sshd)]
    command = ["docker", "run", "-d", "--init", "--label", LABEL, "--memory", "512m", *settings, *options]
    for _ in range(20):
        address = f"127.0.1.{random.randrange(2, 250)}"
        name = f"staging-ssh-{uuid4().hex[:12]}"
        done = subprocess.run(
            [*command, "--name", name, "-p", f"{address}:22:22", image],
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
        )
        if done.returncode == 0:
            break
        call("docker", "rm", "-f", "-v", name)
        # Somebody else's host has the address.
        assert "in use" in done.stderr or "allocated" in done.stderr, done.stderr
    container = done.stdout.strip()
    try:
        clear_firewall(address)
        wait_for(lambda: answers(address), START_TIMEOUT_S)
    except BaseException:
        call("docker", "rm", "-f", "-v", container)
        raise
    folder.mkdir(parents=True, exist_ok=True)
    host = LabHost(container, address, key, folder)
    host.known_hosts.write_text(f"{address} {host.host_key()}\n")
    return host


def clear_firewall(address: str) -> None:
    """Takes away what a test that was killed inside `firewall` left: at this new host's address, and where none is.

    Where a host runs, docker listens.
    """
    if os.geteuid() != 0 or not shutil.which("iptables"):
        return
    for rule in call("iptables", "-w", "20", "-S", "OUTPUT").splitlines():
        if (found := re.search(r" (127\.0\.1\.\d+)/32 ", rule)) and (found[1] == address or _is_free(found[1])):
            # Another run may have been quicker.
            command = ["iptables", "-w", "20", "-D", *rule.split()[1:]]
            subprocess.run(command, capture_output=True, timeout=CALL_TIMEOUT_S)


def _is_free(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 22))
        except OSError:
            return False
        return True


def answers(address: str) -> bool:
    """Whether an sshd says its version there."""
    try:
        with socket.create_connection((address, 22), timeout=2.0) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def remove_hosts(containers: Sequence[str]) -> None:
    """Paused ones too."""
    if containers:
        call("docker", "rm", "-f", "-v", *containers)


def in_background(work: Any, *arguments: Any) -> Future[Any]:
    """A call in a thread of its own, which no pool waits for."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def seconds_until(future: Future[Any]) -> float:
    """How long its result, or its error, is still away; at most a minute."""
    began = time.monotonic()
    future.exception(timeout=60.0)
    return time.monotonic() - began
