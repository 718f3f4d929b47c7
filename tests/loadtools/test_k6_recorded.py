"""k6 from end to end with a stand-in that plays recorded runs: endings, versions, and what a script decides itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from loading import run_tool
from test_k6_summary import by_scenario, recorded
from toolcases import DATA, HERE, full_request

from pytest_staging.loadtools.k6 import K6Tool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolMissing, ToolUnsupported
from pytest_staging.model.ports import LoadRequest, LoadResult, Pace

SCRIPT = "export default function () {}\n"


class FakeK6:
    """Puts the stand-in first on PATH and tells it what to do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        program = folder / "bin" / "k6"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_k6.py"}" "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def says(self, **what: Any) -> None:
        self._monkeypatch.setenv("FAKE_K6", json.dumps(what))

    def play(self, request: LoadRequest) -> tuple[int | None, str]:
        run = run_tool(K6Tool(), request)
        return run.status, run.log


@pytest.fixture
def k6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeK6:
    return FakeK6(tmp_path, monkeypatch)


def written(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def scripted(tmp_path: Path, **load: Any) -> LoadRequest:
    script = tmp_path / "mine.js"
    script.write_text(SCRIPT)
    return full_request(tmp_path / "cell", "http://127.0.0.1:1", script=script, **{"duration_s": 1.0, **load})


def read(request: LoadRequest) -> LoadResult:
    return K6Tool().parse_output(request, 0.0, 1e12)


def test_an_open_load_with_dropped_iterations(k6: FakeK6, tmp_path: Path) -> None:
    """XP-06: intended rate, achieved rate and dropped iterations reach the result."""
    k6.says(summary=written(tmp_path / "s.json", by_scenario(recorded("summary-export-arrival-rate"))))
    request = scripted(tmp_path, shape=LoadShape.OPEN, rate=1000.0, duration_s=8.0)
    assert k6.play(request)[0] == 0
    result = read(request)
    assert result.pace == Pace(intended_rps=1000.0, achieved_rps=999.5, dropped=4)
    assert (result.requests, result.percentiles_ms["p99"]) == (7996, 3.046193000000001)
    assert result.facts == {"summary": "export", "source": "summary", "schedule": "contract"}


def test_a_breached_threshold_is_no_crash(k6: FakeK6, tmp_path: Path) -> None:
    """SM-08: k6 ends with 99 then; the cell is measured, and says which threshold."""
    raw = by_scenario(recorded("summary-export-arrival-rate"))
    raw["metrics"]["http_reqs"]["thresholds"] = {"rate>2000": True}
    k6.says(summary=written(tmp_path / "s.json", raw), status=99)
    request = scripted(tmp_path)
    assert k6.play(request)[0] == 0
    result = read(request)
    assert result.facts["thresholds_breached"] == ["http_reqs: rate>2000"]
    assert result.facts["exit_status"] == 99
    assert result.requests == 7996


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(107, "the script threw an exception"), (104, "the configuration is not valid"), (1, "it failed")],
)
def test_other_endings(k6: FakeK6, tmp_path: Path, status: int, meaning: str) -> None:
    """XP-06: every other status is a failed cell, with k6's own meaning, although a summary is there."""
    k6.says(summary=written(tmp_path / "s.json", by_scenario(recorded("summary-export-arrival-rate"))), status=status)
    request = scripted(tmp_path)
    code, log = k6.play(request)
    assert code == status
    assert f"k6 ended with status {status}: " in log
    assert meaning in log
    with pytest.raises(LoadFailed, match=f"^k6 ended with status {status}$"):
        read(request)


def test_killed(k6: FakeK6, tmp_path: Path) -> None:
    """XP-06: by somebody else's hand, or for want of memory."""
    k6.says(summary=written(tmp_path / "s.json", by_scenario(recorded("summary-export-arrival-rate"))), signal=9)
    request = scripted(tmp_path)
    code, log = k6.play(request)
    assert code == 137
    assert "killed by signal 9" in log
    with pytest.raises(LoadFailed, match=r"^k6 was killed by signal 9$"):
        read(request)


def test_a_recorded_output_without_scenarios(k6: FakeK6, tmp_path: Path) -> None:
    """XP-06: a file of another tool, or of a run that was not parted, is refused as what it is."""
    k6.says(summary=written(tmp_path / "s.json", by_scenario(recorded("summary-export-arrival-rate"))))
    request = scripted(tmp_path)
    assert k6.play(request)[0] == 0
    assert read(request).requests
    paths = [*sorted((DATA / "wrk").iterdir()), *sorted((DATA / "k6").glob("*summary*"))]
    assert len(paths) > 5
    for path in paths:
        (request.folder / "k6-summary.json").write_bytes(path.read_bytes())
        with pytest.raises(LoadFailed, match=r"^k6-summary\.json of k6 is broken: "):
            read(request)


