"""Locust's own master with workers, for real: each request is recorded once, by the worker that sent it."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loading import CountingServer, Loaded, at_once, first_good, make_request, run_locust, serving
from test_contract import alive, wait_for
from toolcases import CASES, Case, full_request, percentile_of

from pytest_staging.loadtools.driving import STARTUP_DEADLINE_S
from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.ports import LoadRequest, LoadResult

HEADER = "started_at_s,latency_ms,function,error,late_ms"


def rows_of(request: LoadRequest, worker: int) -> list[list[str]]:
    with (request.folder / f"requests-{worker}.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def everything(request: LoadRequest) -> LoadResult:
    return LocustTool().parse_output(request, -math.inf, math.inf)


def recorded(folder: Path, *workers: list[float], ended_s: float = 100.0) -> LoadRequest:
    """What a run leaves behind in which each worker saw those latencies, one request a second from 10 s on."""
    request = make_request(folder, "http://127.0.0.1:1", processes=len(workers))
    ending = {"status": 0, "started_at_s": 1.0, "ended_at_s": ended_s}
    for name, latencies in [*((str(number), one) for number, one in enumerate(workers, 1)), ("master", [])]:
        rows = [f"{10 + number},{latency},echo,,0" for number, latency in enumerate(latencies)]
        (folder / f"requests-{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        (folder / f"load-exit-{name}.json").write_text(json.dumps({**ending, "rows": len(latencies)}))
    (folder / "load-exit.json").write_text(json.dumps(ending))
    return request


@contextmanager
def running(folder: Path, processes: int = 2) -> Iterator[tuple[LoadRequest, CountingServer, subprocess.Popen[bytes]]]:
    """A long load that is on."""
    with serving(delay_s=0.004) as server:
        request = make_request(folder, server.url, processes=processes, duration_s=60.0, warm_up_s=0.0)
        command = LocustTool().build_command(request)
        with command.command.log.open("wb") as log:
            environment = {**os.environ, **command.command.env}
            driver = subprocess.Popen(command.command.argv, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: command.ready_file.exists() and len(server.paths) > 20)
            yield request, server, driver
        finally:
            driver.kill()
            driver.wait()


def children_of(driver: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()]


def test_every_slot_once(tmp_path: Path) -> None:
    """XP-06: three workers keep one schedule: of an open load no request is due twice, and none is left out."""
    rate = 120.0
    with serving(delay_s=0.002) as server:
        request = make_request(
            tmp_path, server.url, processes=3, users=7, shape=LoadShape.OPEN, rate=rate, duration_s=2.0, warm_up_s=0.3
        )
        run = run_locust(request)
    assert run.status == 0, run.log
    shares = [rows_of(request, worker) for worker in (1, 2, 3)]
    due_s = sorted(float(row[0]) for share in shares for row in share)
    slots = [(instant - due_s[0]) * rate for instant in due_s]
    numbers = [round(slot) for slot in slots]
    assert max(abs(slot - number) for slot, number in zip(slots, numbers, strict=True)) < 0.01
    assert len(set(numbers)) == len(numbers) == len(server.paths)
    for worker, share in enumerate(shares):
        taken = sorted(round((float(row[0]) - due_s[0]) * rate) for row in share)
        # The last ones may find their worker at its end, which on a busy machine is not the others' end.
        assert taken[:-3] == list(range(worker, 3 * len(taken) + worker, 3))[:-3]
    assert run.ready_s
    start_s = run.ready_s + 0.3
    result = LocustTool().parse_output(request, start_s, start_s + 2.0)
    assert result.pace
    assert rate * 2 - 1 <= result.requests + (result.pace.dropped or 0) <= rate * 2 + 1
    assert result.facts == {"processes": 3}


def test_users_are_shared(tmp_path: Path) -> None:
    """XP-06: each worker has its part of the users, and what they record is what the server saw."""

    def once(folder: Path) -> tuple[Loaded, CountingServer]:
        with serving(delay_s=0.02) as server:
            return run_locust(make_request(folder, server.url, processes=2, users=5)), server

    run, server = first_good(once, tmp_path, lambda ran: len(ran[1].paths) > 50)
    assert run.status == 0, run.log
    shares = [rows_of(run.request, worker) for worker in (1, 2)]
    result = everything(run.request)
    assert sum(map(len, shares)) == result.requests == len(result.latencies_ms) == len(server.paths)
    # How many requests each sends is the machine's affair: how many users it has shows in those that wait at a time.
    spans = [[(float(row[0]), float(row[0]) + float(row[1]) / 1000) for row in share] for share in shares]
    assert sorted(map(at_once, spans)) == [2, 3]


def test_percentiles_are_of_all_requests(tmp_path: Path) -> None:
    """XP-06: one worker saw 1 ms, the other 100 ms: the p95 of all is 100 ms, and no mean of the two."""
    request = recorded(tmp_path, [1.0] * 50, [100.0] * 50)
    result = everything(request)
    assert list(result.latencies_ms) == [1.0] * 50 + [100.0] * 50
    assert (percentile_of(result, "p50"), percentile_of(result, "p95")) == (pytest.approx(50.5), 100.0)
    request = recorded(tmp_path / "few", [1.0] * 98, [100.0] * 2)
    assert percentile_of(everything(request), "p95") == 1.0


@pytest.mark.parametrize("name", ["requests-2.csv", "load-exit-2.json", "requests-master.csv", "load-exit.json"])
def test_a_share_that_is_missing(tmp_path: Path, name: str) -> None:
    """XP-06: what one worker sent is no smaller result."""
    request = recorded(tmp_path, [1.0, 2.0], [1.0, 2.0])
    assert everything(request).requests == 4
    path = tmp_path / name
    whole = path.read_bytes()
    for content in (None, b"", whole[: len(whole) // 2]):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LoadFailed):
            everything(request)


def test_a_row_that_is_missing(tmp_path: Path) -> None:
    """XP-06: as each worker counts its rows, a whole line that is gone is found out."""
    request = recorded(tmp_path, [1.0, 2.0], [1.0, 2.0])
    path = tmp_path / "requests-2.csv"
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    with pytest.raises(LoadFailed, match=r"requests-2\.csv is broken: it holds 1 of 2 requests"):
        everything(request)


def test_a_worker_that_ended_before_the_load(tmp_path: Path) -> None:
    """XP-06: however well it ended."""
    request = recorded(tmp_path, [1.0] * 5, [1.0] * 5, ended_s=20.0)
    assert LocustTool().parse_output(request, 10.0, 19.0).requests == 10
    with pytest.raises(LoadFailed, match=r"locust worker 1 ended 1\.50 s before the load did"):
        LocustTool().parse_output(request, 10.0, 21.5)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["a worker", "the other", "the master"])
def test_one_that_is_killed(tmp_path: Path, number: int) -> None:
    """XP-06: then the others are ended at once, and the cell has failed."""
    with running(tmp_path) as (request, _, driver):
        children = children_of(driver)
        assert len(children) == 3
        os.kill(children[number], signal.SIGKILL)
        assert driver.wait(15) == 137
    said = (tmp_path / "load.log").read_text()
    assert f"locust (process {number + 1} of 3) ended with status -9: killed by signal 9" in said
    assert not any(alive(pid) for pid in children)
    with pytest.raises(LoadFailed, match="was killed by signal 9"):
        everything(request)


QUITS = """
import os
import gevent
from locust import FastHttpUser, constant, events, task

