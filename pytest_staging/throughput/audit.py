"""The audit trail: one line of JSON for each change, synced before the change counts. Only ever appended to."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_staging import durable

KEPT = 200
MAX_TAIL_BYTES = 1 << 20


class AuditTrail:
    """Appends to one file; the last lines are kept in memory for readers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: deque[dict[str, Any]] = deque(_read_tail(path), maxlen=KEPT)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Raises StorageError; then nothing may be changed."""
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        with durable.storing(self._path):
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                # What a killed process left of a line must not swallow this one.
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" + line if torn else line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                durable.sync_folder(self._path.parent)
        self._last.append(dict(entry))

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last changes, the newest first."""
        return list(self._last)[::-1][:count]


def _read_tail(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in durable.read_tail(path, KEPT, MAX_TAIL_BYTES).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a torn line, which stays in the file for people to see
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
