"""A metrics endpoint that answers as it is told, and misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering(ThreadingHTTPServer):
    """Answers request k with the k-th of `answers`, and with the last one from then on."""

    daemon_threads = True

    def __init__(self, answers: list[str | Callable[[BaseHTTPRequestHandler], None]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.count = 0
        self.closing = threading.Event()
        self.outlasted = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        answer = self.server.answers[min(self.server.count, len(self.server.answers) - 1)]
        self.server.count += 1
        if callable(answer):
            with suppress(OSError):
                answer(self)
        else:
            reply(self, 200, answer.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def closing(handler: BaseHTTPRequestHandler) -> threading.Event:
    assert isinstance(handler.server, Answering)
    return handler.server.closing


def hang(handler: BaseHTTPRequestHandler) -> None:
    closing(handler).wait(60)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A body that never ends, fast enough that no single read times out."""
    handler.send_response(200)
    handler.end_headers()
    while not closing(handler).wait(0.02):
        handler.wfile.write(b"up 1\n")


def trickle_header(handler: BaseHTTPRequestHandler) -> None:
    """A head that comes letter by letter for half a minute; `outlasted` tells that somebody read it to the end."""
    assert isinstance(handler.server, Answering)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    for _ in range(1500):
        if closing(handler).wait(0.02):
            return
        handler.wfile.write(b"a")
    handler.server.outlasted.set()


def keep_open(handler: BaseHTTPRequestHandler, body: bytes = b"up 1\n") -> None:
    """An answer whose connection serves the next request too."""
    handler.protocol_version, handler.close_connection = "HTTP/1.1", False
    reply(handler, 200, body)


@contextmanager
def serving(*answers: str | Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Answering]:
    with Answering(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