class Mine(FastHttpUser):
    wait_time = constant(0.01)

    @task
    def mine(self):
        self.client.get("/mine")

@events.spawning_complete.add_listener
def leaves(**_):
    if os.environ.get("STAGING_LOAD_WORKER") == "1":
        gevent.spawn_later(0.3, RUNNER[0].quit)

RUNNER = []

@events.init.add_listener
def remember(runner, **_):
    RUNNER.append(runner)
"""


def test_a_worker_that_quits(tmp_path: Path) -> None:
    """XP-06: a worker that leaves early with status 0 is missed all the same; Locust itself would go on without it."""

    def once(folder: Path) -> tuple[Loaded, CountingServer]:
        with serving() as server:
            load = {"script": QUITS, "processes": 2, "users": 4, "duration_s": 1.5, "warm_up_s": 0.0}
            return run_locust(make_request(folder, server.url, **load)), server

    def left_early(ran: tuple[Loaded, CountingServer]) -> bool:
        ending = ran[0].request.folder / "load-exit-2.json"
        ended_s = json.loads(ending.read_text())["ended_at_s"] if ending.exists() else 0.0
        return ended_s < (ran[0].ready_s or 0.0) + 1.5

    run, server = first_good(once, tmp_path, left_early)
    request = run.request
    assert set(server.paths) == {"/mine"}
    assert run.ready_s
    # Its master finds out when it ends the run, unless the worker's last word is still on its way; a reader always.
    assert (run.status, "worker" in run.log) in ((75, True), (0, False)), run.log
    with pytest.raises(LoadFailed, match=r"ended with status 75|ended \d\.\d\d s before the load did"):
        LocustTool().parse_output(request, run.ready_s, run.ready_s + 1.5)


@pytest.mark.parametrize("script", ["def broken(:\n", "x = 1\n"], ids=["syntax", "no user"])
def test_a_locustfile_that_does_not_work(tmp_path: Path, script: str) -> None:
    """XP-06: seen at once, and not when a deadline has passed: no worker waits for a master that is gone."""
    with serving() as server:
        run = run_locust(make_request(tmp_path, server.url, script=script, processes=2, duration_s=0.1))
    assert run.status not in (0, None)
    assert run.lasted_s < STARTUP_DEADLINE_S
    assert run.ready_s is None


def test_an_end_that_is_decided_later(tmp_path: Path) -> None:
    """SM-08: each worker shows what it has recorded so far, and all end at the instant that `until` tells."""
    with serving(delay_s=0.005) as server:
        request = make_request(tmp_path, server.url, processes=2, duration_s=60.0, warm_up_s=0.0)
        request = LoadRequest(**{**vars(request), "until": tmp_path / "until"})
        command = LocustTool().build_command(request)
        assert command.live == (tmp_path / "requests-1.csv", tmp_path / "requests-2.csv")
        with command.command.log.open("wb") as log:
            environment = {**os.environ, **command.command.env}
            driver = subprocess.Popen(command.command.argv, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: all(live.exists() and live.read_bytes().count(b"\n") > 20 for live in command.live))
            decided_s = time.time()
            until_s = decided_s + 1.0
            (tmp_path / "until.tmp").write_text(repr(until_s))
            (tmp_path / "until.tmp").rename(tmp_path / "until")
            assert driver.wait(15) == 0, (tmp_path / "load.log").read_text()
        finally:
            driver.kill()
            driver.wait()
    assert everything(request).requests == len(server.paths)
    begun_s = sorted(float(row[0]) for worker in (1, 2) for row in rows_of(request, worker))
    # It ended neither at once nor when it liked: it sent in the time that was left, and then no more to speak of.
    assert begun_s[-1] > decided_s + 0.3
    late = [instant for instant in begun_s if instant > until_s + 0.5]
    assert len(late) < len([instant for instant in begun_s if decided_s < instant < until_s]) / 2


def test_what_is_built(tmp_path: Path) -> None:
    """SM-08: a master that only this machine can reach, a CPU for each worker, and nothing left of an earlier run."""
    recorded(tmp_path, [1.0], [1.0], [1.0])
    built = LocustTool().build_command(make_request(tmp_path, "http://h:1", processes=2, users=2))
    assert built.cpus == 2.0
    assert {path.name for path in tmp_path.iterdir()} == {"body.json", "load-plan.json", "locust-plan.json"}
    *workers, master = json.loads((tmp_path / "load-plan.json").read_text())["phases"][0]["argvs"]
    assert len(workers) == 2
    assert master[master.index("--master-bind-host") + 1] == "127.0.0.1"
    assert master[master.index("--expect-workers") + 1] == "2"


def test_more_processes_than_users(tmp_path: Path) -> None:
    """SM-08: a worker without a user would leave out its part of the schedule."""
    with pytest.raises(LoadUnfit, match=r"locust gives each process a user at least, and load\.processes is 4"):
        LocustTool().build_command(make_request(tmp_path, "http://h:1", processes=4, users=3))


ALONE = [case for case in CASES if case.id in ("wrk", "h2load", "command")]


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.id)
def test_tools_that_run_alone(case: Case, tmp_path: Path) -> None:
    """SM-08: said before anything runs."""
    request = full_request(tmp_path, "http://h:1", **dict(case.options), processes=2)
    reason = case.make().unfit_reason(request.load, request.bodies)
    assert reason == "runs as one process, and load.processes is 2"
