"""Locust as a process of its own, with a recorder beside the user's (or the default) locustfile."""

from __future__ import annotations

import csv
import json
import math
import re
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_staging.loadtools.driving import (
    DRAIN_MARGIN_S,
    EXIT,
    LOG,
    PLAN,
    READY,
    STARTUP_DEADLINE_S,
    read_ending,
    read_endings,
)
from pytest_staging.loadtools.locust_shares import RECORDING, Share, build_shared, shares_of
from pytest_staging.loadtools.options import shared_reason
from pytest_staging.loadtools.placing import places_of
from pytest_staging.loadtools.reading import MAX_LATENCY_MS
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolMissing, ToolUnsupported
from pytest_staging.model.placing import LoadPart, Need, Place
from pytest_staging.model.ports import Command, LoadCommand, LoadRequest, LoadResult, Pace

HERE = Path(__file__).parent
RECORDER = HERE / "locust_recorder.py"
WORKLOAD = HERE / "locust_workload.py"
HEADER = ["started_at_s", "latency_ms", "function", "error", "late_ms"]
LEAST = (2, 30)
CPUS = 1.0  # one process, one thread
LATE_MS = 10.0
"""A request that is sent that much after it was due is late; below lies what a Python process takes to wake up."""


class LocustTool:
    """Latencies are Locust's own per-request values before any rounding, by a request listener."""

    name = "locust"
    tells_live = True

    def version(self) -> str:
        from importlib import metadata

        try:
            found = metadata.version("locust")
        except metadata.PackageNotFoundError as error:
            raise ToolMissing(
                "the benchmark asks for locust, which is not installed. Run: pip install 'pytest-staging[load]'"
            ) from error
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < LEAST:
            least = ".".join(map(str, LEAST))
            raise ToolUnsupported(f"locust is {found}, and {least} or newer is needed. Install one that fits.")
        return found

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        return shared_reason(load)

    def build_command(self, request: LoadRequest) -> LoadCommand:
        load, folder = request.load, request.folder
        if reason := self.unfit_reason(load, request.bodies):
            raise LoadUnfit(f"locust {reason}")
        places = places_of(request)
        leading = ["--headless", "--host", request.base_url, "--users", str(load.users)]
        leading += ["--spawn-rate", str(load.users), "--only-summary"]
        leading += ["--stop-timeout", str(math.ceil(load.request_timeout_s))]
        inputs = [RECORDER, request.script or WORKLOAD, *request.bodies.values()]
        plans = [_plan(request, place) for place in places]
        if load.processes > 1:
            return build_shared(request, places, plans, [_common(request, place) for place in places], leading, inputs)
        (place,) = places
        for name in (READY, EXIT):
            (folder / name).unlink(missing_ok=True)
        path = folder / PLAN
        path.write_text(json.dumps(plans[0], indent=2))
        environment = {"STAGING_LOAD_PLAN": place.there(path), "PYTHONUNBUFFERED": "1"}
        argv, log = [*_common(request, place), *leading], folder / LOG
        part = LoadPart(place=place, argv=argv, env=environment, log=log, ready=READY, cpus=CPUS)
        total_s = load.warm_up_s + load.duration_s
        return LoadCommand(
            command=Command(argv=argv, cwd=folder, log=log, env=environment),
            ready_file=folder / READY,
            deadline_s=STARTUP_DEADLINE_S + total_s + load.request_timeout_s + DRAIN_MARGIN_S,
            live=(folder / RECORDING,),
            cpus=CPUS,
            parts=(part,) if request.places else (),
            inputs=(path, *inputs) if request.places else (),
        )

    def need(self) -> Need:
        advice = "Install it there for the Python that targets.yaml names: python -m pip install locust"
        question = ("-m", "locust", "--version")
        return Need(program="", question=question, pattern=r"locust (\d+\.\d+\.\d+)", least=LEAST, advice=advice)

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        tally = Tally(window_start_s, window_end_s)
        if request.load.processes > 1:
            read_endings(request, "locust")  # of all its processes
        for share in shares_of(request.load.processes, request.places):
            _add_share(request, share, tally)
        return LoadResult(
            latencies_ms=sorted(tally.latencies_ms),
            requests=tally.requests,
            failures=tally.failures,
            first_error=tally.first_error,
            facts={"processes": request.load.processes} if request.load.processes > 1 else {},
            pace=_pace(request, tally),
        )


