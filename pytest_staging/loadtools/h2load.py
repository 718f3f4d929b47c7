"""h2load: HTTP/1.1 or HTTP/2, closed or open load; every request with its start and duration from its own log."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_staging import durable
from pytest_staging.loadtools.driving import Drive, Phase, build_driven, read_ending
from pytest_staging.loadtools.options import alone_reason
from pytest_staging.loadtools.placing import clock_of, place_of
from pytest_staging.loadtools.programs import find_program, read_version
from pytest_staging.loadtools.reading import MAX_LATENCY_MS
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.placing import Need
from pytest_staging.model.ports import LoadCommand, LoadRequest, LoadResult, Pace

LEAST = (1, 43)
VERSION = r"h2load nghttp2/(\d+\.\d+\.\d+)"
ADVICE = "Install it with: apt-get install nghttp2-client"
REQUESTS, OUTPUT = "h2load-requests.tsv", "h2load-output.txt"
TAIL_S = 1.0
"""h2load goes on that much longer than the window: what it has not finished at its end, it does not log."""
MAX_MICROSECONDS = 2**53
SUMMARY = re.compile(r"^requests: \d+ total, (\d+) started, (\d+) done,", re.MULTILINE)


class H2loadTool:
    """One run over warm-up, window and tail; which requests count is told by the instants at which they began."""

    name = "h2load"
    tells_live = False

    def version(self) -> str:
        program = find_program("h2load", ADVICE)
        return read_version([program, "--version"], VERSION, LEAST)

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        if load.script:
            return "takes no script"
        if len(functions) != 1:
            return f"sends one body, and {len(functions)} functions are to be loaded; name one with functions"
        return alone_reason(load)

    def build_command(self, request: LoadRequest) -> LoadCommand:
        load = request.load
        if reason := self.unfit_reason(load, request.bodies):
            raise LoadUnfit(f"h2load {reason}")
        place = place_of(request, "h2load", "" if request.places else find_program("h2load", ADVICE))
        ((function, body),) = request.bodies.items()
        total_s = load.warm_up_s + load.duration_s + _tail_seconds(load)
        argv = [place.program, "--h1", "-t", "1", "-c", str(load.users), "-D", _milliseconds(total_s)]
        # Not its own time limit (-N): h2load 1.52 crashes once that has closed a connection.
        argv += ["-d", place.there(body), "-H", "Content-Type: application/json"]
        if load.shape is LoadShape.OPEN and load.rate is not None:
            argv += ["--rps", f"{load.rate / load.users:.6f}"]
        argv += [f"--log-file={place.there(request.folder / REQUESTS)}", f"{request.base_url}/invoke/{function}"]
        drive = Drive(tool="h2load", phases=[Phase(argv=argv)], total_s=total_s, output=OUTPUT)
        return build_driven(request, drive, stale=(REQUESTS, OUTPUT), cpus=1.0, inputs=[body])

    def need(self) -> Need:
        question = ("--version",)
        return Need(program="h2load", question=question, pattern=VERSION, least=LEAST, advice=ADVICE, alone=True)

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        ending = read_ending(request, "h2load")
        ahead_s = clock_of(request, 0)  # by which its log and its ending are
        log = Log(request.load, window_start_s + ahead_s, window_end_s + ahead_s)
        path = request.folder / REQUESTS
        try:
            for row in _rows(path):
                log.add(*row)
        except FileNotFoundError as error:
            raise LoadFailed(f"h2load wrote no {path.name}") from error
        except (OSError, ValueError) as error:
            raise LoadFailed(f"{path.name} of h2load is broken: {error}") from error
        said = durable.read_tail(request.folder / OUTPUT)
        unlogged = _unlogged(said, log.total)
        if log.total + unlogged == 0:
            raise LoadFailed(f"h2load reached nobody at {request.base_url}", said)
        return log.result(unlogged, ending.ended_at_s)


@dataclass
class Log:
    """What of h2load's log lies in the window."""

    load: Load
    start_s: float
    end_s: float
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    failures: int = 0
    first_error: str | None = None
    total: int = 0
    last_answer_s: float = 0.0

    def add(self, started_s: float, status: int, latency_ms: float) -> None:
        self.total += 1
        self.last_answer_s = max(self.last_answer_s, started_s + latency_ms / 1000)
        if not self.start_s <= started_s < self.end_s:
            return
        error = None if 200 <= status < 400 else "no answer" if status < 0 else f"status {status}"
        if latency_ms > self.load.request_timeout_s * 1000:
            error = f"no answer within {self.load.request_timeout_s:g} s"
        if error is None:
            self.latencies_ms.append(latency_ms)
        else:
            self.failures += 1
            self.first_error = self.first_error or error

    def result(self, unlogged: int, ended_at_s: float) -> LoadResult:
        """Requests that h2load did not finish count as failed once nobody answers in the whole tail: all of them began
        in the window then. Otherwise they began at the end of the tail, as some always do.
        """
        silent = self.last_answer_s < ended_at_s - _tail_seconds(self.load)
        lost = unlogged if silent else 0
        requests = len(self.latencies_ms) + self.failures + lost
        return LoadResult(
            latencies_ms=sorted(self.latencies_ms),
            requests=requests,
            failures=self.failures + lost,
            first_error=self.first_error or ("no answer, or the connection broke" if lost else None),
            pace=_pace(self.load, requests),
        )


def _rows(path: Path) -> Iterator[tuple[float, int, float]]:
    """(start in epoch seconds, HTTP status or -1, latency in ms) of each request, in the order of their ends."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise ValueError(f"line {number} is cut off")
            # More columns may come, by h2load's own word.
            columns = line.split(b"\t")
            if len(columns) < 3 or not all(re.fullmatch(rb"-?\d{1,17}", one.strip()) for one in columns[:3]):
                raise ValueError(f"line {number} has no start, status and duration: {line[:60]!r}")
            started_us, status, latency_us = int(columns[0]), int(columns[1]), int(columns[2])
            if not (0 < started_us < MAX_MICROSECONDS and 0 <= latency_us <= MAX_LATENCY_MS * 1000 and status < 1000):
                raise ValueError(f"line {number} is out of range: {line[:60]!r}")
            yield started_us / 1e6, status, latency_us / 1000


def _unlogged(log: str, logged: int) -> int:
    """Requests that h2load began and did not log. Raises LoadFailed when its own count and its log do not agree."""
    found = SUMMARY.search(log)
    if found is None:
        raise LoadFailed("h2load printed no summary of its requests", log)
    started, done = int(found[1]), int(found[2])
    if not done <= logged <= started:
        raise LoadFailed(f"{REQUESTS} holds {logged} requests, and h2load counts {done} of {started} as done", log)
    return started - logged


def _pace(load: Load, requests: int) -> Pace | None:
    # A client that still waits sends late, and h2load neither says so nor counts from when the request was due.
    if load.shape is not LoadShape.OPEN or load.rate is None:
        return None
    # All clients send in step: a whole burst may lie just beside the window.
    owed = math.floor(load.rate * load.duration_s) - load.users - requests
    return Pace(intended_rps=load.rate, achieved_rps=requests / load.duration_s, dropped=max(0, owed))


def _tail_seconds(load: Load) -> float:
    return min(TAIL_S, load.request_timeout_s)


def _milliseconds(seconds: float) -> str:
    return f"{max(1, math.ceil(seconds * 1000))}ms"
