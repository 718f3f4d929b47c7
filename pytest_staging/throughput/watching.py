"""The policy's status before, during and after a campaign: taken by the campaign itself, a line of JSON each.

One file in the campaign's folder, only ever appended to. A status that could not be had is a line with the error: the
evidence is incomplete then, and says so.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import PolicyRefused, PolicyUnreachable, WorkspaceError
from pytest_staging.model.throughput import Phase
from pytest_staging.throughput.client import PolicyClient

SNAPSHOTS, POLICY_COPY = "policy-status.jsonl", "throughput.yaml"
INTERVAL_S = 5.0
TRIES, PAUSE_S = 3, 0.5
JOIN_S = 30.0


class PolicyWatch:
    """Takes snapshots in a thread of its own; `client` speaks to the API of the policy in force."""

    def __init__(self, client: PolicyClient, folder: Path, policy_text: str, interval_s: float = INTERVAL_S) -> None:
        self._policy_text = policy_text
        self._client, self._path, self._interval_s = client, folder / SNAPSHOTS, interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy-watch", daemon=True)
        self._failure: Exception | None = None

    def begin(self) -> None:
        """The status before. Raises PolicyUnreachable: better now than after hours of load."""
        told = self._ask()
        pinned = self._path.with_name(POLICY_COPY)
        if not pinned.exists():  # a campaign that goes on keeps what it began with
            durable.write_text(pinned, self._policy_text)
        self._append(Phase.BEFORE, told)
        self._thread.start()

    def end(self, finished: bool) -> None:
        """The status after, when the campaign has `finished`. Raises StorageError."""
        if self._thread.ident is None:
            return
        self._ended.set()
        self._thread.join(JOIN_S)
        if self._failure:
            raise self._failure
        if finished:
            self._append(Phase.AFTER, self._try())

    def _run(self) -> None:
        try:
            while True:
                self._append(Phase.DURING, self._try())
                if self._ended.wait(self._interval_s):
                    return
        except Exception as error:  # raised again by end(): a thread has nobody to tell
            self._failure = error

    def _try(self) -> dict[str, Any]:
        for left in reversed(range(TRIES)):
            try:
                return self._ask()
            except (PolicyUnreachable, PolicyRefused) as error:
                if not left or self._ended.wait(PAUSE_S):
                    return {"error": str(error)}
        raise AssertionError("unreachable")

    def _ask(self) -> dict[str, Any]:
        ask: dict[str, Callable[[], dict[str, Any]]] = {
            "status": self._client.status, "preset": self._client.requested, "override": self._client.override,
        }  # fmt: skip
        return {name: call() for name, call in ask.items()}

    def _append(self, phase: Phase, told: dict[str, Any]) -> None:
        at = datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds")
        entry = {"phase": phase.value, "at": at.replace("+00:00", "Z"), "api_base": self._client.base_url, **told}
        with durable.storing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_snapshots(path: Path) -> list[dict[str, Any]]:
    """Every whole line of the file; none when there is no file. Raises WorkspaceError for a line that is no snapshot.

    The last line may be torn: a campaign can be killed while it writes.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            known = isinstance(entry, dict) and Phase(entry.get("phase")) and isinstance(entry.get("at"), str)
        except (ValueError, RecursionError):
            known = False
        if known:
            found.append(entry)
        elif number < len(lines):
            raise WorkspaceError(f"{path}, line {number}: is no snapshot of the policy's status.")
    return found