@dataclass
class Tally:
    """Requests that were due in the window, and how many were sent in it."""

    start_s: float
    end_s: float
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    rows: int = 0
    requests: int = 0
    failures: int = 0
    late: int = 0
    sent: int = 0
    first_error: str | None = None

    def add(self, due_s: float, latency_ms: float, error: str, late_ms: float) -> None:
        self.rows += 1
        self.sent += self.start_s <= due_s + late_ms / 1000 < self.end_s
        if not self.start_s <= due_s < self.end_s:
            return
        self.requests += 1
        self.late += late_ms > LATE_MS
        if error:
            self.failures += 1
            self.first_error = self.first_error or error
        else:
            self.latencies_ms.append(latency_ms)


def _add_share(request: LoadRequest, share: Share, tally: Tally) -> None:
    """Every request that one process recorded, raw. Raises LoadFailed when it did not last as long as the load did."""
    path, before = request.folder / share.recording, tally.rows
    ending = read_ending(request, share.title, name=share.ending) if path.exists() else None
    try:
        for started_s, latency_ms, error, late_ms in _rows(path):
            tally.add(started_s - share.ahead_s, latency_ms, error, late_ms)
    except FileNotFoundError as error:
        raise LoadFailed(f"{share.title} recorded no request at all") from error
    except (OSError, ValueError, csv.Error) as problem:
        raise LoadFailed(f"{path.name} is broken: {problem}") from problem
    if ending is None or tally.rows - before != ending.rows:
        recorded = ending.rows if ending else None
        raise LoadFailed(f"{path.name} is broken: it holds {tally.rows - before} of {recorded} requests")
    ended_at_s = ending.ended_at_s - share.ahead_s
    if request.load.processes > 1 and ended_at_s < tally.end_s < math.inf:
        raise LoadFailed(f"{share.title} ended {tally.end_s - ended_at_s:.2f} s before the load did")


def _pace(request: LoadRequest, tally: Tally) -> Pace | None:
    load = request.load
    if load.shape is not LoadShape.OPEN or load.rate is None:
        return None
    achieved = tally.sent / load.duration_s
    if request.script:  # keeps no schedule of ours
        return Pace(intended_rps=load.rate, achieved_rps=achieved)
    # Whoever is late sends all the same; only what was still not sent when the run ended is gone.
    dropped = max(0, math.floor(load.rate * load.duration_s) - 1 - tally.requests)
    return Pace(
        intended_rps=load.rate, achieved_rps=achieved, dropped=dropped, late=tally.late, from_intended_start=True
    )


def _rows(path: Path) -> Iterator[tuple[float, float, str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        if header != HEADER:
            raise ValueError(f"unexpected header {header}")
        for row in reader:
            if len(row) != len(HEADER):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields")
            started_s, latency_ms, late_ms = float(row[0]), float(row[1]), float(row[4])
            if not (math.isfinite(started_s) and 0 <= latency_ms <= MAX_LATENCY_MS and 0 <= late_ms < math.inf):
                raise ValueError(f"line {reader.line_num} has no instant and latency: {row[0]}, {row[1]}")
            yield started_s, latency_ms, row[3], late_ms


def _common(request: LoadRequest, place: Place) -> list[str]:
    """What every Locust process is told."""
    files = f"{place.there(RECORDER)},{place.there(request.script or WORKLOAD)}"
    # Failed requests are a result here, not a crash.
    return [place.python, "-m", "locust", "-f", files, "--loglevel", "WARNING", "--exit-code-on-error", "0"]


def _plan(request: LoadRequest, place: Place) -> dict[str, object]:
    load: Load = request.load
    return {
        "bodies": {function: place.there(path) for function, path in request.bodies.items()},
        "users": load.users,
        "rate": load.rate if load.shape is LoadShape.OPEN else None,
        "seconds": load.warm_up_s + load.duration_s,
        "request_timeout_s": load.request_timeout_s,
        "requests_file": place.there(request.folder / RECORDING),
        "ready_file": place.there(request.folder / READY),
        "exit_file": place.there(request.folder / EXIT),
        "until_file": str(request.until) if request.until else None,
        "workers": [],
        "ahead_s": 0.0,
    }
