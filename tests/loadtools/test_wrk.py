"""wrk: what its Lua hands over, the user's own script, and damaged reports."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from loading import CountingServer, Loaded, first_good, run_tool, serving
from toolcases import DATA, full_request, give_up, has_program, milliseconds, percentile_of

from pytest_staging.loadtools.programs import read_version
from pytest_staging.loadtools.wrk import LEAST, WrkTool, build_result, parse_report
from pytest_staging.loadtools.wrk_script import quote
from pytest_staging.model.errors import LoadFailed, ToolUnsupported
from pytest_staging.model.ports import LoadRequest

REPORT: dict[str, Any] = {
    "schema": "staging-wrk/1",
    "duration_us": 2_000_000,
    "requests": 10,
    "errors": {"connect": 0, "read": 0, "write": 0, "timeout": 0, "status": 0},
    "histogram": [[100, 5], [200, 4], [9000, 1]],
}


def changed(**what: Any) -> dict[str, Any]:
    raw = copy.deepcopy(REPORT)
    for key, value in what.items():
        place = raw["errors"] if key in raw["errors"] else raw
        place[key] = value
    return raw


def ended(tmp_path: Path) -> LoadRequest:
    """A cell's folder in which wrk came to a good end."""
    request = full_request(tmp_path / "cell", "http://127.0.0.1:1")
    (request.folder / "load-exit.json").write_text('{"status": 0, "started_at_s": 1, "ended_at_s": 3}')
    return request


@pytest.fixture
def wrk() -> WrkTool:
    if not has_program("wrk"):
        give_up("wrk is not installed")
    return WrkTool()


def test_a_report() -> None:
    """SM-08: microseconds to milliseconds, every count kept, seconds as wrk ran."""
    result = build_result(parse_report(changed()))
    assert result.latencies_ms == [0.1] * 5 + [0.2] * 4 + [9.0]
    assert (result.requests, result.failures, result.first_error, result.duration_s) == (10, 0, None, 2.0)


def test_errors_are_failures() -> None:
    """XP-06: also requests that got no answer, which wrk does not count as requests."""
    result = build_result(parse_report(changed(read=2, connect=1, timeout=1)))
    assert (result.requests, result.failures) == (13, 4)
    assert result.first_error == "1 with connect error, 2 with read error, 1 with timeout error"


def test_refused_answers_spoil_the_latencies() -> None:
    """XP-06: wrk times them with the others, so no percentile is one of successes alone: none is given, and why."""
    result = build_result(parse_report(changed(status=3)))
    assert (result.requests, result.failures, list(result.latencies_ms)) == (10, 3, [])
    assert set(result.missing) == {"p50", "p95", "p99"}
    assert "wrk times the 3 refused answers too" in result.missing["p95"]


def test_samples_that_wrk_adds() -> None:
    """SM-08: wrk corrects for what a stalled connection did not send; that is said, and throughput counts requests."""
    result = build_result(parse_report(changed(requests=8)))
    assert (result.requests, len(result.latencies_ms)) == (8, 10)
    assert result.facts == {"samples_added_by_wrk": 2}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "no object"),
        ({}, "its schema is None"),
        (changed(schema="staging-wrk/2"), "its schema is 'staging-wrk/2'"),
        (changed(requests=None), "requests is None"),
        (changed(requests="10"), "requests is '10'"),
        (changed(requests=-1), "not a count"),
        (changed(requests=10.5), "not a count"),
        (changed(requests=11), "histogram holds 10 of 11 answers"),
        (changed(requests=10**400), "too large"),
        (changed(errors=None), "errors is no object"),
        (changed(read=None), r"errors\.read is None"),
        (changed(status=11), "11 of 10 requests were refused"),
        (changed(duration_us=0), "duration_us is 0"),
        (changed(duration_us=True), "duration_us is True"),
        (changed(histogram={}), "histogram is no list"),
        (changed(histogram=[[1]]), "histogram holds"),
        (changed(histogram=[[1, 5], [1, 5]]), "do not rise"),
        (changed(histogram=[[2, 5], [1, 5]]), "do not rise"),
        (changed(histogram=[["1,5", 10]]), "not a number"),
        (changed(histogram=[[1e300, 10]]), "no latency"),
        (changed(histogram=[[-5, 10]]), "no latency"),
        (changed(histogram=[[5, 1e300]]), "not a count"),
        (changed(histogram=[[None, 10]]), "not a number"),
    ],
    ids=range(23),
)
def test_damaged_reports(raw: Any, message: str) -> None:
    """XP-06: a report that is not whole is none."""
    with pytest.raises(ValueError, match=message):
        parse_report(raw)


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.*")), ids=lambda path: path.name)
def test_what_is_no_report(tmp_path: Path, path: Path) -> None:
    """XP-06: neither what wrk prints for people nor another tool's file is taken for it, whole or cut at any tenth."""
    request, whole = ended(tmp_path), path.read_bytes()
    for tenth in range(11):
        (request.folder / "wrk-report.json").write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(LoadFailed, match=r"wrk-report\.json of wrk is broken"):
            WrkTool().parse_output(request, 0, 1)


