"""A port of a real host as a port of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hosting import LabHost, answers
from workspaces import wait_for

from pytest_staging.model.errors import RemoteFailed
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.forward import PortForward

ECHO = """
import socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        got = 0
        while data := self.request.recv(65536):
            got += len(data)
            self.request.sendall(data)
        self.request.sendall(b"END %d" % got)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 50
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def echo(connection: SshConnection) -> Iterator[int]:
    """Port of a server on the host that says everything again, and at its client's end how much that was."""
    process = connection.start(["python3", "-c", ECHO])
    yield int(wait_for(lambda: process.stdout))
    process.stop(0)


def talk(port: int, content: bytes) -> bytes:
    """Sends all, ends its own direction, and reads to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(client.sendall, content)
            sending.add_done_callback(lambda done: client.shutdown(socket.SHUT_WR))
            answer = b""
            while data := client.recv(65536):
                answer += data
        return answer


def test_both_directions_end_on_their_own(connection: SshConnection, echo: int) -> None:
    """PT-02: the answer that follows the client's end arrives, for nothing, little and much."""
    with PortForward(connection, echo) as forward:
        for size in (0, 1, 5_000_000):
            content = b"x" * size
            assert talk(forward.port, content) == content + b"END %d" % size


def test_many_connections_at_once(connection: SshConnection, echo: int) -> None:
    with PortForward(connection, echo) as forward, ThreadPoolExecutor(20) as pool:
        contents = [b"%d" % n * 20_000 for n in range(60)]
        answers = list(pool.map(lambda content: talk(forward.port, content), contents))
    assert answers == [content + b"END %d" % len(content) for content in contents]
    assert connection.times_dialled == 1


def test_small_messages_are_not_held_back(echo: int, host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both ways Nagle's algorithm is off, which may hold a message for 40 ms: longer than a busy machine does."""
    tuned: list[object] = []
    real = socket.socket.setsockopt

    def note(self: socket.socket, *option: Any) -> None:
        real(self, *option)
        if option == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1):
            tuned.append(self.getpeername())

    monkeypatch.setattr(socket.socket, "setsockopt", note)
    with (
        host.connection() as connection,
        PortForward(connection, echo) as forward,
        socket.create_connection(("127.0.0.1", forward.port), 20) as client,
    ):
        for number in range(20):
            client.sendall(b"%4d" % number)
            assert client.recv(4, socket.MSG_WAITALL) == b"%4d" % number
        assert set(tuned) == {client.getsockname(), (host.address, 22)}


def test_nobody_behind_the_port(connection: SshConnection) -> None:
    """The client is closed at once, the reason is kept, and the listener goes on."""
    with PortForward(connection, 1) as forward:
        for _ in range(2):
            assert talk(forward.port, b"") == b""
        assert isinstance(forward.last_error, RemoteFailed)
        assert "cannot connect to 127.0.0.1:1" in str(forward.last_error)
    assert connection.run(["true"], deadline_s=10).ok


def test_close_ends_everything(connection: SshConnection, echo: int, host: LabHost) -> None:
    forward = PortForward(connection, echo)
    client = socket.create_connection(("127.0.0.1", forward.port), timeout=10)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    forward.close()
    forward.close()
    assert client.recv(1) == b""
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forward.port), timeout=10)
    assert connection.run(["true"], deadline_s=10).ok, "the connection is somebody else's"


def test_resets_do_not_harm_the_connection(connection: SshConnection, echo: int) -> None:
    """Clients that go away in the middle of an answer."""
    with PortForward(connection, echo) as forward:
        for _ in range(30):
            client = socket.create_connection(("127.0.0.1", forward.port), timeout=10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(b"x" * 300_000)
            client.close()
        assert talk(forward.port, b"still") == b"stillEND 5"
    assert connection.times_dialled == 1


def test_lost_connection_ends_what_goes_through_it(make_host: object) -> None:
    """And the next connection dials again."""
    host: LabHost = make_host()  # type: ignore[operator]
    with host.connection() as connection:
        process = connection.start(["python3", "-c", ECHO])
        port = int(wait_for(lambda: process.stdout))
        with PortForward(connection, port) as forward:
            with socket.create_connection(("127.0.0.1", forward.port), timeout=15) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                host.cut_sessions()
                assert client.recv(1) == b""
            wait_for(lambda: answers(host.address))
            assert wait_for(lambda: talk(forward.port, b"again")) == b"againEND 5"
        process.stop(0)
