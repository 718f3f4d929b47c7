"""Which profile runs, and which ran before: one file per Compose project, in the workspace's folder capacity/."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import durable, store
from pytest_staging.model.errors import LeaseTimeout, WorkspaceError

SCHEMA_VERSION = 1
KEPT = 50
LOCK_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A start of a profile. `ready` tells whether it got ready; `reason` is start or rollback."""

    profile: str
    environment: str
    started_at: str
    reason: str
    ready: bool = False


def _entry(raw: Any) -> Entry:
    """Raises TypeError for what is no entry: dataclasses take a value of any type."""
    entry = Entry(**raw)
    for name, value in asdict(entry).items():
        wanted = bool if name == "ready" else str
        if not isinstance(value, wanted):
            raise TypeError(f"{name} is {value!r}, and no {'truth value' if wanted is bool else 'text'}")
    return entry


class History:
    """Of one project, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "history.json"

    def entries(self) -> list[Entry]:
        """Raises WorkspaceError for a damaged file."""
        if not self.path.exists():
            return []
        raw = store.read_json(self.path, "history of capacity profiles")
        try:
            if raw["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {raw['schema_version']} is not known here")
            return [_entry(one) for one in raw["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            advice = "Remove it: only what ran before is forgotten."
            raise WorkspaceError(f"{self.path} is damaged: {error}. {advice}") from error

    def begin(self, profile: str, environment: str, reason: str) -> None:
        """Recorded before anything is started: what was killed half way is the profile that runs."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        entry = Entry(profile=profile, environment=environment, started_at=now, reason=reason)
        self._write([*self.entries(), entry])

    def mark_ready(self) -> None:
        """The last one got ready."""
        entries = self.entries()
        self._write([*entries[:-1], replace(entries[-1], ready=True)])

    def current(self) -> Entry | None:
        """What was started last."""
        entries = self.entries()
        return entries[-1] if entries else None

    def before(self) -> Entry | None:
        """The last other profile that was ready."""
        entries = self.entries()
        return next((one for one in reversed(entries[:-1]) if one.ready and one.profile != entries[-1].profile), None)

    def forget(self) -> None:
        """Nothing of the project is left."""
        if self.path.exists():
            durable.remove(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time changes the project. Raises LeaseTimeout."""
        from filelock import FileLock, Timeout

        with durable.storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(self.folder / ".lock"))
            try:
                lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.1)
            except Timeout as error:
                raise LeaseTimeout(
                    f"another staging-manager capacity command has worked on {self.folder.name} for {LOCK_TIMEOUT_S:g} "
                    "s. Let it finish, or stop it."
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _write(self, entries: list[Entry]) -> None:
        data = {"schema_version": SCHEMA_VERSION, "entries": [asdict(one) for one in entries[-KEPT:]]}
        store.write_json(self.path, data)
