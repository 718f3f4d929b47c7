"""Real Locust against a real server: what it records is what happened."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from loading import CountingServer, Loaded, first_good, make_request, nobody, run_locust, serving

from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import LoadResult

DELAY_S = 0.005
Ran = tuple[Loaded, CountingServer]


def everything(run: Loaded) -> LoadResult:
    return LocustTool().parse_output(run.request, -math.inf, math.inf)


def run(folder: Path, at_least: int = 1, delay_s: float = 0.0, status: int = 200, **load: Any) -> Ran:
    """Locust, and the server that it loaded; once more when a busy machine let it send fewer requests than that."""

    def once(place: Path) -> Ran:
        with serving(delay_s=delay_s, status=status) as server:
            return run_locust(make_request(place, server.url, **load)), server

    return first_good(once, folder, lambda ran: len(ran[1].paths) >= at_least)


def quarters_of(run: Loaded) -> list[tuple[float, float]]:
    """The window's."""
    assert run.ready_s
    start_s, duration_s = run.ready_s + run.request.load.warm_up_s, run.request.load.duration_s
    return list(pairwise(start_s + part * duration_s / 4 for part in range(5)))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One closed run that several tests look at. All along it the machine let Locust send."""

    def once(folder: Path) -> Ran:
        with serving(delay_s=DELAY_S) as server:
            return run_locust(make_request(folder, server.url)), server

    def steady(ran: Ran) -> bool:
        run, server = ran
        quarters = quarters_of(run) if run.ready_s else []
        return all(server.seen(*between) > 10 for between in [(0.0, quarters[0][0]), *quarters] if quarters)

    return first_good(once, tmp_path_factory.mktemp("closed"), steady)


def test_every_request_is_recorded(closed: Ran) -> None:
    """SM-07: the recorder's count is the server's own."""
    run, server = closed
    assert run.status == 0, run.log
    result = everything(run)
    assert result.requests == len(server.paths) > 0
    assert (result.failures, result.first_error) == (0, None)
    assert set(server.paths) == {"/invoke/echo"}
    assert server.bodies == {b'{"text": "hello"}'}


def test_latencies_are_raw(closed: Ran) -> None:
    """SM-07: not rounded to whole or tenth milliseconds, as Locust's own reports are; and none below the truth."""
    latencies = everything(closed[0]).latencies_ms
    assert min(latencies) >= DELAY_S * 1000
    assert len({round(value, 4) for value in latencies}) > 0.8 * len(latencies)
    assert sum(value != round(value, 2) for value in latencies) > 0.8 * len(latencies)
    assert list(latencies) == sorted(latencies)


def test_the_run_takes_as_long_as_it_is_told(closed: Ran) -> None:
    """Users send from the announced instant to the end of the load, so the window is full of requests."""
    run, _ = closed
    quarters = quarters_of(run)
    parts = [LocustTool().parse_output(run.request, *between) for between in quarters]
    whole = LocustTool().parse_output(run.request, quarters[0][0], quarters[-1][1])
    assert sum(part.requests for part in parts) == whole.requests < everything(run).requests
    assert min(part.requests for part in parts) > 0


def test_open_load_keeps_its_rate_and_hides_no_stall(tmp_path: Path) -> None:
    """SM-07: a server that stands still once delays every request that was due meanwhile, and each counts from the
    instant at which it was due. Measured from the sending, only one request of each user would be late."""
    rate, users, stall_s = 150.0, 6, 0.5
    with serving(stall_at=150, stall_s=stall_s) as server:
        request = make_request(
            tmp_path, server.url, shape=LoadShape.OPEN, rate=rate, users=users, duration_s=2.4, warm_up_s=0.2
        )
        run = run_locust(request)
    assert run.status == 0, run.log
    quarters = quarters_of(run)
    result = LocustTool().parse_output(request, quarters[0][0], quarters[-1][1])
    assert result.pace
    # When a busy machine stops Locust just before its end, the last ones are not sent, and that is said.
    assert result.requests + (result.pace.dropped or 0) == pytest.approx(rate * 2.4, rel=0.02)
    late = [value for value in result.latencies_ms if value > stall_s * 1000 / 5]
    assert len(late) > 5 * users
    assert len(late) > 0.6 * rate * stall_s
    assert result.latencies_ms[-1] >= stall_s * 1000 * 0.95


