"""`command`: what the program is told, and the JSON that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from loading import run_tool
from toolcases import DATA, FullLoad, full_request

from pytest_staging.loadtools.command import CommandTool
from pytest_staging.loadtools.command_result import parse_result
from pytest_staging.loadtools.reading import load_json
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolMissing
from pytest_staging.model.ports import LoadRequest, LoadResult, Pace

CLOSED = FullLoad(shape=LoadShape.CLOSED, users=2, duration_s=1.0)
OPEN = FullLoad(shape=LoadShape.OPEN, users=2, duration_s=1.0, rate=5.0)
GOOD: dict[str, Any] = {"schema": "staging-load/1", "requests": 4, "failures": 1, "latencies_ms": [3, 1.5, 2]}
PACE = {"intended_rps": 5, "achieved_rps": 4.5, "dropped": 1, "late": 2, "from_intended_start": True}


def result(load: FullLoad = CLOSED, **what: Any) -> LoadResult:
    return parse_result({key: value for key, value in {**GOOD, **what}.items() if value != "absent"}, load)


def run(tmp_path: Path, code: str, *more: str, **load: Any) -> tuple[LoadRequest, int | None, str]:
    """A program of one line."""
    argv = (sys.executable, "-c", code, "{result}", *more)
    request = full_request(tmp_path, "http://127.0.0.1:1", command=argv, **load)
    done = run_tool(CommandTool(), request)
    return request, done.status, done.log


def test_latencies() -> None:
    """SM-08: every latency of a request that succeeded, in any order."""
    found = result(first_error="boom\n here", duration_s=0.5, program={"name": "vegeta", "version": "12"})
    assert list(found.latencies_ms) == [1.5, 2.0, 3.0]
    assert (found.requests, found.failures, found.first_error, found.duration_s) == (4, 1, "boom here", 0.5)
    assert found.facts == {"program": "vegeta 12"}


def test_a_histogram() -> None:
    """SM-08: [milliseconds, count] pairs, not written out in memory."""
    found = result(latencies_ms="absent", histogram_ms=[[0.5, 10**9], [1, 2]], requests=10**9 + 3)
    assert len(found.latencies_ms) == 10**9 + 2
    assert (found.latencies_ms[0], found.latencies_ms[-1]) == (0.5, 1.0)


def test_percentiles() -> None:
    """SM-08: those that are given; one that is not is missing with its reason."""
    found = result(latencies_ms="absent", percentiles_ms={"p50": 1, "p95": 2.5})
    assert found.percentiles_ms == {"p50": 1.0, "p95": 2.5}
    assert found.missing == {"p99": "the load command gives no such percentile"}
    assert list(found.latencies_ms) == []


def test_the_pace() -> None:
    """XP-06: an open load says how it kept to its rate."""
    assert result(OPEN, pace=PACE).pace == Pace(
        intended_rps=5.0, achieved_rps=4.5, dropped=1, late=2, from_intended_start=True
    )
    with pytest.raises(ValueError, match="an open load needs pace"):
        result(OPEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": None}, "its schema is None"),
        ({"schema": "staging-load/2"}, "'staging-load/1' is known here"),
        ({"requests": "absent"}, "requests is None"),
        ({"requests": "4"}, "requests is '4'"),
        ({"requests": 4.5}, "not a count"),
        ({"requests": 1e300}, "not a count"),
        ({"failures": -1}, "not a count"),
        ({"failures": None}, "failures is None"),
        ({"failures": 5}, "5 of 4 requests failed"),
        ({"latencies_ms": "absent"}, "must hold one of latencies_ms, histogram_ms, percentiles_ms, and has none"),
        ({"histogram_ms": [[1, 3]]}, "and has latencies_ms, histogram_ms"),
        ({"latencies_ms": [1, 2]}, "holds 2 latencies, and 3 requests succeeded"),
        ({"latencies_ms": [1, 2, 3, 4]}, "holds 4 latencies"),
        ({"latencies_ms": [1, 2, "3,5"]}, "not a number"),
        ({"latencies_ms": [1, 2, None]}, "not a number"),
        ({"latencies_ms": [1, 2, True]}, "not a number"),
        ({"latencies_ms": [1, 2, -3]}, "no latency"),
        ({"latencies_ms": [1, 2, 1e300]}, "no latency"),
        ({"latencies_ms": [1, 2, 10**400]}, "too large"),
        ({"latencies_ms": {}}, "latencies_ms is no list"),
        ({"latencies_ms": None, "histogram_ms": [[2, 1], [1, 2]]}, "do not rise"),
        ({"latencies_ms": None, "histogram_ms": [[2, 1, 1]]}, "histogram_ms holds"),
        ({"latencies_ms": None, "histogram_ms": [[2, 1.5]]}, "not a count"),
        ({"latencies_ms": None, "percentiles_ms": {"p95": None}}, r"percentiles_ms\.p95 is None"),
        ({"latencies_ms": None, "percentiles_ms": {"p97": 1}}, "holds 'p97'; known are p50, p95, p99"),
        ({"latencies_ms": None, "percentiles_ms": {"p50": 3, "p95": 2}}, "p50 is above p95"),
        ({"latencies_ms": None, "percentiles_ms": [1]}, "percentiles_ms is no object"),
        ({"duration_s": 0}, "duration_s is 0"),
        ({"duration_s": "1"}, "duration_s is '1'"),
        ({"first_error": 5}, "first_error is no text"),
        ({"program": "x"}, "program is no object"),
        ({"latency": 5}, "'latency' is not known; known are"),
        ({"pace": {"intended_rps": 5}}, r"pace\.achieved_rps is None"),
        ({"pace": {**PACE, "dropped": -1}}, "not a count"),
        ({"pace": {**PACE, "rate": 1}}, "pace holds 'rate'"),
        ({"pace": {**PACE, "from_intended_start": "yes"}}, "neither true nor false"),
    ],
    ids=range(36),
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    """XP-06: each with the key that is wrong."""
    with pytest.raises(ValueError, match=message):
        result(**change)


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.*")), ids=lambda path: path.name)
def test_what_is_no_result(tmp_path: Path, path: Path) -> None:
    """XP-06: another tool's output, whole or cut at any tenth."""
    whole = path.read_bytes()
    for tenth in range(11):
        (tmp_path / "load-result.json").write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises((LoadFailed, ValueError)):
            parse_result(load_json(tmp_path / "load-result.json", "the load command"), CLOSED)


