"""Locust as a process of its own, with a recorder beside the user's (or the default) locustfile."""

from __future__ import annotations

import csv
import json
import math
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LoadFailed, ToolMissing
from pytest_staging.model.ports import Command, LoadCommand, LoadRequest, LoadResult

HERE = Path(__file__).parent
RECORDER = HERE / "locust_recorder.py"
WORKLOAD = HERE / "locust_workload.py"
STARTUP_DEADLINE_S = 60.0
DRAIN_MARGIN_S = 10.0


class LocustTool:
    """Latencies are Locust's own per-request values before any rounding, by a request listener."""

    name = "locust"

    def version(self) -> str:
        from importlib import metadata

        try:
            return metadata.version("locust")
        except metadata.PackageNotFoundError as error:
            raise ToolMissing(
                "the benchmark asks for locust, which is not installed. Run: pip install 'pytest-staging[load]'"
            ) from error

    def build_command(self, request: LoadRequest) -> LoadCommand:
        load, folder = request.load, request.folder
        plan = folder / "load-plan.json"
        plan.write_text(json.dumps(_plan(request), indent=2))
        script = request.script or WORKLOAD
        total_s = load.warm_up_s + load.duration_s
        argv = [sys.executable, "-m", "locust", "--headless", "--host", request.base_url]
        argv += ["-f", f"{RECORDER},{script}", "--users", str(load.users), "--spawn-rate", str(load.users)]
        argv += ["--stop-timeout", str(math.ceil(load.request_timeout_s)), "--loglevel", "WARNING", "--only-summary"]
        # Failed requests are a result here, not a crash.
        argv += ["--exit-code-on-error", "0"]
        environment = {"STAGING_LOAD_PLAN": str(plan), "PYTHONUNBUFFERED": "1"}
        command = Command(argv=argv, cwd=folder, log=folder / "load.log", env=environment)
        deadline_s = STARTUP_DEADLINE_S + total_s + load.request_timeout_s + DRAIN_MARGIN_S
        return LoadCommand(command=command, ready_file=folder / "load-ready", deadline_s=deadline_s)

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        path = request.folder / "requests.csv"
        latencies, requests, failures, first_error = array("d"), 0, 0, None
        try:
            for started_s, latency_ms, error in _rows(path):
                if not window_start_s <= started_s < window_end_s:
                    continue
                requests += 1
                if error:
                    failures += 1
                    first_error = first_error or error
                else:
                    latencies.append(latency_ms)
        except FileNotFoundError as error:
            raise LoadFailed("locust recorded no request at all") from error
        except (OSError, ValueError, csv.Error) as error:
            raise LoadFailed(f"{path.name} is broken: {error}") from error
        return LoadResult(latencies_ms=sorted(latencies), requests=requests, failures=failures, first_error=first_error)


def _rows(path: Path) -> Iterator[tuple[float, float, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        if header != ["started_at_s", "latency_ms", "function", "error"]:
            raise ValueError(f"unexpected header {header}")
        for row in reader:
            if len(row) != 4:
                raise ValueError(f"line {reader.line_num} has {len(row)} fields")
            started_s, latency_ms = float(row[0]), float(row[1])
            if not (math.isfinite(started_s) and math.isfinite(latency_ms) and latency_ms >= 0):
                raise ValueError(f"line {reader.line_num} has no instant and latency: {row[0]}, {row[1]}")
            yield started_s, latency_ms, row[3]


def _plan(request: LoadRequest) -> dict[str, object]:
    load: Load = request.load
    return {
        "bodies": {function: str(path) for function, path in request.bodies.items()},
        "users": load.users,
        "rate": load.rate if load.shape is LoadShape.OPEN else None,
        "seconds": load.warm_up_s + load.duration_s,
        "request_timeout_s": load.request_timeout_s,
        "requests_file": str(request.folder / "requests.csv"),
        "ready_file": str(request.folder / "load-ready"),
    }
