"""A thread that takes samples: at once, every interval, and once more when it is told to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_SHARE = 0.01
"""Of one CPU, that sampling may cost: a source whose samples are dearer is asked less often."""
KEPT_FAILURES = 20

Values = Mapping[str, float | None]
"""One sample: a value by its name, None for one that is there and is no finite number."""


@dataclass(frozen=True)
class Row:
    """One sample, `at_s` being the instant (time.monotonic) at which it was asked for."""

    at_s: float
    values: Values


@dataclass
class Recording:
    """The samples of one load window. `first` and `last` say whether those at its two edges were had."""

    rows: list[Row] = field(default_factory=list)
    failed: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    first: bool = False
    last: bool = False

    def fail(self, at_s: float, reason: str) -> None:
        """Counts a sample that could not be had; the first few are kept with their reason."""
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append((at_s, reason))

    @property
    def failure(self) -> str | None:
        """Why a sample failed, of the last one whose reason is kept."""
        return self.failures[-1][1] if self.failures else None

    def facts(self) -> dict[str, Any]:
        """For the cell's summary."""
        found: dict[str, Any] = {"samples": len(self.rows), "failed": self.failed}
        return {**found, "failure": self.failure} if self.failed else found

    def series(self, began_s: float) -> dict[str, Any]:
        """A column of values for each name, and one of milliseconds since `began_s` for them all; null: not there."""
        names = sorted({name for row in self.rows for name in row.values})
        return {
            "at_ms": [_ms(row.at_s - began_s) for row in self.rows],
            "values": {name: [_short(row.values.get(name)) for row in self.rows] for name in names},
            "failed": self.failed,
            "failures": [[_ms(at_s - began_s), reason] for at_s, reason in self.failures],
        }


class Sampler:
    """Calls `probe` from its own thread. Whatever it raises is one failed sample.

    `cost` is the clock (in seconds) that says what a sample cost; the pause between two grows with it.
    """

    def __init__(
        self, probe: Callable[[], Values], interval_s: float, cost: Callable[[], float] = time.thread_time
    ) -> None:
        self._probe, self._interval_s, self._cost = probe, interval_s, cost
        self._recording = Recording()
        self._changed = threading.Condition()
        self._stopped = False
        self._woken = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._loop, name="metrics", daemon=True)

    def begin(self) -> None:
        """Takes the first sample at once."""
        self._thread.start()

    def wake(self) -> None:
        """Takes a sample at once, or as soon as the one under way has ended. Does not wait for it."""
        self._woken.set()

    def stop(self) -> None:
        """As `wake`, and that sample is the last."""
        self._stopped = True
        self._woken.set()

    def wait_for(self, settled: Callable[[Sequence[Row]], bool], timeout_s: float) -> bool:
        """Until `settled` says so of the samples until now; false when it did not within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: settled(self._recording.rows), timeout_s)

    def join(self, deadline_s: float) -> Recording:
        """What was recorded, after `stop`. A last sample that takes longer than `deadline_s` is given up."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        with self._changed:
            if self._thread.is_alive() and not self._abandoned:
                self._recording.fail(time.monotonic(), f"the last sample did not end in {deadline_s:g} s")
            self._abandoned = True  # what comes now is nobody's any more
            return self._recording

    def _loop(self) -> None:
        # What the first one costs besides, connecting and so on, is paid once.
        self._sample()
        pause_s = self._interval_s
        self._recording.first = bool(self._recording.rows)
        while True:
            self._woken.wait(pause_s)
            self._woken.clear()
            if self._stopped:
                break
            pause_s = self._sample()
        known = len(self._recording.rows)
        self._sample()
        self._recording.last = len(self._recording.rows) > known

    def _sample(self) -> float:
        """Takes one; the seconds to wait before the next."""
        began_s, spent = time.monotonic(), self._cost()
        values: Values = {}
        reason = ""
        try:
            values = self._probe()
        except Exception as error:  # any failure is one missed sample, whatever raised it
            reason = describe(error)
        with self._changed:
            if not self._abandoned:
                if reason:
                    self._recording.fail(began_s, reason)
                else:
                    self._recording.rows.append(Row(began_s, values))
                self._changed.notify_all()
        return max(self._interval_s, (self._cost() - spent) / MAX_SHARE)


def describe(error: Exception) -> str:
    """One line about what was raised."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200].rstrip(": ")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _short(value: float | None) -> float | int | None:
    """Whole numbers without their `.0`: a time series is mostly those."""
    if value is None or abs(value) > 1e15:
        return value
    return int(value) if value == int(value) else round(value, 6)
