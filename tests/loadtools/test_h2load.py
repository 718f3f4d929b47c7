"""h2load: its request log and its own count of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from loading import CountingServer, Loaded, first_good, run_tool, serving
from toolcases import DATA, full_request, give_up, has_program, milliseconds, percentile_of

from pytest_staging.loadtools.h2load import H2loadTool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolUnsupported
from pytest_staging.model.ports import LoadRequest, LoadResult

ROW = "1769860810500000\t200\t1500\n"
ENDED_AT_S = 1769860813.0


def finished(tmp_path: Path, log: bytes, started: int, done: int, **load: object) -> LoadRequest:
    """A cell's folder in which h2load came to a good end."""
    request = full_request(tmp_path / "cell", "http://127.0.0.1:1", **load)
    (request.folder / "load-exit.json").write_text(
        f'{{"status": 0, "started_at_s": {ENDED_AT_S - 3}, "ended_at_s": {ENDED_AT_S}}}'
    )
    (request.folder / "h2load-requests.tsv").write_bytes(log)
    summary = f"requests: {done} total, {started} started, {done} done, {done} succeeded, 0 failed, 0 errored"
    (request.folder / "h2load-output.txt").write_text(f"starting benchmark...\n{summary}\nstatus codes: ...\n")
    return request


def read(request: LoadRequest) -> LoadResult:
    return H2loadTool().parse_output(request, 1769860810.0, 1769860812.0)


@pytest.fixture
def h2load() -> H2loadTool:
    if not has_program("h2load"):
        give_up("h2load is not installed")
    return H2loadTool()


def test_the_window(tmp_path: Path) -> None:
    """SM-08: a request counts where it began; microseconds become milliseconds."""
    starts = ("1769860809999999", "1769860810000000", "1769860811999999", "1769860812000000")
    log = "".join(f"{start}\t200\t{1000 * number + 500}\n" for number, start in enumerate(starts))
    result = read(finished(tmp_path, log.encode(), 4, 4))
    assert list(result.latencies_ms) == [1.5, 2.5]
    assert (result.requests, result.failures) == (2, 0)


def test_failures(tmp_path: Path) -> None:
    """XP-06: a refused answer, none at all, and one that came after the time limit."""
    log = ROW + ROW.replace("200", "503") + ROW.replace("200", "-1") + ROW.replace("1500", "600000")
    result = read(finished(tmp_path, log.encode(), 4, 4, request_timeout_s=0.5))
    assert (result.requests, result.failures, list(result.latencies_ms)) == (4, 3, [1.5])
    assert result.first_error == "status 503"


def test_requests_that_never_ended(tmp_path: Path) -> None:
    """XP-06: once nobody answers any more, what h2load still waits for has failed, and is not just gone."""
    log = ROW * 5
    silent = read(finished(tmp_path, log.encode(), 8, 5))
    assert (silent.requests, silent.failures, silent.first_error) == (8, 3, "no answer, or the connection broke")
    busy = (ROW * 5 + ROW.replace("17698608105", "17698608129")).encode()
    assert read(finished(tmp_path, busy, 9, 6)).requests == 5, "some always wait when it ends"


@pytest.mark.parametrize(
    ("log", "started", "done", "message"),
    [
        (ROW + ROW[:-5], 2, 2, "line 2 is cut off"),
        (ROW + ROW, 3, 3, "holds 2 requests, and h2load counts 3 of 3"),
        (ROW, 0, 0, "holds 1 requests, and h2load counts 0 of 0"),
        ("", 3, 3, "holds 0 requests"),
        ("", 0, 0, "reached nobody at http://127.0.0.1:1"),
        ("1769860810500000\t200\n", 1, 1, "line 1 has no start, status and duration"),
        ("1769860810500000\t200\t1,5\n", 1, 1, "line 1 has no start"),
        ("1769860810500000\t200\tNaN\n", 1, 1, "line 1 has no start"),
        ("1769860810500000\t\t5\n", 1, 1, "line 1 has no start"),
        ("1769860810500000 200 5\n", 1, 1, "line 1 has no start"),
        (f"1769860810500000\t200\t{'9' * 17}\n", 1, 1, "line 1 is out of range"),
        (f"1769860810500000\t200\t{'9' * 400}\n", 1, 1, "line 1 has no start"),
        ("1769860810500000\t200\t-5\n", 1, 1, "line 1 is out of range"),
        ("1769860810500000\t99999\t5\n", 1, 1, "line 1 is out of range"),
        ("-5\t200\t5\n", 1, 1, "line 1 is out of range"),
    ],
    ids=range(15),
)
def test_damaged_logs(tmp_path: Path, log: str, started: int, done: int, message: str) -> None:
    """XP-06: a log that is damaged, or not as long as h2load's own count, is none."""
    with pytest.raises(LoadFailed, match=re.escape(message)):
        read(finished(tmp_path, log.encode(), started, done))


