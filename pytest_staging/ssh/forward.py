"""A port of a host, or one that the host can reach, as a port of this machine. Nothing else on it is reachable."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

import paramiko

from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.ssh.exchange import Bell
from pytest_staging.ssh.kept import KeptConnection
from pytest_staging.ssh.transport import Gate, push

LOOPBACK = "127.0.0.1"
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
CHUNK_BYTES = 64 << 10
_GONE = (paramiko.SSHException, EOFError, OSError)


class PortForward:
    """Listens on `127.0.0.1:port`; each connection there becomes one to `host:port` as the SSH host sees it.

    A connection that the host cannot make is closed at once, as a port with nobody behind it would be; `last_error`
    says why. Close it, or use it in a `with`.
    """

    def __init__(self, connection: KeptConnection, remote_port: int, remote_host: str = LOOPBACK) -> None:
        """Raises UsageProblem for what is no port, and what `connection.connect` raises."""
        if type(remote_port) is not int or not 0 < remote_port < 65536:  # the protocol would take any number
            raise UsageProblem(f"{remote_port!r} is no port of a host: give a number from 1 to 65535.")
        connection.connect()
        self._connection = connection
        self._remote = (remote_host, remote_port)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pipes: set[_Pipe] = set()
        self.last_error: StagingError | None = None
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"ssh forward {self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> PortForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PortForward 127.0.0.1:{self.port} to {self._remote[0]}:{self._remote[1]} of {self._connection}>"

    def close(self) -> None:
        """Ends the listener and every connection through it. May be called twice."""
        self._closed.set()
        with suppress(OSError):
            # Closing alone does not wake the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(CLOSE_TIMEOUT_S)
        with self._lock:
            pipes = list(self._pipes)
        for pipe in pipes:
            pipe.close()
        for pipe in pipes:
            pipe.over.wait(CLOSE_TIMEOUT_S)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            # The host may take its time to connect; others must not wait for that.
            pipe = _Pipe(accepted)
            with self._lock:
                self._pipes.add(pipe)
            threading.Thread(target=self._serve, args=(pipe,), name="ssh forwarded", daemon=True).start()

    def _serve(self, pipe: _Pipe) -> None:
        try:
            pipe.run(self._connection.open_tunnel(*self._remote, OPEN_TIMEOUT_S))
        except StagingError as error:
            self.last_error = error
        finally:
            pipe.close()
            with self._lock:
                self._pipes.discard(pipe)
            pipe.release()


class _Pipe:
    """One connection: bytes in both directions, each ending on its own."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted
        self._channel: paramiko.Channel | None = None
        self._gate = Gate()
        self._bell = Bell()
        self._closed = False
        self.over = threading.Event()

    def run(self, channel: paramiko.Channel) -> None:
        """Returns when both directions have ended."""
        channel.gate = self._gate  # type: ignore[attr-defined]
        channel.settimeout(0.0)
        self._channel = channel
        channel.in_buffer.set_event(self._bell)
        upwards = threading.Thread(target=self._send_up, args=(channel,), name="ssh forwarded up", daemon=True)
        upwards.start()
        self._send_down(channel)
        upwards.join()

    def close(self) -> None:
        """Both directions at once."""
        self._closed = True
        self._bell.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        channel = self._channel
        if channel:
            self._gate.closing(lambda: _close(channel))

    def release(self) -> None:
        """After `run`, by the thread that called it."""
        self._socket.close()
        self.over.set()

    def _send_up(self, channel: paramiko.Channel) -> None:
        try:
            while data := self._socket.recv(CHUNK_BYTES):
                if not push(channel, self._gate, data, lambda: self._closed):
                    return
            with self._gate.sending():
                channel.shutdown_write()
        except _GONE:
            # A reset: nothing more can come back either.
            self.close()

    def _send_down(self, channel: paramiko.Channel) -> None:
        try:
            while not self._closed:
                self._bell.rest()
                if channel.recv_ready():
                    self._socket.sendall(channel.recv(CHUNK_BYTES))
                elif channel.closed or channel.eof_received:
                    break
                else:
                    self._bell.wait(1.0)
            whole = channel.eof_received and not channel.closed
            self._socket.shutdown(socket.SHUT_WR if whole else socket.SHUT_RDWR)
        except _GONE:
            self.close()


def _close(channel: paramiko.Channel) -> None:
    with suppress(*_GONE):
        channel.close()
