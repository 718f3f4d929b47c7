"""One contract for all load tools: each case runs for real against a server that counts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from loading import CountingServer, Loaded, first_good, make_request, nobody, run_tool, serving
from packaging.version import Version
from toolcases import CASES, Case, percentile_of

from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolMissing
from pytest_staging.model.ports import LoadResult, LoadTool

DELAY_S = 0.004
WARM_UP_S = 0.4
Closed = tuple[Case, LoadTool, Loaded, CountingServer]


@pytest.fixture(params=CASES, ids=lambda case: case.id)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def closed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Closed:
    """One closed run of each tool, which several tests look at."""
    case: Case = request.param
    tool = case.tool()

    def load(folder: Path) -> tuple[Loaded, CountingServer]:
        with serving(delay_s=DELAY_S) as server:
            return run_tool(tool, case.request(folder, server.url, warm_up_s=WARM_UP_S)), server

    def both_parts(made: tuple[Loaded, CountingServer]) -> bool:
        run, server = made
        start_s = (run.ready_s or 0.0) + WARM_UP_S
        return run.status != 0 or (server.seen(0.0, start_s) > 20 and server.seen(start_s, start_s + 1.0) > 100)

    loaded, server = first_good(load, tmp_path_factory.mktemp(case.id), both_parts)
    return case, tool, loaded, server


def parse(tool: LoadTool, run: Loaded) -> LoadResult:
    assert run.ready_s
    start_s = run.ready_s + run.request.load.warm_up_s
    return tool.parse_output(run.request, start_s, start_s + run.request.load.duration_s)


def test_the_window_alone_is_measured(closed: Closed) -> None:
    """SM-08: requests of the window and not of the warm-up; every number is what the server saw."""
    _, tool, run, server = closed
    assert run.status == 0, run.log
    result = parse(tool, run)
    assert run.ready_s
    start_s = run.ready_s + WARM_UP_S
    before, within = server.seen(0.0, start_s), server.seen(start_s, start_s + (result.duration_s or 1.0))
    assert result.requests == pytest.approx(within, rel=0.5)
    assert 0 < result.requests < len(server.paths) - before / 2
    assert result.failures == 0
    assert set(server.paths) == {"/invoke/echo"}
    assert server.bodies == {b'{"text": "hello"}'}


def test_latencies_or_percentiles(closed: Closed) -> None:
    """SM-08: sorted latencies, or percentiles where the tool keeps none; in milliseconds, none below the truth."""
    _, tool, run, _ = closed
    result = parse(tool, run)
    p50, p95, p99 = (percentile_of(result, name) for name in ("p50", "p95", "p99"))
    assert DELAY_S * 1000 <= p50 <= p95 <= p99 < run.lasted_s * 1000
    # Each user waited for one after the other: half of them took that long together at least, and there was that time.
    assert p50 * result.requests / 2 < run.request.load.users * run.lasted_s * 1000
    assert list(result.latencies_ms) == sorted(result.latencies_ms)
    assert bool(result.latencies_ms) != bool(result.percentiles_ms)
    assert not result.missing
    assert result.pace is None


def test_truncated_at_each_tenth(closed: Closed, tmp_path: Path) -> None:
    """XP-06: what a tool wrote is whole, or it is no measurement."""
    case, tool, run, _ = closed
    for name in case.outputs:
        path = run.request.folder / name
        whole = path.read_bytes()
        try:
            for tenth in range(10):
                path.write_bytes(whole[: len(whole) * tenth // 10])
                with pytest.raises(LoadFailed):
                    parse(tool, run)
            path.unlink()
            with pytest.raises(LoadFailed):
                parse(tool, run)
        finally:
            path.write_bytes(whole)
    parse(tool, run)


def test_a_tool_that_never_ended(closed: Closed) -> None:
    """XP-06: without the note that the tool came to its end nothing is read."""
    _, tool, run, _ = closed
    path = run.request.folder / "load-exit.json"
    whole = path.read_bytes()
    try:
        for content in (None, b"", b"{}", whole[: len(whole) // 2], whole.replace(b'"status": 0', b'"status": -9')):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(LoadFailed):
                parse(tool, run)
    finally:
        path.write_bytes(whole)


def test_the_version(case: Case) -> None:
    """SM-08: a version that a contract's specifier can be compared with."""
    assert Version(case.tool().version()) >= Version("1")


