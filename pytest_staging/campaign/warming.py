"""Waiting until a service is steady, by what its load tool records while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_staging.campaign.loading import RunningLoad
from pytest_staging.model.benchmark import WarmUp
from pytest_staging.stats.steady import SteadyRule, is_steady, level_of

LAG_S = 0.5
"""After a window's end its last requests may still be on their way into the file."""


@dataclass(frozen=True)
class Warmed:
    """The epoch instant at which the load window begins, how long the warm-up took, and whether it ended steadily.

    `steady` is None for a warm-up of a fixed length.
    """

    at_s: float
    seconds: float
    steady: bool | None = None

    def facts(self) -> dict[str, Any]:
        """For the cell's summary."""
        return {} if self.steady is None else {"warm_up_s": round(self.seconds, 3), "steady": self.steady}


def await_steady(running: RunningLoad, live: Sequence[Path], ready_s: float, spec: WarmUp) -> Warmed:
    """Follows the load from the instant at which all users send. Raises LoadFailed, ServiceFailed."""
    rule = SteadyRule(window_s=spec.window_s, windows=spec.windows, tolerance=spec.tolerance)
    windows = Windows(ready_s, spec.window_s)
    readers = [FollowedCsv(path) for path in live]
    levels: list[float | None] = []
    latest_s = ready_s + spec.max_s
    while True:
        end_s = ready_s + (len(levels) + 1) * spec.window_s + LAG_S
        running.await_instant(min(end_s, latest_s))
        for reader in readers:
            windows.add(reader.read())
        if end_s > latest_s:
            return Warmed(latest_s, spec.max_s, steady=False)
        levels.append(level_of(windows.latencies(len(levels))))
        if is_steady(levels, rule):
            return Warmed(end_s, end_s - ready_s, steady=True)


@dataclass
class Windows:
    """Latencies by the window in which their request began."""

    start_s: float
    window_s: float
    _found: dict[int, list[float]] = field(default_factory=dict)

    def add(self, rows: Iterator[tuple[float, float]]) -> None:
        """Rows of start and latency, in any order."""
        for started_s, latency_ms in rows:
            self._found.setdefault(int((started_s - self.start_s) // self.window_s), []).append(latency_ms)

    def latencies(self, number: int) -> list[float]:
        """Of one window, counted from 0."""
        return self._found.get(number, [])


class FollowedCsv:
    """A CSV file that somebody else is writing: whole lines only, and each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[tuple[float, float]]:
        """The first two columns of the lines that were added since. Skips a header and lines without numbers."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            columns = line.split(b",", 2)
            try:
                yield float(columns[0]), float(columns[1])
            except (ValueError, IndexError):
                continue