def test_points_that_are_not_whole(k6: FakeK6, tmp_path: Path) -> None:
    """XP-06: cut at a line's end it looks whole; the summary says how many requests there were."""
    lines = (DATA / "k6" / "points.json").read_text().splitlines(keepends=True)
    request = scripted(tmp_path, exact_percentiles=True)
    for kept in (len(lines), len(lines) // 2):
        (tmp_path / "points.json").write_text("".join(lines[:kept]))
        k6.says(summary=str(DATA / "k6" / "points-summary.json"), points=str(tmp_path / "points.json"))
        assert k6.play(request)[0] == 0
        if kept == len(lines):
            result = read(request)
            assert (result.requests, result.failures, len(result.latencies_ms)) == (16, 4, 12)
            assert result.facts["source"] == "points"
            continue
        with pytest.raises(LoadFailed, match=r"k6-points\.json holds \d+ of 16 requests: it is not whole"):
            read(request)


@pytest.mark.parametrize(
    ("options", "source", "schedule", "deadline_s"),
    [
        ({}, "summary", "contract", 5.0),
        ({"scenarios": {"default": {"executor": "per-vu-iterations", "vus": None}}}, "summary", "contract", 5.0),
        ({"scenarios": {"default": {"executor": "constant-vus", "vus": 3}}}, "points", "script", 90.0),
        ({"scenarios": {"mine": {"executor": "constant-vus", "vus": None}}}, "points", "script", 90.0),
        ({"stages": [{"duration": "1s"}]}, "points", "script", 90.0),
        ({"vus": 3, "duration": "5s"}, "points", "script", 90.0),
        ({"iterations": 5}, "points", "script", 90.0),
        ({"thresholds": {"http_req_duration": ["p(95)<1"]}}, "points", "contract", 5.0),
    ],
    ids=str,
)
def test_what_a_script_decides_itself(
    k6: FakeK6, tmp_path: Path, options: dict[str, Any], source: str, schedule: str, deadline_s: float
) -> None:
    """SM-08: its own schedule is kept; and where the summary cannot leave out the warm-up, raw points are read."""
    k6.says(options={"scenarios": None, "totalDuration": "1m30s", **options})
    request = scripted(tmp_path, warm_up_s=1.0)
    built = K6Tool().build_command(request)
    plan = json.loads((request.folder / "load-plan.json").read_text())
    config = json.loads((request.folder / "k6-config.json").read_text())
    assert plan["notes"] == {"source": source, "schedule": schedule}
    assert ("--out" in plan["phases"][0]["argvs"][0]) == (source == "points")
    assert bool(config) == (schedule == "contract")
    assert built.deadline_s > deadline_s
    assert plan["phases"][0]["argvs"][0][-1] == str(tmp_path / "mine.js")


NOT_UNDERSTOOD = [{"totalDuration": "soon", "vus": 1}, {"scenarios": [1]}, {"scenarios": {"default": 1}}]


@pytest.mark.parametrize("options", NOT_UNDERSTOOD)
def test_an_answer_that_is_not_understood(k6: FakeK6, tmp_path: Path, options: dict[str, Any]) -> None:
    k6.says(options=options)
    with pytest.raises(LoadFailed, match=r"k6 inspect mine\.js said nothing that is understood"):
        K6Tool().build_command(scripted(tmp_path))


def test_a_script_that_k6_cannot_read(k6: FakeK6, tmp_path: Path) -> None:
    """SM-08: found before any load, in k6's own words."""
    k6.says(inspect_status=107, complaint="SyntaxError: mine.js: Unexpected token (3:4)")
    with pytest.raises(LoadFailed, match=r"^k6 cannot read mine\.js: SyntaxError: mine\.js: Unexpected token"):
        K6Tool().build_command(scripted(tmp_path))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("k6 v0.42.0 (2023)", r"k6 is 0\.42\.0, and 0\.43 or newer is needed"),
        ("k6 v0.43.0", None),
        ("k6 v2.3.1 (commit/x, go1.26)", None),
        ("k6 (devel)", "says no version: 'k6 \\(devel\\)'"),
        ("", "says no version"),
    ],
)
def test_versions(k6: FakeK6, said: str, expected: str | None) -> None:
    """SM-08: an unsupported version has an error of its own."""
    k6.says(version=said)
    if expected is None:
        assert K6Tool().version() in said
        return
    with pytest.raises(ToolUnsupported, match=expected):
        K6Tool().version()


def test_a_program_that_does_not_run(k6: FakeK6, tmp_path: Path) -> None:
    (tmp_path / "bin" / "k6").write_bytes(b"\x7fELF no program")
    with pytest.raises(ToolMissing, match="does not run"):
        K6Tool().version()


def test_a_window_that_is_too_short(k6: FakeK6, tmp_path: Path) -> None:
    """SM-08: k6 takes no shorter scenario, which is said before anything runs."""
    with pytest.raises(LoadUnfit, match=r"^k6 makes load of at least 1 s, and load.duration_s is 0\.5"):
        K6Tool().build_command(scripted(tmp_path, duration_s=0.5))


def test_rates_that_are_no_whole_numbers(k6: FakeK6, tmp_path: Path) -> None:
    """SM-08: k6 takes whole iterations per time unit."""
    K6Tool().build_command(scripted(tmp_path, shape=LoadShape.OPEN, rate=12.5, users=7, warm_up_s=2.0))
    scenarios = json.loads((tmp_path / "cell" / "k6-config.json").read_text())["scenarios"]
    for scenario in scenarios.values():
        assert (scenario["rate"], scenario["timeUnit"], scenario["maxVUs"]) == (25, "2s", 7)
    assert scenarios["measured"]["startTime"] == scenarios["warm_up"]["duration"] == "2000ms"