def test_a_missing_tool(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-08: said with what to install, and told from every other trouble."""
    if case.program is None:
        pytest.skip("is part of Python, or of the benchmark; has a test of its own")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for call in (case.make().version, lambda: case.make().build_command(case.request(tmp_path, "http://x"))):
        with pytest.raises(ToolMissing, match=f"asks for {case.program}, which is not installed. Install it"):
            call()


def test_a_failing_server(case: Case, tmp_path: Path) -> None:
    """XP-06: failed requests are a result, not a crash, and have no latency that counts."""
    tool = case.tool()

    def load(folder: Path) -> Loaded:
        run = run_tool(tool, case.request(folder, server.url, warm_up_s=0.0))
        assert run.status == 0, run.log
        return run

    with serving(status=503, delay_s=0.005) as server:
        result = parse(tool, first_good(load, tmp_path, lambda run: parse(tool, run).requests > 0))
    assert 0 < result.failures == result.requests <= len(server.paths)
    assert not result.latencies_ms
    assert not result.percentiles_ms
    assert result.first_error


def test_nobody_answers(case: Case, tmp_path: Path) -> None:
    """XP-06: a refused connection is never a measurement without failures."""
    tool = case.tool()

    def one_tried(run: Loaded) -> bool:
        return run.status != 0 or case.id == "h2load" or parse(tool, run).requests > 0

    with nobody() as url:
        request = {"warm_up_s": 0.0, "users": case.processes}
        run = first_good(lambda folder: run_tool(tool, case.request(folder, url, **request)), tmp_path, one_tried)
    if run.status != 0:
        assert "connect" in run.log.lower()
        return
    if case.id == "h2load":
        with pytest.raises(LoadFailed, match="h2load reached nobody at http://127"):
            parse(tool, run)
        return
    result = parse(tool, run)
    assert result.failures == result.requests > 0


def test_an_open_load(case: Case, tmp_path: Path) -> None:
    """XP-06: the intended and the achieved rate are recorded; a tool that makes no open load refuses it."""
    tool, rate, load = case.tool(), 60.0, {"shape": LoadShape.OPEN, "users": 4, "warm_up_s": 0.3}
    if not case.open_load:
        request = case.request(tmp_path, "http://127.0.0.1:1", rate=rate, **load)
        assert "closed load only" in str(tool.unfit_reason(request.load, request.bodies))
        with pytest.raises(LoadUnfit, match=rf"^{case.id} makes closed load only"):
            tool.build_command(request)
        return

    def measure(folder: Path) -> LoadResult:
        with serving() as server:
            run = run_tool(tool, case.request(folder, server.url, rate=rate, duration_s=2.0, **load))
        assert run.status == 0, run.log
        result = parse(tool, run)
        assert result.pace
        assert result.pace.intended_rps == rate
        # On a machine that is too busy some are not sent, and that is said.
        assert result.requests + (result.pace.dropped or 0) >= rate * 2.0 * 0.94
        return result

    def kept(result: LoadResult) -> bool:
        pace, close = result.pace, pytest.approx(rate, rel=0.06)
        return bool(pace and pace.achieved_rps == close and result.requests / 2.0 == close and (pace.dropped or 0) <= 2)

    result = first_good(measure, tmp_path, kept)
    assert kept(result), result


def test_a_rate_that_cannot_be_made(case: Case, tmp_path: Path) -> None:
    """XP-06: a service that is too slow for the rate shows in the pace: it is not kept in silence."""
    if not case.open_load:
        pytest.skip("makes closed load only")
    tool, rate = case.tool(), 200.0
    with serving(delay_s=0.05) as server:  # 2 users: 40 requests/s at most
        request = case.request(tmp_path, server.url, shape=LoadShape.OPEN, rate=rate, users=2, warm_up_s=0.0)
        run = run_tool(tool, request)
    assert run.status == 0, run.log
    pace = parse(tool, run).pace
    assert pace
    assert pace.achieved_rps < 0.4 * rate
    assert (pace.dropped or 0) + (pace.late or 0) > 10


def test_killed_half_way(case: Case, tmp_path: Path) -> None:
    """XP-06: a tool that is killed is a failed cell, whatever it had written by then."""
    tool = case.tool()
    with serving(delay_s=DELAY_S) as server:
        request = case.request(tmp_path, server.url, duration_s=20.0, warm_up_s=0.0)
        command = tool.build_command(request)
        with command.command.log.open("wb") as log:
            environment = {**os.environ, **command.command.env}
            driver = subprocess.Popen(
                command.command.argv, cwd=request.folder, env=environment, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: len(server.paths) > 20)
            os.kill(worker_of(driver.pid), signal.SIGKILL)
            status = driver.wait(20)
        finally:
            driver.kill()
            driver.wait()
    assert status != 0
    with pytest.raises(LoadFailed):
        tool.parse_output(request, 0.0, time.time())


def test_an_earlier_attempt_is_not_read_again(closed: Closed, tmp_path: Path) -> None:
    """XP-06: what another attempt left in the folder is no result of this one."""
    case, tool, run, server = closed
    shutil.copytree(run.request.folder, tmp_path / "copy")
    request = case.request(tmp_path / "copy", server.url)
    assert (tmp_path / "copy" / "load-exit.json").exists()
    built = tool.build_command(request)
    assert not built.ready_file.exists()
    with pytest.raises(LoadFailed):
        tool.parse_output(request, 0.0, 1e12)


def test_a_request_of_the_plain_kind(case: Case, tmp_path: Path) -> None:
    """The fields that only some tools read are optional."""
    if case.id == "command":
        pytest.skip("needs its command")
    plain = make_request(tmp_path, "http://127.0.0.1:1", duration_s=1.0)
    assert case.tool().build_command(plain).deadline_s > 1.0


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def worker_of(pid: int) -> int:
    """The tool itself: the driver's child, or the process where there is no driver."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:  # it went between two looks
        return False
