"""wrk: closed load; its Lua `done` hands over the whole histogram, so that percentiles are exact to the microsecond."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from signal import SIGINT, SIGKILL
from typing import Any

from pytest_staging import durable
from pytest_staging.loadtools.driving import LOG, Drive, Phase, build_driven, read_ending
from pytest_staging.loadtools.histogram import Histogram
from pytest_staging.loadtools.options import alone_reason
from pytest_staging.loadtools.placing import place_of
from pytest_staging.loadtools.programs import find_program, read_version
from pytest_staging.loadtools.reading import count, latency, load_json, mapping, number
from pytest_staging.loadtools.wrk_script import REPORT, SCHEMA, SCRIPT, build_script
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.placing import Need
from pytest_staging.model.ports import LoadCommand, LoadRequest, LoadResult

LEAST = (4, 1)
VERSION = r"wrk (?:[a-z]+/)?(\d+\.\d+(?:\.\d+)?)"
ADVICE = "Install it with: apt-get install wrk, or from https://github.com/wg/wrk"
ERRORS = ("connect", "read", "write", "timeout")
CLOSED_ONLY = "makes closed load only; take locust, k6 or h2load for an open one"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `done` wrote: latencies in ms of every answer, sorted, and counts. `answered` had any status.

    wrk adds samples of its own to its histogram: for a request that took n times as long as usual, the n - 1 that a
    stalled connection did not send meanwhile. What wrk prints includes them, and so do we.
    """

    latencies_ms: Histogram
    answered: int
    refused: int
    errors: Mapping[str, int]
    seconds: float


class WrkTool:
    """Two runs of wrk, one after the other: a warm-up that is cut off, and the measured one. wrk starts in 5 ms."""

    name = "wrk"
    tells_live = False

    def version(self) -> str:
        program = find_program("wrk", ADVICE)
        return read_version([program, "-v"], VERSION, LEAST)

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        return CLOSED_ONLY if load.shape is LoadShape.OPEN else alone_reason(load)

    def build_command(self, request: LoadRequest) -> LoadCommand:
        load = request.load
        if reason := self.unfit_reason(load, request.bodies):
            raise LoadUnfit(f"wrk {reason}")
        place = place_of(request, "wrk", "" if request.places else find_program("wrk", ADVICE))
        script = request.folder / SCRIPT
        script.write_text(build_script(request, place))
        timeout_s = math.ceil(load.request_timeout_s)
        argv = [place.program, "-t", "1", "-c", str(load.users), "--latency", "--timeout", f"{timeout_s}s"]
        argv += ["-s", place.there(script)]
        # wrk knows whole seconds only: it is told more, and ended on time. An interrupt still makes it report.
        warm_up = [*argv, "-d", f"{math.ceil(load.warm_up_s) + 1}s", request.base_url]
        measured = [*argv, "-d", f"{math.ceil(load.duration_s) + 1}s", request.base_url]
        phases = [Phase(argv=warm_up, seconds=load.warm_up_s, signal=SIGKILL)] if load.warm_up_s > 0 else []
        phases.append(Phase(argv=measured, at_s=load.warm_up_s, seconds=load.duration_s, signal=SIGINT))
        drive = Drive(tool="wrk", phases=phases, total_s=load.warm_up_s + load.duration_s)
        inputs = [script, *([request.script] if request.script else [])]
        return build_driven(request, drive, stale=(REPORT,), cpus=1.0, inputs=inputs)

    def need(self) -> Need:
        return Need(program="wrk", question=("-v",), pattern=VERSION, least=LEAST, advice=ADVICE, alone=True)

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        read_ending(request, "wrk")
        path = request.folder / REPORT
        if not path.exists():
            tail = durable.read_tail(request.folder / LOG)
            raise LoadFailed(f"wrk reported nothing: {tail.splitlines()[-1] if tail else 'it printed nothing'}", tail)
        try:
            return build_result(parse_report(load_json(path, "wrk")))
        except ValueError as error:
            raise LoadFailed(f"{REPORT} of wrk is broken: {error}") from error


def parse_report(raw: Any) -> Report:
    """Raises ValueError for anything that is not a whole report."""
    top = mapping(raw, "the report")
    if top.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {top.get('schema')!r}, and {SCHEMA!r} is known here")
    told = mapping(top.get("errors"), "errors")
    answered = count(top.get("requests"), "requests")
    refused = count(told.get("status"), "errors.status")
    if refused > answered:
        raise ValueError(f"{refused} of {answered} requests were refused")
    seconds = number(top.get("duration_us"), "duration_us") / 1e6
    if seconds <= 0:
        raise ValueError(f"duration_us is {seconds * 1e6:g}")
    errors = {name: count(told.get(name), f"errors.{name}") for name in ERRORS}
    return Report(
        # An answer that took longer than the timeout is counted, and not in the histogram.
        latencies_ms=_latencies(top.get("histogram"), max(0, answered - errors["timeout"])),
        answered=answered,
        refused=refused,
        errors=errors,
        seconds=seconds,
    )


def _latencies(histogram: Any, answered: int) -> Histogram:
    if not isinstance(histogram, list):
        raise ValueError("histogram is no list")
    pairs = []
    for pair in histogram:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"histogram holds {str(pair)[:40]}")
        pairs.append((latency(pair[0], "a latency in us") / 1000, count(pair[1], "a count")))
    found = Histogram(pairs)
    if len(found) < answered:
        raise ValueError(f"histogram holds {len(found)} of {answered} answers")
    return found


def build_result(report: Report) -> LoadResult:
    """Requests without an answer are failures. wrk times refused answers too, and cannot leave them out."""
    unanswered = sum(report.errors[name] for name in ("connect", "read", "write"))
    requests = report.answered + unanswered
    failures = report.refused + unanswered + report.errors["timeout"]
    causes = {"status above 399": report.refused, **{f"{name} error": n for name, n in report.errors.items()}}
    errors = [f"{times} with {cause}" for cause, times in causes.items() if times]
    mixed = report.refused > 0
    added = len(report.latencies_ms) + report.errors["timeout"] - report.answered
    reason = f"wrk times the {report.refused} refused answers too; take locust, k6 or h2load"
    return LoadResult(
        latencies_ms=() if mixed else report.latencies_ms,
        requests=requests,
        failures=min(failures, requests),
        first_error=", ".join(errors) or None,
        facts={"samples_added_by_wrk": added} if added > 0 else {},
        missing=dict.fromkeys(("p50", "p95", "p99"), reason) if mixed else {},
        duration_s=report.seconds,
    )
