"""A process's output, drained for as long as it runs and kept within bounds: its beginning and its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HEAD_BYTES = 8 << 20
TAIL_BYTES = 1 << 20


class BoundedLog:
    """Reads `descriptor` to its end in a thread: endless output neither blocks the program nor fills the disk."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        echo: Callable[[bytes], None] | None = None,
        head_bytes: int = HEAD_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        self._echo = echo
        self._descriptor = descriptor
        self._room = head_bytes
        self._tail_bytes = tail_bytes
        self._tail = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._thread = threading.Thread(target=self._drain, name=f"log {path.name}", daemon=True)
        self._thread.start()

    def close(self, deadline_s: float = 2.0) -> None:
        """Waits for the end of the output, at most `deadline_s`: somebody else may still hold the pipe."""
        self._thread.join(deadline_s)
        with self._lock:
            if self._file.closed:
                return
            with suppress(OSError):
                if self._dropped:
                    self._file.write(f"\n... {self._dropped} bytes left out ...\n".encode())
                self._file.write(self._tail)
            self._file.close()
        if not self._thread.is_alive():
            os.close(self._descriptor)

    def _drain(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, 1 << 16)
            except OSError:
                return
            if not chunk:
                return
            if self._echo:
                self._echo(chunk)
            with self._lock:
                if self._file.closed:
                    continue
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        head, rest = chunk[: self._room], chunk[self._room :]
        if head:
            try:
                self._file.write(head)
            except OSError:
                # A full disk must not block the program under test; the cell's own files will report it.
                rest = chunk
            self._room -= len(head)
        self._tail += rest
        excess = len(self._tail) - self._tail_bytes
        if excess > 0:
            self._dropped += excess
            del self._tail[:excess]