def test_a_column_more(tmp_path: Path) -> None:
    """SM-08: h2load says that more columns may come."""
    assert read(finished(tmp_path, ROW.replace("\n", "\tmore\n").encode(), 1, 1)).requests == 1


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.*")), ids=lambda path: path.name)
def test_what_is_no_log(tmp_path: Path, path: Path) -> None:
    """XP-06: another tool's output is refused, whole or cut at any tenth."""
    whole = path.read_bytes()
    for tenth in range(1, 11):
        with pytest.raises(LoadFailed, match=r"h2load-requests\.tsv of h2load is broken: line 1"):
            read(finished(tmp_path, whole[: len(whole) * tenth // 10], 1, 1))


def test_no_summary(tmp_path: Path) -> None:
    """XP-06: then nobody can say whether the log is whole."""
    request = finished(tmp_path, ROW.encode(), 1, 1)
    (request.folder / "h2load-output.txt").write_text("starting benchmark...\n")
    with pytest.raises(LoadFailed, match="printed no summary"):
        read(request)


def test_what_it_cannot_do(h2load: H2loadTool, tmp_path: Path) -> None:
    """SM-08: said before anything runs."""
    request = full_request(tmp_path, "http://127.0.0.1:1")
    two = LoadRequest(
        base_url="x", load=request.load, bodies={**request.bodies, "b": tmp_path / "body.json"}, folder=tmp_path
    )
    with pytest.raises(LoadUnfit, match="h2load sends one body, and 2 functions are to be loaded"):
        h2load.build_command(two)
    with pytest.raises(LoadUnfit, match="h2load takes no script"):
        h2load.build_command(full_request(tmp_path, "http://127.0.0.1:1", script=tmp_path / "mine.txt"))


def test_the_command(h2load: H2loadTool, tmp_path: Path) -> None:
    """SM-08: the rate is shared out over the clients."""
    import json

    request = full_request(
        tmp_path, "http://h:1", shape=LoadShape.OPEN, rate=100.0, users=8, warm_up_s=1.5, duration_s=2.25
    )
    h2load.build_command(request)
    argv = json.loads((tmp_path / "load-plan.json").read_text())["phases"][0]["argvs"][0]
    assert argv[argv.index("--rps") + 1] == "12.500000"
    assert argv[argv.index("-D") + 1] == "4750ms", "with a tail of a second"
    assert argv[argv.index("-c") + 1] == "8"
    assert argv[-1] == "http://h:1/invoke/echo"


@pytest.mark.parametrize(("said", "works"), [("nghttp2/1.52.0", 1), ("nghttp2/1.42.0", 0), ("nghttp2", 0)])
def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, works: int) -> None:
    """SM-08: older ones cannot keep a rate."""
    program = tmp_path / "h2load"
    program.write_text(f"#!/bin/sh\necho 'h2load {said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    if works:
        assert H2loadTool().version() == "1.52.0"
        return
    with pytest.raises(ToolUnsupported, match=r"1\.43 or newer"):
        H2loadTool().version()


def test_figures_are_h2loads_own(h2load: H2loadTool, tmp_path: Path) -> None:
    """SM-08: the whole run's longest and mean latency are what h2load prints."""
    with serving(delay_s=0.003) as server:
        run = run_tool(h2load, full_request(tmp_path, server.url, duration_s=0.5, warm_up_s=0.0))
    assert run.status == 0, run.log
    result = h2load.parse_output(run.request, 0.0, 1e12)
    found = re.search(r"^time for request: +(\S+) +(\S+) +(\S+)", run.log, re.MULTILINE)
    assert found, run.log
    least, most, mean = (milliseconds(one) for one in found.groups())
    assert result.latencies_ms[0] == pytest.approx(least, rel=0.02)
    assert result.latencies_ms[-1] == pytest.approx(most, rel=0.02)
    assert sum(result.latencies_ms) / len(result.latencies_ms) == pytest.approx(mean, rel=0.02)
    assert percentile_of(result, "p95") > 3.0


def test_a_server_that_falls_silent(h2load: H2loadTool, tmp_path: Path) -> None:
    """XP-06: requests that hang until the end of the run are failures, not missing from the count."""
    load = {"users": 4, "duration_s": 1.0, "warm_up_s": 0.0, "request_timeout_s": 0.3}

    def once(folder: Path) -> tuple[Loaded, CountingServer]:
        with serving(stall_at=60, stall_s=30.0) as server:
            return run_tool(h2load, full_request(folder, server.url, **load)), server

    def silent_early(ran: tuple[Loaded, CountingServer]) -> bool:
        run, server = ran
        return len(server.instants) >= 60 and server.instants[59] < (run.ready_s or 0.0) + 0.5

    run, _ = first_good(once, tmp_path, silent_early)
    assert run.status == 0, run.log
    assert run.ready_s
    result = h2load.parse_output(run.request, 0.0, run.ready_s + 1.0)
    assert result.failures == 4
    assert result.requests == 63
