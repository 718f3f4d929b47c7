"""Connections to the API: how many there may be, and how long one may be silent. On top of uvicorn's own protocol.

When all places are taken, the one that has been silent the longest gives its place to the newcomer; when none is
silent, the newcomer is refused. Both are told so, with a 503. So neither silent nor slow connections shut others out.
With TLS a place is taken before the handshake, and who is sent off during that is told nothing.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

BUSY = b'{"detail": "too many connections; try again in a second"}'
REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: " + str(len(BUSY)).encode() + b"\r\n\r\n" + BUSY
)
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Places:
    """So many connections at once. `silent_s` until a request has begun, `request_s` until it is answered."""

    def __init__(self, most: int = 500, silent_s: float = 10.0, request_s: float = 30.0) -> None:
        self.most, self.silent_s, self.request_s = most, silent_s, request_s
        self.refused = 0
        self._since: OrderedDict[Any, float] = OrderedDict()
        self._strangers: dict[int, Stranger] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def knock(self, link: socket.socket) -> None:
        """A new connection before its TLS handshake."""
        stranger = self._strangers[link.fileno()] = Stranger(link)
        self.enter(stranger)

    def introduce(self, file_number: int) -> None:
        """The handshake is over: what has knocked enters as another one."""
        self.leave(self._strangers.pop(file_number, None))

    def enter(self, one: Any) -> None:
        """A new connection, which may cost another one its place."""
        if len(self._since) >= self.most:
            leaver = next((other for other in self._since if not other.is_busy()), one)
            self.refused += 1
            self._send_off(leaver, REFUSED)
            if leaver is one:
                return
        self.renew(one)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(1.0, self._sweep_out)

    def renew(self, one: Any) -> None:
        """A request has begun: the connection is the youngest again."""
        self._since[one] = time.monotonic()
        self._since.move_to_end(one)

    def leave(self, one: Any) -> None:
        """A connection is gone."""
        self._since.pop(one, None)

    def _sweep_out(self) -> None:
        now_s = time.monotonic()
        for one, since_s in list(self._since.items()):
            if one.is_gone() or now_s - since_s > (self.request_s if one.is_busy() else self.silent_s):
                self._send_off(one, b"" if one.is_busy() else TIMED_OUT)
        self._sweep = asyncio.get_running_loop().call_later(1.0, self._sweep_out) if self._since else None

    def _send_off(self, one: Any, words: bytes) -> None:
        self._since.pop(one, None)
        one.send_off(words)


class Stranger:
    """A connection of which asyncio tells only when its TLS handshake is over."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def is_busy(self) -> bool:
        return False

    def is_gone(self) -> bool:
        return self._link.fileno() < 0

    def send_off(self, _: bytes) -> None:
        with suppress(OSError):  # it is gone already
            self._link.shutdown(socket.SHUT_RDWR)  # asyncio sees its end, and closes it


class Threshold(socket.socket):
    """A listening socket that tells the places of each connection as soon as it is accepted. For asyncio's own loop."""

    def __init__(self, listening: socket.socket, places: Places) -> None:
        super().__init__(fileno=listening.detach())
        self._places = places

    def accept(self) -> tuple[socket.socket, Any]:
        link, address = super().accept()
        self._places.knock(link)
        return link, address


def protocol_with(places: Places) -> type[asyncio.Protocol]:
    """uvicorn's protocol for HTTP/1.1, with these places."""

    class Door(H11Protocol):
        """One connection."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            places.introduce(transport.get_extra_info("socket").fileno())
            places.enter(self)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                places.renew(self)

        def connection_lost(self, exc: Exception | None) -> None:
            places.leave(self)
            super().connection_lost(exc)

        def is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def is_gone(self) -> bool:
            return self.transport is None

        def send_off(self, words: bytes) -> None:
            if self.transport is None:
                return
            if words and not self.transport.is_closing():
                self.transport.write(words)
            # A small answer is on its way by now. To close would wait for who reads nothing, or does not end its TLS,
            # and that one's place is taken already.
            self.transport.abort()

    return Door
