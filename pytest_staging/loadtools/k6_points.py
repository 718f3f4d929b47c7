"""Raw points of k6's `--out json`, read line by line in bounded memory.

A point is stamped at the end of its request; the request began `http_req_duration` earlier. Only lines that matter are
decoded: k6 writes thirteen metrics for each request.
"""

from __future__ import annotations

import re
from array import array
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_staging.loadtools.reading import MAX_LATENCY_MS, count, latency, mapping, strict_json
from pytest_staging.model.errors import LoadFailed

DURATION = "http_req_duration"
COUNTERS = ("iterations", "dropped_iterations")
HEAD = b'{"metric":"'
# The one shape in which k6 writes a request's point. Any other line takes the long way.
QUICK = re.compile(
    rb'\{"metric":"http_req_duration","type":"Point","data":\{'
    rb'"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d):(\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:\d\d)",'
    rb'"value":(\d{1,12}(?:\.\d+)?(?:e-\d\d)?),"tags":\{[^\n]*\}\}\}\n'
)
EXPECTED, UNEXPECTED = b'"expected_response":"true"', b'"expected_response":"false"'
TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d):(\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:\d\d)")


@dataclass
class Points:
    """What lies in the window, over all files that were read, and `total` requests of the whole files.

    `ahead_s` is how far the clock of the file that is read now is ahead of the one by which the window is meant.
    """

    start_s: float
    end_s: float
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    requests: int = 0
    failures: int = 0
    first_error: str | None = None
    iterations: int = 0
    dropped: int = 0
    total: int = 0
    ahead_s: float = 0.0
    _minutes: dict[tuple[bytes, bytes], float] = field(default_factory=dict)

    def epoch_s(self, minute: bytes, seconds: bytes, zone: bytes) -> float:
        """Epoch seconds of an instant by the window's clock. Minutes are remembered: a run has few of them."""
        begun = self._minutes.get((minute, zone))
        if begun is None:
            begun = self._minutes[minute, zone] = _epoch_of_minute(minute, zone)
        return begun + float(seconds) - self.ahead_s

    def add(self, raw: Any) -> None:
        """Any line of the file, decoded. Raises ValueError for one that is neither a metric nor a point."""
        line = mapping(raw, "a line")
        kind, name = line.get("type"), line.get("metric")
        if kind == "Metric":
            return
        if kind != "Point" or not isinstance(name, str):
            raise ValueError(f"a line is neither a metric nor a point: {str(line)[:80]}")
        if name != DURATION and name not in COUNTERS:
            return
        data = mapping(line.get("data"), "data")
        found = TIME.fullmatch(str(data.get("time")).encode())
        if found is None:
            raise ValueError(f"{name} has no time: {data.get('time')!r}")
        at_s = self.epoch_s(found[1], found[2], found[3])
        if name == DURATION:
            self._add_request(at_s, latency(data.get("value"), name), mapping(data.get("tags") or {}, "tags"))
        elif self.start_s <= at_s < self.end_s:
            made = count(data.get("value"), name)
            self.iterations += made if name == "iterations" else 0
            self.dropped += made if name == "dropped_iterations" else 0

    def _add_request(self, ended_s: float, latency_ms: float, tags: Mapping[str, Any]) -> None:
        self.total += 1
        if not self.start_s <= ended_s - latency_ms / 1000 < self.end_s:
            return
        self.requests += 1
        if (error := _error(tags)) is None:
            self.latencies_ms.append(latency_ms)
        else:
            self.failures += 1
            self.first_error = self.first_error or error


def read_points(path: Path, start_s: float, end_s: float) -> Points:
    """Requests that began in the window [start_s, end_s). Raises LoadFailed for a file that is missing or broken."""
    points = Points(start_s, end_s)
    add_points(path, points)
    return points


def add_points(path: Path, points: Points) -> None:
    """Adds the file's requests that began in the points' window [start_s, end_s).

    Raises LoadFailed for a file that is missing or broken.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - said when a line is broken
                if not _quickly(points, line):
                    _slowly(points, line)
    except FileNotFoundError as error:
        raise LoadFailed(f"k6 wrote no {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} is broken in line {number}: {error}") from error


def _quickly(points: Points, line: bytes) -> bool:
    found = QUICK.fullmatch(line)
    if found is None:
        return False
    succeeded = EXPECTED in line
    # Only the first failure is looked into, for what it says.
    if not succeeded and (points.first_error is None or UNEXPECTED not in line):
        return False
    minute, seconds, zone, value = found.groups()
    latency_ms = float(value)
    if latency_ms > MAX_LATENCY_MS:
        return False
    points.total += 1
    if points.start_s <= points.epoch_s(minute, seconds, zone) - latency_ms / 1000 < points.end_s:
        points.requests += 1
        if succeeded:
            points.latencies_ms.append(latency_ms)
        else:
            points.failures += 1
    return True


def _slowly(points: Points, line: bytes) -> None:
    if not line.endswith(b"\n"):
        raise ValueError("the line is cut off")
    if line.startswith(HEAD):
        name = line[len(HEAD) : line.find(b'"', len(HEAD))].decode("ascii", "replace")
        if name != DURATION and name not in COUNTERS:
            return
    points.add(strict_json(line))


def _error(tags: Mapping[str, Any]) -> str | None:
    # Without the tag nobody told k6 what to expect: only a request without an answer failed then.
    if tags.get("expected_response", "false" if "error_code" in tags else "true") == "true":
        return None
    if tags.get("error"):
        return str(tags["error"])[:200]
    return f"status {tags.get('status', 'unknown')}"


def _epoch_of_minute(minute: bytes, zone: bytes) -> float:
    year, month, day, hour, minutes = (int(part) for part in re.split(rb"[-T:]", minute))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minutes < 60):
        raise ValueError(f"{minute.decode()} is no instant")
    shift = 0
    if zone != b"Z":
        shift = (int(zone[1:3]) * 60 + int(zone[4:6])) * (1 if zone[:1] == b"+" else -1)
    return float(timegm((year, month, day, hour, minutes, 0))) - shift * 60