def test_a_failing_server(tmp_path: Path) -> None:
    """Failed requests are a result, not a crash of the tool."""
    loaded, server = run(tmp_path, status=503, delay_s=0.01, duration_s=0.3, warm_up_s=0.0)
    assert loaded.status == 0, loaded.log
    result = everything(loaded)
    assert result.failures == result.requests == len(server.paths) > 0
    assert result.latencies_ms == []
    assert "503" in str(result.first_error)


OWN = """
import time
from locust import HttpUser, constant, events, task

class Mine(HttpUser):
    wait_time = constant(0.01)

    @task
    def mine(self):
        with self.client.get("/mine", name="my request", catch_response=True) as answer:
            if answer.text != "ok":
                answer.failure("wrong")

@events.quit.add_listener
def told(exit_code, **_):
    print("my listener was called", flush=True)
"""


def test_the_users_own_locustfile(tmp_path: Path) -> None:
    """SM-07: an ordinary locustfile runs unchanged, its listeners too, and every request is recorded."""
    loaded, server = run(tmp_path, at_least=6, script=OWN, duration_s=0.5, warm_up_s=0.0)
    assert loaded.status == 0, loaded.log
    assert "my listener was called" in loaded.log
    assert set(server.paths) == {"/mine"}
    assert everything(loaded).requests == len(server.paths) > 5
    assert ",my request," in (loaded.request.folder / "requests.csv").read_text()


RAISES = """
from locust import FastHttpUser, constant, task

class Mine(FastHttpUser):
    wait_time = constant(0.02)

    @task
    def mine(self):
        self.client.get("/before")
        raise KeyError("my mistake")
"""


def test_a_locustfile_that_raises(tmp_path: Path) -> None:
    """XP-06: an error of the load's own program is not a pass: it counts as a failed request and is named."""
    loaded, server = run(tmp_path, script=RAISES, duration_s=0.3, warm_up_s=0.0)
    result = everything(loaded)
    assert result.failures > 0
    assert result.requests == result.failures + len(server.paths)
    assert result.first_error == "KeyError: 'my mistake'"


FAILS = """
@events.quitting.add_listener
def fails(environment, **_):
    environment.process_exit_code = 1
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_here\n", "no_such_module_here"),
        ("x = 1\n", "Traceback"),
        (OWN + FAILS, ""),
    ],
    ids=["syntax", "import", "no user", "own exit code"],
)
def test_a_locustfile_that_does_not_work(tmp_path: Path, script: str, expected: str) -> None:
    """A load that could not be made is seen by its exit status, and the log says why."""
    with serving() as server:
        run = run_locust(make_request(tmp_path, server.url, script=script, duration_s=0.1, warm_up_s=0.0))
    assert run.status not in (0, None)
    assert expected in run.log


def test_a_full_disk(tmp_path: Path) -> None:
    """Missing requests must not look like a whole measurement."""
    (tmp_path / "requests.csv").symlink_to("/dev/full")
    with serving() as server:
        run = run_locust(make_request(tmp_path, server.url, duration_s=0.2, warm_up_s=0.0))
    assert run.status not in (0, None)
    assert "requests.csv: [Errno 28] No space left on device" in run.log


def test_nobody_answers(tmp_path: Path) -> None:
    """A refused connection is a failed request with its reason."""

    def load(folder: Path) -> Loaded:
        return run_locust(make_request(folder, url, duration_s=0.2, warm_up_s=0.0, users=1))

    with nobody() as url:
        loaded = first_good(load, tmp_path, lambda one: everything(one).requests > 0)
    assert loaded.status == 0, loaded.log
    result = everything(loaded)
    assert result.failures == result.requests > 0
    assert "refused" in str(result.first_error).lower()
    with pytest.raises(LoadFailed):
        LocustTool().parse_output(make_request(tmp_path / "other", url), 0, 1)
