"""Several real k6 that share one load by execution segments."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from loading import CountingServer, Loaded, at_once, first_good, run_tool, serving
from test_contract import wait_for
from toolcases import full_request, give_up, has_program, percentile_of

from pytest_staging.loadtools.k6 import K6Tool
from pytest_staging.loadtools.k6_points import Points, read_points
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.ports import LoadRequest, LoadResult

Run = Callable[..., tuple[Loaded, CountingServer]]
THRESHOLD = """
import http from 'k6/http';
export const options = { thresholds: { http_req_duration: ['p(95)<0.001'] } };
export default function () { http.get(`${__ENV.BASE_URL}/mine`); }
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    if not has_program("k6"):
        give_up("k6 is not installed", exempt=True)

    def running(
        script: str | None = None, delay_s: float = 0.004, at_least: int = 0, **load: Any
    ) -> tuple[Loaded, CountingServer]:
        path = None
        if script is not None:
            path = tmp_path / "mine.js"
            path.write_text(script)

        def once(folder: Path) -> tuple[Loaded, CountingServer]:
            with serving(delay_s=delay_s) as server:
                values = {"duration_s": 1.0, "processes": 2, "users": 4, **load}
                return run_tool(K6Tool(), full_request(folder, server.url, script=path, **values)), server

        # At least so many requests in the window.
        return first_good(once, tmp_path / "cell", lambda ran: seen_within(*ran) >= at_least)

    return running


def seen_within(done: Loaded, server: CountingServer) -> int:
    """How many requests came in the window."""
    start_s = (done.ready_s or 0.0) + done.request.load.warm_up_s
    return server.seen(start_s, start_s + done.request.load.duration_s)


def read(done: Loaded) -> LoadResult:
    assert done.status == 0, done.log
    assert done.ready_s
    start_s = done.ready_s + done.request.load.warm_up_s
    return K6Tool().parse_output(done.request, start_s, start_s + done.request.load.duration_s)


def share(request: LoadRequest, number: int) -> Points:
    return read_points(request.folder / f"k6-points-{number}.json", 0.0, 1e12)


def under_way(request: LoadRequest, number: int) -> list[tuple[float, float]]:
    """Begin and end of each request of one process, in epoch seconds."""
    lines = map(json.loads, (request.folder / f"k6-points-{number}.json").read_text().splitlines())
    told = [one["data"] for one in lines if (one["metric"], one["type"]) == ("http_req_duration", "Point")]
    ends_s = [epoch_s(one["time"]) for one in told]
    return [(end_s - one["value"] / 1000, end_s) for end_s, one in zip(ends_s, told, strict=True)]


def epoch_s(instant: str) -> float:
    """Of an instant with any number of digits, as Go writes it."""
    minute, seconds, zone = re.fullmatch(r"(.{16}):([\d.]+)(.+)", instant).groups()  # type: ignore[union-attr]
    return datetime.fromisoformat(minute + zone.replace("Z", "+00:00")).timestamp() + float(seconds)


def test_a_closed_load_is_shared(run: Run) -> None:
    """XP-06: two processes have the users of one; the result is every single request of both, as the server saw it."""
    done, server = run(warm_up_s=0.0, at_least=100)
    result = read(done)
    shares = [share(done.request, number) for number in range(2)]
    assert sum(one.total for one in shares) == len(server.paths)
    # How many requests each sends is the machine's affair: how many users it has shows in those that wait at a time.
    assert [at_once(under_way(done.request, number)) for number in range(2)] == [2, 2]
    assert len(result.latencies_ms) == result.requests == pytest.approx(seen_within(done, server), rel=0.25)
    assert result.facts == {"source": "points", "schedule": "contract", "processes": 2}


