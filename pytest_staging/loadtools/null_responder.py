"""A service that does nothing, so that a load tool shows what it costs and how much it can send.

usage: python -m pytest_staging.loadtools.null_responder PORT_FILE PROCESSES

Answers every HTTP/1.1 request with an empty JSON object. The port is written to PORT_FILE when it listens.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Responder(asyncio.Protocol):
    """One connection; requests may come in pieces, or several at once."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers are small: none may wait for the next."""
        self._transport = transport
        found = transport.get_extra_info("socket")
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """As many answers as there are whole requests."""
        self._rest += data
        count = 0
        while (end := self._rest.find(HEAD_END)) >= 0:
            length = LENGTH.search(self._rest, 0, end)
            whole = end + len(HEAD_END) + (int(length[1]) if length else 0)
            if len(self._rest) < whole:
                break
            self._rest = self._rest[whole:]
            count += 1
        if count and isinstance(self._transport, asyncio.Transport):
            self._transport.write(ANSWER * count)


async def serve(listener: socket.socket) -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(Responder, sock=listener)
    await server.serve_forever()


def main(port_file: str, processes: str) -> None:
    """Listens, says where, and serves until it is killed."""
    """Listens with that many processes; `port_file` appears with the port once it does."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    temporary = Path(f"{port_file}.tmp")
    temporary.write_text(str(listener.getsockname()[1]))
    temporary.rename(port_file)
    for _ in range(int(processes) - 1):
        if os.fork() == 0:
            break
    asyncio.run(serve(listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
