"""A host's container engine as a socket of this machine: what connects to it talks to the engine over SSH.

Each connection becomes a session on the host that runs `docker system dial-stdio`, as the docker client itself does for
an `ssh://` address: it finds the engine as the user's docker there would, with the user's rights, and opens no port.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import paramiko

from pytest_staging.model.errors import HOST_GONE, ConnectionLost, EngineMissing, HostBusy, RemoteFailed, StagingError
from pytest_staging.ssh import shell
from pytest_staging.ssh.config import Endpoint
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.exchange import Exchange
from pytest_staging.ssh.host import RECONNECT_S
from pytest_staging.ssh.kept import CONNECT_TIMEOUT_S, GONE, gone
from pytest_staging.ssh.link import Link

DIAL = ("docker", "system", "dial-stdio")
OPEN_DEADLINE_S = 30.0
CHUNK_BYTES = 64 << 10
# Two calls last as long as a cell does. sshd allows at least one session on a connection, by default ten.
MAX_CONNECTIONS = 4
NO_DOCKER = 127
PREFIX, SOCKET = "pytest-staging-link-", "engine.sock"
_TURN_S = 60.0


class EngineLink:
    """Sessions to the engine of `endpoint`, on SSH connections of their own.

    Calls that last as long as a cell does would hold the sessions of a connection that others need for short commands,
    and where sshd allows only two of them there would be none left. `marks` are put into the environment of what runs
    on the host, by which it is found and ended when this program dies.
    """

    def __init__(self, endpoint: Endpoint, marks: Callable[[], Mapping[str, str]]) -> None:
        """Nothing is made or dialled before it is needed."""
        self.endpoint = endpoint
        self._marks = marks
        self._lock = threading.Lock()
        self._dialling = threading.Lock()
        self._listener: socket.socket | None = None
        self._path = Path()
        self._connections: list[SshConnection] = []
        self._carried: set[socket.socket] = set()
        self._failures: deque[tuple[float, StagingError]] = deque(maxlen=16)

    def __repr__(self) -> str:
        return f"<EngineLink {self.endpoint}>"

    def listen(self) -> Path:
        """The socket, in a folder that only this user may enter. It goes by `end`, or when this program ends."""
        with self._lock:
            if self._listener is None:
                _remove_stale()
                folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                self._listener = listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(folder / "new"))
                listener.listen(16)
                self._path = (folder / "new").rename(folder / SOCKET)  # by this name it always answers
                threading.Thread(target=self._accept, args=(listener,), name="engine link", daemon=True).start()
            return self._path

    def failure_since(self, began: float) -> StagingError | None:
        """Why a session failed after that monotonic second: above all that the host is gone; None when none did."""
        with self._lock:
            found = [error for at, error in self._failures if at >= began]
        lost = [error for error in found if isinstance(error, HOST_GONE)]
        return (lost or found or [None])[-1]

    def hang_up(self) -> None:
        """Ends every call. Later ones begin anew, on connections that are kept."""
        with self._lock:
            carried, self._carried = self._carried, set()
            for local in carried:
                _cut(local)

    def close(self) -> None:
        """Ends every call and the connections; a later call dials again. May be called twice."""
        self.hang_up()
        with self._dialling:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def end(self) -> None:
        """Closes it for good: nobody can connect any more."""
        with self._lock:
            listener = self._listener
        if listener:
            _cut(listener)  # closing alone does not wake the thread that accepts
            shutil.rmtree(self._path.parent, ignore_errors=True)
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        with listener, suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                with self._lock:
                    self._carried.add(accepted)
                threading.Thread(target=self._serve, args=(accepted,), name="engine call", daemon=True).start()

    def _serve(self, local: socket.socket) -> None:
        try:
            # Somebody who only looks whether there is a socket costs no session.
            if first := local.recv(CHUNK_BYTES):
                self._carry(local, first)
        except StagingError as error:
            self._note(error, local)
        except OSError:
            pass  # hung up
        finally:
            with self._lock:
                self._carried.discard(local)
                local.close()

    def _carry(self, local: socket.socket, first: bytes) -> None:
        token, until = secrets.token_hex(16), time.monotonic() + OPEN_DEADLINE_S
        env = {**self._marks(), shell.PROCESS_MARK: token}
        line = shell.command_line(shell.introduced(token, shell.program(DIAL, cwd=None, env=env, reads=True)))
        link, channel = self._open_session(until)
        exchange = Exchange(channel, token, local.sendall, None)
        try:
            exchange.begin(line, _received(local, first), until)
            while not exchange.drain(time.monotonic() + _TURN_S):
                pass
            if failure := self._failure(exchange, link):
                self._note(failure, local)
        except GONE as error:
            if not link.is_alive or isinstance(error, (TimeoutError, paramiko.SSHException)):
                self._note(ConnectionLost(f"{self.endpoint}: {gone(link, error)}"), local)
        finally:
            # The thread that feeds the exchange waits for this.
            _cut(local)
            exchange.close()

    def _open_session(self, until: float) -> tuple[Link, paramiko.Channel]:
        """On the first connection whose host opens one more. Raises HostUnreachable, HostBusy, ConnectionLost."""
        with self._dialling:
            for number in range(MAX_CONNECTIONS):
                if number == len(self._connections):
                    self._connections.append(SshConnection(self.endpoint))
                connection = self._connections[number]
                # Somebody may be waiting for a host that is gone.
                lost = connection.times_dialled > 0 and not connection.is_connected
                connection.connect_timeout_s = RECONNECT_S if lost else CONNECT_TIMEOUT_S
                with suppress(HostBusy):
                    return connection.open_session(until, busy_s=0.0)
        raise HostBusy(
            f"{self.endpoint}: the host opens no further session for its container engine on {MAX_CONNECTIONS} "
            "connections. Raise MaxSessions in its sshd_config."
        )

    def _failure(self, exchange: Exchange, link: Link) -> StagingError | None:
        """What the end of a session says, unless it is an ordinary one."""
        if exchange.status == 0:
            return None
        words = exchange.stderr.kept[-1000:].decode(errors="replace").strip()
        if exchange.status is None and exchange.signal is None:
            return ConnectionLost(f"{self.endpoint}: {link.lost_reason()}")
        if exchange.signal:
            return RemoteFailed(f"{self.endpoint}: docker system dial-stdio was killed by SIG{exchange.signal}.", words)
        if exchange.pid is None:
            said = (exchange.stderr.chatter or exchange.stdout.chatter)[-1000:] or "nothing"
            return RemoteFailed(f"{self.endpoint}: the login shell did not get to docker. It said: {said}", said)
        if exchange.status == NO_DOCKER:
            return EngineMissing(
                f"{self.endpoint}: the host has no docker client, through which its engine is reached. Install Docker "
                "there (sudo apt-get install docker.io)."
            )
        return EngineMissing(
            f"{self.endpoint}: no Docker engine answers on the host: {words or 'no reason was given'}. Start it there "
            f"(sudo systemctl start docker), and let {self.endpoint.user} use it (sudo usermod -aG docker "
            f"{self.endpoint.user})."
        )

    def _note(self, error: StagingError, local: socket.socket) -> None:
        with self._lock:
            if local in self._carried:  # else it was hung up here
                self._failures.append((time.monotonic(), error))


def _received(local: socket.socket, first: bytes) -> Iterator[bytes]:
    data = first
    while data:
        yield data
        try:
            data = local.recv(CHUNK_BYTES)
        except OSError:
            return


def _remove_stale() -> None:
    """What a program that was killed left behind: nobody answers there any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            if folder.stat().st_uid != os.getuid():
                continue
            try:
                probe.connect(str(folder / SOCKET))
            except ConnectionRefusedError:
                shutil.rmtree(folder, ignore_errors=True)


def _cut(local: socket.socket) -> None:
    """Both directions, for whoever is in a call on it too."""
    with suppress(OSError):
        local.shutdown(socket.SHUT_RDWR)
