"""Real k6 against a real server: the user's own script unchanged, and the cell's figures beside k6's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from loading import CountingServer, Loaded, first_good, run_tool, serving
from toolcases import full_request, give_up, has_program, milliseconds

from pytest_staging.loadtools.k6 import K6Tool
from pytest_staging.loadtools.k6_summary import parse_summary
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import LoadResult
from pytest_staging.stats.summary import percentile

Run = Callable[..., tuple[Loaded, CountingServer]]

OWN = """
import http from 'k6/http';
export const options = {
  vus: 2, duration: '2s', summaryTrendStats: ['avg'],
  thresholds: { http_req_duration: ['p(95)<0.001'], checks: ['rate>=0'] },
};
export function setup() { return { word: 'mine' }; }
export default function (data) {
  http.get(`${__ENV.BASE_URL}/${data.word}`);
  http.post(`${__ENV.STAGING_BASE_URL}/twice`, 'x');
}
export function handleSummary(data) { return { 'mine.json': JSON.stringify(data), stdout: 'my own words' }; }
"""
PLAIN = "import http from 'k6/http';\nexport default function () { http.get(`${__ENV.BASE_URL}/plain`); }\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs k6 with a script, or the default one."""
    if not has_program("k6"):
        give_up("k6 is not installed", exempt=True)

    def running(
        script: str | None = None, delay_s: float = 0.004, at_least: int = 0, **load: object
    ) -> tuple[Loaded, CountingServer]:
        path = None
        if script is not None:
            path = tmp_path / "mine.js"
            path.write_text(script)

        def once(folder: Path) -> tuple[Loaded, CountingServer]:
            with serving(delay_s=delay_s) as server:
                request = full_request(folder, server.url, script=path, **{"duration_s": 1.0, **load})
                return run_tool(K6Tool(), request), server

        # At least so many requests in the warm-up, and as many in the window.
        return first_good(once, tmp_path / "cell", lambda ran: min(before_and_within(*ran)) >= at_least)

    return running


def before_and_within(done: Loaded, server: CountingServer) -> tuple[int, int]:
    """How many requests came before the window and in it."""
    start_s = (done.ready_s or 0.0) + done.request.load.warm_up_s
    return server.seen(0.0, start_s), server.seen(start_s, start_s + done.request.load.duration_s)


def read(done: Loaded) -> LoadResult:
    assert done.status == 0, done.log
    assert done.ready_s
    start_s = done.ready_s + done.request.load.warm_up_s
    return K6Tool().parse_output(done.request, start_s, start_s + done.request.load.duration_s)


def test_the_users_own_script(run: Run) -> None:
    """SM-08: it runs unchanged: its schedule, setup, thresholds and handleSummary are its own. A breached threshold is
    recorded and no crash; exact percentiles come although its summary has none."""
    done, server = run(OWN, warm_up_s=0.5, at_least=10)
    result = read(done)
    assert set(server.paths) == {"/mine", "/twice"}
    assert 0 < result.requests < len(server.paths)
    assert len(result.latencies_ms) == result.requests
    assert result.facts == {
        "source": "points",
        "schedule": "script",
        "exit_status": 99,
        "thresholds_breached": ["http_req_duration: p(95)<0.001"],
    }
    assert "my own words" in done.log
    written = json.loads((done.request.folder / "mine.json").read_text())
    assert parse_summary(written, measured=False).shape == "handle"


def test_a_script_without_a_schedule(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-08: then the contract's users and seconds hold, whatever the environment or k6's own configuration says."""
    monkeypatch.setenv("K6_VUS", "50")
    monkeypatch.setenv("K6_DURATION", "1m")
    done, server = run(PLAIN, users=2, warm_up_s=1.0, at_least=50)
    result = read(done)
    assert set(server.paths) == {"/plain"}
    before, within = before_and_within(done, server)
    assert result.requests == pytest.approx(within, rel=0.25)
    assert result.requests < len(server.paths) - before / 2
    assert result.facts == {"summary": "export", "source": "summary", "schedule": "contract"}


def test_figures_are_k6s_own(run: Run) -> None:
    """SM-08: p95 of the raw points in the window, of the summary's measured scenario, and of what k6 prints differ by
    no more than 2 %, or by what the few requests at the window's edges can change."""
    done, _ = run(exact_percentiles=True, warm_up_s=1.0, duration_s=2.0, at_least=50)
    points = read(done)
    summary = parse_summary(json.loads((done.request.folder / "k6-summary.json").read_text()), measured=True)
    # k6 begins its measured scenario a moment later than it was told: by a busy machine's moment.
    assert points.requests == pytest.approx(summary.requests, rel=0.1)
    for name, least, most in (("p50", 48.0, 52.0), ("p95", 93.0, 97.0)):
        near = percentile(points.latencies_ms, least) * 0.98, percentile(points.latencies_ms, most) * 1.02
        assert near[0] <= summary.percentiles_ms[name] <= near[1]
    own = [line for line in done.log.splitlines() if "scenario:measured" in line and "p(95)=" in line]
    line = next(line for line in own if "expected_response:true" in line)
    printed = milliseconds(line.partition("p(95)=")[2].split()[0])
    assert summary.percentiles_ms["p95"] == pytest.approx(printed, rel=0.02)


def test_a_warm_up_shorter_than_k6_can_make(run: Run) -> None:
    """SM-08: the window begins where the measured scenario does: not a request of the warm-up is in it."""
    done, server = run(warm_up_s=0.2, exact_percentiles=True, at_least=50)
    points = read(done)
    summary = parse_summary(json.loads((done.request.folder / "k6-summary.json").read_text()), measured=True)
    assert points.requests == pytest.approx(summary.requests, rel=0.1)
    before, _ = before_and_within(done, server)
    assert summary.requests < len(server.paths) - before / 2


def test_a_syntax_error(run: Run, tmp_path: Path) -> None:
    """XP-06: found before the load, with the line."""
    with pytest.raises(LoadFailed, match=r"k6 cannot read mine\.js: .*Unexpected") as caught:
        run("export default function ( {\n")
    assert "mine.js" in caught.value.log_tail


def test_a_script_that_throws_at_once(run: Run) -> None:
    """XP-06: one that stops the test is a failed cell, with k6's meaning."""
    done, _ = run("import exec from 'k6/execution';\nexport default function () { exec.test.abort('no more'); }\n")
    assert done.status == 108
    assert "k6 ended with status 108: the script ended the test itself" in done.log


def test_a_script_that_sends_nothing(run: Run) -> None:
    """XP-06: no request at all is told as none, which no cell passes with; no percentile comes of it."""
    done, server = run("export default function () {}\n")
    assert server.paths == []
    result = read(done)
    assert (result.requests, result.percentiles_ms) == (0, {})