def test_percentiles_are_of_all_requests(run: Run) -> None:
    """XP-06: a percentile is taken of all latencies together: percentiles of the processes are never averaged."""
    done, _ = run(warm_up_s=0.0, at_least=100)
    result = read(done)
    slow = done.request.folder / "k6-points-1.json"
    # As if one had seen everything a hundred times slower.
    lines = [json.loads(line) for line in slow.read_text().splitlines()]
    for line in lines:
        if line["metric"] == "http_req_duration" and line["type"] == "Point":
            line["data"]["value"] *= 100
    slow.write_text("".join(json.dumps(line) + "\n" for line in lines))
    changed = K6Tool().parse_output(done.request, 0.0, 1e12)
    both = sorted([*share(done.request, 0).latencies_ms, *share(done.request, 1).latencies_ms])
    assert list(changed.latencies_ms) == both
    assert percentile_of(changed, "p95") > 80 * percentile_of(result, "p50")


def test_an_open_load_is_shared(run: Run) -> None:
    """XP-06: three processes together keep the rate, and each sends a share of it; nothing is sent twice."""
    done, server = run(shape=LoadShape.OPEN, rate=90.0, users=6, processes=3, duration_s=2.0, warm_up_s=1.0)
    result = read(done)
    assert result.pace
    # On a machine that is busy k6 drops some, and says so.
    dropped = result.pace.dropped
    assert dropped is not None
    assert result.requests + dropped == pytest.approx(180, abs=3)
    assert result.pace.achieved_rps == pytest.approx(result.requests / 2, rel=0.03)
    shares = [share(done.request, number).total for number in range(3)]
    # Of the warm-up's end k6 tells nothing that it cut off.
    assert len(server.paths) - 6 <= sum(shares) <= len(server.paths) <= 276
    assert shares == [pytest.approx(90, abs=4 + max(0, 270 - len(server.paths)))] * 3


def test_breached_thresholds_of_any(run: Run) -> None:
    """SM-08: a threshold that one process or all breach is no crash, and said once."""
    done, _ = run(THRESHOLD)
    assert read(done).facts == {
        "source": "points",
        "schedule": "contract",
        "processes": 2,
        "exit_status": 99,
        "thresholds_breached": ["http_req_duration: p(95)<0.001"],
    }


@pytest.mark.parametrize("name", ["k6-points-1.json", "k6-summary-1.json"])
def test_a_share_that_is_missing(run: Run, name: str) -> None:
    """XP-06: what one of them sent is no smaller result."""
    done, _ = run(warm_up_s=0.0)
    path = done.request.folder / name
    whole = path.read_bytes()
    for content in (None, b"", whole[: len(whole) // 2], b"".join(whole.splitlines(True)[:-40])):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LoadFailed, match=name):
            read(done)


def test_one_that_is_killed(tmp_path: Path) -> None:
    """XP-06: then the others are ended at once, and the cell has failed."""
    if not has_program("k6"):
        give_up("k6 is not installed", exempt=True)
    with serving(delay_s=0.004) as server:
        request = full_request(tmp_path, server.url, duration_s=30.0, warm_up_s=0.0, processes=2, users=2)
        command = K6Tool().build_command(request)
        with command.command.log.open("wb") as log:
            environment = {**os.environ, **command.command.env}
            driver = subprocess.Popen(command.command.argv, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: len(server.paths) > 20)
            children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
            assert len(children) == 2
            os.kill(int(children[1]), signal.SIGKILL)
            assert driver.wait(30) == 137
        finally:
            driver.kill()
            driver.wait()
    assert "k6 (process 2 of 2) ended with status -9: killed by signal 9" in command.command.log.read_text()
    assert not Path(f"/proc/{children[0]}/cmdline").exists()
    with pytest.raises(LoadFailed, match=r"k6 \(process 2\) was killed by signal 9"):
        K6Tool().parse_output(request, 0.0, 1e12)


def test_more_processes_than_users(tmp_path: Path) -> None:
    """SM-08: a k6 without a user would send nothing and say nothing."""
    if not has_program("k6"):
        give_up("k6 is not installed", exempt=True)
    request = full_request(tmp_path, "http://127.0.0.1:1", processes=3, users=2, duration_s=1.0)
    with pytest.raises(LoadUnfit, match=r"gives each process a user at least, and load\.processes is 3, load\.users 2"):
        K6Tool().build_command(request)