def test_no_report(tmp_path: Path) -> None:
    """XP-06: the message repeats what wrk said last."""
    request = ended(tmp_path)
    (request.folder / "load.log").write_bytes((DATA / "wrk" / "connection-refused.txt").read_bytes())
    with pytest.raises(LoadFailed, match=r"wrk reported nothing: unable to connect to 127\.0\.0\.1:18999"):
        WrkTool().parse_output(request, 0, 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("wrk debian/4.1.0-3+b2 [epoll] Copyright", "4.1.0"),
        ("wrk 4.2.0 [kqueue] Copyright", "4.2.0"),
        ("wrk 4.0.0 [epoll] Copyright", None),
        ("wrk [epoll]", None),
    ],
)
def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str | None) -> None:
    """SM-08: wrk 4.0 and wrk2, which says it is 4.0, are unsupported, and said to be so."""
    program = tmp_path / "wrk"
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    if expected:
        assert WrkTool().version() == expected
        return
    with pytest.raises(ToolUnsupported, match=r"4\.1 or newer"):
        WrkTool().version()
    assert LEAST == (4, 1)


def test_a_program_that_says_nothing() -> None:
    with pytest.raises(ToolUnsupported, match="says no version: ''"):
        read_version(["true"], r"(\d+\.\d+)", (1, 0))


def test_figures_are_wrks_own(wrk: WrkTool, tmp_path: Path) -> None:
    """SM-08: what the cell reports is what wrk prints, within 2 %; far out, where a short run has few values, wrk takes
    the next one and we go between two, so there it is that value which must be the same.
    """
    with serving(delay_s=0.003) as server:
        run = run_tool(wrk, full_request(tmp_path, server.url, duration_s=1.5, warm_up_s=0.2))
    assert run.status == 0, run.log
    result = wrk.parse_output(run.request, 0, 1)
    printed = {one[1]: milliseconds(one[2]) for one in re.finditer(r"^ +(\d\d)% +(\S+)$", run.log, re.MULTILINE)}
    assert set(printed) == {"50", "75", "90", "99"}
    assert percentile_of(result, "p50") == pytest.approx(printed["50"], rel=0.02)
    for name, value in printed.items():
        place = round(int(name) / 100 * len(result.latencies_ms) + 0.5) - 1
        near = [result.latencies_ms[one] for one in range(place - 1, min(place + 2, len(result.latencies_ms)))]
        assert near[0] * 0.99 <= value <= near[-1] * 1.01, name
    assert f"{result.requests} requests in" in run.log


def test_functions_in_turn(wrk: WrkTool, tmp_path: Path) -> None:
    """SM-08: every function is loaded alike, each with its own bytes."""
    odd = b'{"quote": "\\"", "line": "a\nb", "zero": "\x00", "high": "\xff"}'
    (tmp_path / "odd.json").write_bytes(odd)

    def once(folder: Path) -> tuple[Loaded, CountingServer]:
        with serving(delay_s=0.003) as server:
            request = full_request(folder, server.url, duration_s=0.5, warm_up_s=0.0)
            both = {**request.bodies, "odd": tmp_path / "odd.json"}
            asked = LoadRequest(base_url=server.url, load=request.load, bodies=both, folder=folder)
            return run_tool(wrk, asked), server

    run, server = first_good(once, tmp_path, lambda ran: len(ran[1].paths) > 20)
    assert run.status == 0, run.log
    counts = {path: server.paths.count(path) for path in server.paths}
    assert set(counts) == {"/invoke/echo", "/invoke/odd"}
    assert abs(counts["/invoke/echo"] - counts["/invoke/odd"]) <= 3
    assert server.bodies == {b'{"text": "hello"}', odd}


OWN = """
wrk.method = "PUT"
wrk.path = "/mine"
function done(summary, latency, requests)
  print("my own done saw " .. summary.requests)
end
"""


def test_the_users_own_script(wrk: WrkTool, tmp_path: Path) -> None:
    """SM-08: it runs unchanged, and its own `done` is called as well."""
    (tmp_path / "mine.lua").write_text(OWN.replace("PUT", "GET"))
    with serving(delay_s=0.003) as server:
        request = full_request(tmp_path / "cell", server.url, script=tmp_path / "mine.lua", duration_s=0.5)
        run = run_tool(wrk, request)
    assert run.status == 0, run.log
    assert set(server.paths) == {"/mine"}
    assert f"my own done saw {wrk.parse_output(run.request, 0, 1).requests}" in run.log


@pytest.mark.parametrize("script", ["function request(\n", "error('no more')\n"], ids=["syntax", "raises"])
def test_a_script_that_does_not_work(wrk: WrkTool, tmp_path: Path, script: str) -> None:
    """XP-06: no load is a failed cell, and the log says why."""
    (tmp_path / "mine.lua").write_text(script)
    with serving() as server:
        request = full_request(
            tmp_path / "cell", server.url, script=tmp_path / "mine.lua", duration_s=0.3, warm_up_s=0.0
        )
        run = run_tool(wrk, request)
    assert "mine.lua" in run.log
    with pytest.raises(LoadFailed):
        wrk.parse_output(run.request, 0, 1)


def test_quoting() -> None:
    assert quote(b'a"\\\n\x00\xe9') == '"a\\"\\\\\\n\\000\\233"'


def test_a_report_is_json(tmp_path: Path) -> None:
    request = ended(tmp_path)
    (request.folder / "wrk-report.json").write_text(json.dumps(REPORT))
    assert WrkTool().parse_output(request, 0, 1).requests == 10
