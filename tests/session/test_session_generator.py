"""Load generators that are the bottleneck, for real: their cells are invalid, and `calibrate` finds more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running import environment, make_small, read_aggregate, read_summaries, run_campaign
from workspaces import CALM, make_version, write_benchmark

from pytest_staging import store, wiring
from pytest_staging.campaign import noise
from pytest_staging.cli import main
from pytest_staging.targets import procfs

NOTHING = """
import asyncio, os, socket, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pytest_staging.loadtools.null_responder import serve
asyncio.run(serve(socket.create_server((os.environ["STAGING_HOST"], int(os.environ["STAGING_PORT"])), backlog=1024)))
"""


LOW = {"cpu_share": 0.4, "wait_share": 0.3}


def make_nothing(root: Path, **load: Any) -> Path:
    """A workspace whose versions do nothing, as fast as they can."""
    make_small(root)
    for slug, status in (("baseline", "baseline"), ("faster", "candidate")):
        make_version(root, slug, status, NOTHING)
    given = {"shape": "closed", "users": 1, "warm_up_s": 0.2, "duration_s": 1.0, "generator_limits": CALM, **load}
    write_benchmark(root, platform_modes=["native"], load=given)
    return root


def reasons(root: Path) -> list[str]:
    summaries = read_summaries(root).values()
    assert {one["outcome"] for one in summaries} == {"invalid"}, summaries
    return [one["reason"] for one in summaries]


def test_a_saturated_generator_is_found_out(tmp_path: Path) -> None:
    """XP-06: its cells are invalid, with what was measured and the reason; no verdict is drawn from them."""
    root = make_nothing(tmp_path / "w", users=50, duration_s=2.0, generator_limits=LOW)
    result = run_campaign(root)
    assert result.returncode == 1, result.stdout
    assert all(re.search(r"the load generator was (saturated|starved)", reason) for reason in reasons(root))
    assert "invalid: the load generator was" in result.stdout
    aggregate = read_aggregate(root)
    assert not aggregate["complete"]
    assert {one["reason"].split(":")[0] for one in aggregate["missing"] if one["metric"] is None} == {"invalid"}
    summary = next(iter(read_summaries(root).values()))
    assert summary["load_tool"]["cpus"] > 0.4 or summary["load_tool"]["cpu_wait"] > 0.3
    assert summary["metrics"]["p95"] > 0, "what was measured is kept"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, Any]]:
    """A workspace, the environment that knows the calibration, and the calibration."""
    root = make_nothing(tmp_path_factory.mktemp("calibrated") / "w")
    env = {"STAGING_STATE_FOLDER": str(root / "state")}
    command = [sys.executable, "-m", "pytest_staging", "calibrate", "--duration", "1", "--json"]
    done = subprocess.run(command, cwd=root, env=environment(root, **env), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return root, env, json.loads(done.stdout)


def test_calibrate(calibrated: tuple[Path, dict[str, str], dict[str, Any]]) -> None:
    """XP-06: floor and capacity of the benchmark's tool on this machine, kept outside of the workspace."""
    root, _, found = calibrated
    assert found["tool"] == "locust"
    assert 0 < found["floor_ms"]["p50"] <= found["floor_ms"]["p95"] <= found["floor_ms"]["p99"]
    assert found["capacity_rps"] > 20
    assert json.loads((root / "state" / "calibration-locust.json").read_text()) == found


def test_a_busy_machine_is_not_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """XP-06: what others took of the machine would be stored as the tool's own; the one before is kept."""
    root = make_nothing(tmp_path / "w", generator_limits={"wait_share": 1e-9})
    monkeypatch.setenv("STAGING_STATE_FOLDER", str(tmp_path / "state"))
    monkeypatch.setenv("STAGING_LEASE_FOLDER", str(tmp_path / "lease"))
    monkeypatch.setattr(procfs, "machine_busy_seconds", lambda: 1000 * time.monotonic())
    assert main(["--root", str(root), "calibrate", "--duration", "1"]) == 1
    assert "the machine was busy" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_latencies_within_the_floor(calibrated: tuple[Path, dict[str, str], dict[str, Any]]) -> None:
    """XP-06: a service that cannot be told from nothing is neither fast nor slow."""
    root, env, _ = calibrated
    path = root / "state" / "calibration-locust.json"
    data = json.loads(path.read_text())
    # Whatever else the machine does by now, its latencies are below that.
    floor = {name: 1000 * value for name, value in data["floor_ms"].items()}
    path.write_text(json.dumps({**data, "capacity_rps": 1e9, "floor_ms": floor}))
    result = run_campaign(root, env=env)
    assert result.returncode == 1, result.stdout
    assert all("lies within the load tool's own floor" in reason for reason in reasons(root))
    path.write_text("{")
    result = run_campaign(root, campaign_id="d", env=env)
    assert result.returncode == 2, result.stdout
    assert "staging-manager calibrate --tool locust" in result.stdout


def test_noise_of_a_service_of_ones_own(tmp_path: Path) -> None:
    """XP-06: `calibrate --noise` measures equal cells of the user's service, and names what the tool cannot tell.

    The benchmark's own tool is another one, with a script that wrk could not run.
    """
    root = make_small(tmp_path / "w", duration_s=1.0)
    given = ["calibrate", "--noise", "--cells", "4", "--tool", "wrk", "--mode", "native", "--json"]
    command = [sys.executable, "-m", "pytest_staging", *given]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {one["metric"] for one in found["noise"]} == {"p95", "throughput"}
    assert all(0 < one["deviation"] < 5 for one in found["noise"])
    assert found["warm_up_s"] is None
    assert (found["cells"], found["cells_invalid"], found["proposal"]) == (4, 0, None)
    assert "does not tell when each request was sent" in found["no_proposal"]
    assert not (root / "campaigns").exists() or list((root / "campaigns").iterdir()) == []
    for bad in (["--cells", "3"], ["--mode", "jmv"], ["--version", "bazeline"], ["--duration", "2"]):
        done = subprocess.run([*command, *bad], cwd=root, env=environment(root), capture_output=True, timeout=300)
        assert done.returncode == 2


@pytest.mark.parametrize("flag", ["--version", "--mode", "--cells"])
def test_what_goes_with_noise_only(tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """XP-06: an option that would change nothing is refused."""
    root = make_small(tmp_path / "w")
    assert main(["--root", str(root), "calibrate", flag, "20"]) == 2
    assert f"{flag} goes with --noise" in capsys.readouterr().err


def test_the_warm_up_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XP-06: one long cell from the first request on says when a fresh service is steady."""
    root = make_small(tmp_path / "w", duration_s=1.0, locust=True)
    monkeypatch.setenv("STAGING_LEASE_FOLDER", str(tmp_path / "lease"))
    monkeypatch.setattr(noise, "LONG_S", 12.0)
    path = root / "benchmark" / "benchmark.yaml"
    benchmark = store.load_benchmark(path, str(path), required_modes=())
    workspace, tool = store.Workspace(root), wiring.make_load_tool("locust")
    campaign = noise.make_study(store.load_version(workspace, "baseline"), "native", 4, benchmark, path, tool)
    runner = wiring.runner_of(workspace, campaign, benchmark, path.parent, tmp_path / "study", lambda *_: None)
    study = noise.Study(runner, lambda line: None)
    steady_s = study.warm_up_s()
    assert steady_s is None or 10.0 <= steady_s <= 12.0
    cells, other_s = study.measure()
    assert len(cells) == 4
    assert other_s > 0
    halves = study.halves(cells)
    assert halves is not None
    assert all(first and second for first, second in halves)