def test_what_the_program_is_told(tmp_path: Path) -> None:
    """SM-08: by placeholders of its argv, and a file."""
    said = "sys.argv[2:] + [os.environ['STAGING_LOAD_REQUEST']]"
    code = f"import sys, os, json; json.dump({said}, open(sys.argv[1], 'w'))"
    more = ("{base_url}/x", "{request}", "{ready}", "{unknown}")
    argv = (sys.executable, "-c", code, "{result}", *more)
    request = full_request(tmp_path, "http://127.0.0.1:1", command=argv, shape=LoadShape.OPEN, rate=9.0)
    assert run_tool(CommandTool(), request).status == 0
    told = json.loads((tmp_path / "load-result.json").read_text())
    path = str(tmp_path / "load-request.json")
    assert told == ["http://127.0.0.1:1/x", path, str(tmp_path / "load-ready"), "{unknown}", path]
    asked = json.loads((tmp_path / "load-request.json").read_text())
    assert asked == {
        "schema": "staging-load-request/1",
        "base_url": "http://127.0.0.1:1",
        "shape": "open",
        "users": 3,
        "rate_rps": 9.0,
        "warm_up_s": 0.2,
        "duration_s": 0.8,
        "request_timeout_s": 5.0,
        "functions": {"echo": str(tmp_path / "body.json")},
        "result": str(tmp_path / "load-result.json"),
    }


def test_a_program_that_fails(tmp_path: Path) -> None:
    """XP-06: what it wrote before does not count."""
    code = f"import sys; open(sys.argv[1], 'w').write('''{json.dumps(GOOD)}'''); sys.exit('no licence')"
    request, status, log = run(tmp_path, code)
    assert status == 1
    assert "no licence" in log
    with pytest.raises(LoadFailed, match=r"^the load command ended with status 1"):
        CommandTool().parse_output(request, 0, 1)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": NaN}', "Infinity", "[" * 100_000, "<html>"])
def test_a_program_that_writes_nonsense(tmp_path: Path, content: str) -> None:
    """XP-06: told from a program that failed."""
    request, status, _ = run(tmp_path, "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", content)
    assert status == 0
    with pytest.raises(LoadFailed, match=r"^load-result\.json of the load command is broken: "):
        CommandTool().parse_output(request, 0, 1)


def test_a_program_that_writes_nothing(tmp_path: Path) -> None:
    request, _, _ = run(tmp_path, "pass")
    with pytest.raises(LoadFailed, match=r"^the load command wrote no load-result\.json"):
        CommandTool().parse_output(request, 0, 1)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """SM-08: a missing program is told from one that fails."""
    request = full_request(tmp_path, "http://127.0.0.1:1", command=("no-such-load-tool", "{request}"))
    with pytest.raises(ToolMissing, match=r"load\.command names no-such-load-tool, which is no program here"):
        CommandTool().build_command(request)


@pytest.mark.parametrize(
    ("command", "message"),
    [((), r"command needs load\.command"), (("sh", "{script}"), r"has \{script\} in load\.command, and load\.script")],
)
def test_what_must_be_declared(tmp_path: Path, command: tuple[str, ...], message: str) -> None:
    with pytest.raises(LoadUnfit, match=message):
        CommandTool().build_command(full_request(tmp_path, "http://127.0.0.1:1", command=command))
