"""A time limit for a whole request over httpx, whose own limits hold for each read alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


class Deadline:
    """For a client that makes one request at a time; each of them takes `extensions`."""

    def __init__(self) -> None:
        self.extensions = {"trace": self._note}
        self._over = False
        self._stream: Any = None

    @contextmanager
    def within(self, seconds: float, late: Exception) -> Iterator[None]:
        """When the time is over, the connection is cut, which wakes whoever reads from it, and `late` is raised."""
        self._over = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if self._over:
                raise late from error
            raise
        finally:
            timer.cancel()
            timer.join()  # so that it cuts nothing of the next request
        if self._over:  # a body of unknown length looks whole when it is cut
            raise late

    def _note(self, name: str, info: Mapping[str, Any]) -> None:
        """httpx tells each step of a request; one over a connection that is open already has no such step."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._stream = info["return_value"]
            if self._over:
                self._cut()

    def _cut(self) -> None:
        self._over = True
        if self._stream is not None:
            with suppress(OSError):  # it is closed, or in a TLS handshake, which has a limit of its own
                # Not the shutdown of ssl.SSLSocket: after that, what another thread writes would go out in the clear.
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
