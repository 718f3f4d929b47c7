"""The policy in one process: state, telemetry and audit trail under one lock. What the API and the poller share.

A change is written to the audit trail, then to the state file, and only then in force.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import PolicyRefused, StorageError, WorkspaceError
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.throughput.audit import AuditTrail
from pytest_staging.throughput.machine import Instant, PolicyState, Reading, Telemetry, new_override, set_preset, step
from pytest_staging.throughput.statefile import AUDIT, LOCK, StateFile
from pytest_staging.throughput.status import build_status, preview

Clock = Callable[[], Instant]
MAX_TEXT = 200
LOG = logging.getLogger(__name__)


class PolicyService:
    """Safe to be called from several threads."""

    def __init__(self, policy: ThroughputPolicy, folder: Path, clock: Clock) -> None:
        """Raises StorageError, and WorkspaceError when another process serves this folder."""
        self.policy = policy
        self._clock = clock
        self._lock = threading.RLock()
        self._held = ExitStack()
        self._held.enter_context(_alone(folder))
        try:
            self._file = StateFile(folder, policy)
            self._state = self._file.load()
            self._audit = AuditTrail(folder / AUDIT)
            if self._state.trouble:
                self._note("service", "state-unusable", reason=self._state.trouble)
        except BaseException:
            self._held.close()
            raise
        self._telemetry = Telemetry()
        self._owed: list[Callable[[], None]] = []

    def close(self) -> None:
        """Lets go of the folder."""
        self._held.close()

    def status(self, preset: str | None = None, stale: bool = False) -> dict[str, Any]:
        """The published status; with arguments: what it would be. Raises PolicyRefused for an unknown preset."""
        if preset is not None:
            self._require_preset(preset)
        with self._lock:
            now = self._advance()
            return build_status(self.policy, *preview(self._state, self._telemetry, preset, stale), now)

    def requested(self) -> dict[str, Any]:
        """The preset that is set, and the one before it: the way back."""
        with self._lock:
            return {"preset": self._state.requested, "previous_preset": self._state.previous}

    def override(self) -> dict[str, Any]:
        """The override that is in force, with its seconds left; `active: false` without one."""
        with self._lock:
            now, current = self._advance(), self._state.override
            if current is None:
                return {"active": False, "preset": None, "ttl_seconds": None, "remaining_seconds": None,
                        "expires_at": None, "who": None, "reason": None}  # fmt: skip
            left_s = current.remaining_s(now)
            return {"active": True, "preset": current.preset, "ttl_seconds": current.ttl_s,
                    "remaining_seconds": round(left_s, 1), "expires_at": _stamp(now.wall_s + left_s),
                    "who": current.who, "reason": current.why or None}  # fmt: skip

    def audit(self, count: int = 50) -> list[dict[str, Any]]:
        """The last changes, the newest first."""
        with self._lock:
            self._advance()
            self._settle()
            return self._audit.last(count)

    def set_preset(self, who: str, preset: str) -> dict[str, Any]:
        """Stays until another is set. Raises PolicyRefused or StorageError."""
        self._require_preset(preset)
        with self._lock:
            self._advance()
            before = self._state
            self._change(who, "set", set_preset(before, preset), preset=preset, before=before.requested)
            return self.requested()

    def set_override(self, who: str, preset: str, ttl_s: float | None, why: str = "") -> dict[str, Any]:
        """Takes the place of another one. Raises PolicyRefused for a TTL out of bounds, or StorageError."""
        self._require_preset(preset)
        ttl_s = self._bounded(ttl_s)
        with self._lock:
            new = new_override(preset, ttl_s, self._advance(), who, why[:MAX_TEXT])
            self._change(who, "override", replace(self._state, override=new), preset=preset, ttl_s=ttl_s,
                         reason=new.why or None)  # fmt: skip
            return self.override()

    def clear_override(self, who: str) -> dict[str, Any]:
        """Nothing happens without one. Raises StorageError."""
        with self._lock:
            self._advance()
            if self._state.override:
                self._change(who, "clear", replace(self._state, override=None), preset=self._state.override.preset)
            return self.override()

    def offer(self, depths: Mapping[str, int] | None, problem: str = "", at_s: float | None = None) -> None:
        """What a poll gave: depths, told at `at_s` of the monotonic clock, or why there are none."""
        with self._lock:
            at_s = self._clock().mono_s if at_s is None else at_s
            reading = self._telemetry.reading if depths is None else Reading(at_s, depths)
            self._telemetry = Telemetry(reading, problem)
            self._advance()
            self._settle()

    def _advance(self) -> Instant:
        """Time and telemetry take effect at once: an override must not live on because the disk is full."""
        now, before = self._clock(), self._state
        after = step(self.policy, before, self._telemetry, now)
        if before.override and not after.override:
            # In force already, whatever the disk says: an override must not live on because it is full.
            ended = before.override
            self._owed.append(lambda: self._note("expiry", "override-ended", preset=ended.preset, ttl_s=ended.ttl_s))
            self._owed.append(lambda: self._file.save(self._state))
        elif (before.warning.on, before.critical.on) != (after.warning.on, after.critical.on):
            self._owed.append(lambda: self._file.save(self._state))
        self._state = after
        return now

    def _settle(self) -> None:
        """Writes what time and telemetry changed. A full disk keeps nobody from reading: it is tried again."""
        try:
            while self._owed:
                self._owed[0]()
                self._owed.pop(0)
        except StorageError as error:
            LOG.error("%s", error)

    def _change(self, who: str, what: str, after: PolicyState, **facts: Any) -> None:
        self._settle()
        self._note(who, what, **facts)
        self._file.save(after)
        self._state = after

    def _note(self, who: str, what: str, **facts: Any) -> None:
        at = _stamp(self._clock().wall_s)
        self._audit.append({"at": at, "who": who, "what": what, **{k: v for k, v in facts.items() if v is not None}})

    def _require_preset(self, preset: str) -> None:
        if preset not in self.policy.presets:
            raise PolicyRefused(f"there is no preset {preset[:40]!r}; known are {', '.join(self.policy.presets)}")

    def _bounded(self, ttl_s: float | None) -> float:
        bounds = self.policy.override
        ttl_s = bounds.default_ttl_s if ttl_s is None else ttl_s
        if not bounds.min_ttl_s <= ttl_s <= bounds.max_ttl_s:
            raise PolicyRefused(
                f"a TTL of {ttl_s:.12g} s is out of bounds: "
                f"the policy allows {bounds.min_ttl_s:g} s to {bounds.max_ttl_s:g} s"
            )
        return ttl_s


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes on one state would each undo what the other is told."""
    from filelock import FileLock, Timeout

    with durable.storing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = FileLock(str(folder / LOCK))
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise WorkspaceError(
                f"another `staging-manager policy serve` uses {folder}. End it, or give another --state."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _stamp(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
