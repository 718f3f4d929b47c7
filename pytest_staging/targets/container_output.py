"""What a container prints, streamed from the engine into a bounded log.

Source: https://docs.docker.com/engine/api/v1.41/#operation/ContainerAttach (the stream's format).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from pytest_staging import durable
from pytest_staging.engine import Engine
from pytest_staging.targets.output import BoundedLog

CHUNK_BYTES = 1 << 16
FLUSH_DEADLINE_S = 2.0
HEADER = struct.Struct(">BxxxL")  # which stream, and the length of what follows


class ContainerOutput:
    """Attaches to a container that is not started yet, so that no byte is missed.

    Raises StorageError, EngineLost. The SDK's own stream is not used: it makes four system calls for each line, which
    costs a talkative service's neighbour, the load tool, its processor.
    """

    def __init__(self, engine: Engine, container_id: str, log: Path) -> None:
        reading, writing = os.pipe()
        try:
            with durable.storing(log):
                self._log = BoundedLog(log, reading)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        try:
            streams = {"stdout": 1, "stderr": 1, "stream": 1}
            self._stream = engine.call("attach", engine.client.api.attach_socket, container_id, streams)
        except BaseException:
            os.close(writing)
            self._log.close()
            raise
        self._socket: socket.socket = getattr(self._stream, "_sock", self._stream)
        self._socket.settimeout(None)  # a silent service is no lost engine
        self._thread = threading.Thread(target=self._copy, args=(writing,), name=f"output {log.name}", daemon=True)
        self._thread.start()

    def close(self, deadline_s: float) -> None:
        """Waits for the end of the output, at most `deadline_s`; what came until then is in the log, whole."""
        self._thread.join(deadline_s)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(FLUSH_DEADLINE_S)
        self._log.close(FLUSH_DEADLINE_S)
        for closing in (self._stream, self._socket):  # the SDK's pool would keep it
            with suppress(OSError):
                closing.close()

    def _copy(self, writing: int) -> None:
        frames = Frames()
        with suppress(OSError), os.fdopen(writing, "wb") as pipe:
            while chunk := self._socket.recv(CHUNK_BYTES):
                pipe.write(frames.feed(chunk))
                pipe.flush()


class Frames:
    """Takes the headers out of a stream that arrives in pieces of any size. Both outputs become one."""

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0

    def feed(self, chunk: bytes) -> bytes:
        """What the container printed in `chunk`."""
        data, at, found = self._pending + chunk, 0, []
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                found.append(piece)
            elif len(data) - at >= HEADER.size:
                self._left = HEADER.unpack_from(data, at)[1]
                at += HEADER.size
            else:
                break
        self._pending = data[at:]
        return b"".join(found)
