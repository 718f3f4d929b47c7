"""A warm-up that lasts until the service is steady, with a real service that gets faster at a known instant."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import folder_of, make_small, read_campaign, read_summaries, run_campaign
from workspaces import CALM, SERVICE, make_version, write_benchmark

WINDOW_S = 1.0
# Slow for its first two seconds under load, and ever less so, as a JIT does it.
WARMING = SERVICE.replace("DELAY_S = 0.0", "BEGAN = None").replace(
    "time.sleep(DELAY_S)",
    "global BEGAN; BEGAN = BEGAN or time.monotonic()\n"
    "        time.sleep(max(0.03, 0.2 * (1 - (time.monotonic() - BEGAN) / 2)))",
)
# Never the same for long.
RESTLESS = SERVICE.replace("time.sleep(DELAY_S)", "time.sleep(0.02 * 1.6 ** (int(time.monotonic() / 0.25) % 7))")


def make_warming(root: Path, service: str, max_s: float) -> Path:
    make_small(root)
    for slug, status in (("baseline", "baseline"), ("faster", "candidate")):
        make_version(root, slug, status, service)
    warm_up = {"until": "steady", "max_s": max_s, "window_s": 0.25, "windows": 4, "tolerance": 0.3}
    load = {"shape": "closed", "users": 2, "duration_s": WINDOW_S, "generator_limits": CALM, "warm_up": warm_up}
    write_benchmark(root, platform_modes=["native"], load=load)
    return root


def test_the_window_begins_when_the_service_is_steady(tmp_path: Path) -> None:
    """XP-06: the warm-up is as long as it must be, recorded, and nothing of it is in the result."""
    root = make_warming(tmp_path / "w", WARMING, max_s=30.0)
    result = run_campaign(root)
    assert result.returncode in (0, 1), result.stdout
    for one in read_summaries(root).values():
        assert one["outcome"] == "passed", one
        assert one["load_tool"]["steady"] is True
        assert 2.0 < one["load_tool"]["warm_up_s"] < 29.0
        folder = folder_of(root) / "runs" / "run-001" / f"{one['version_slug']}__native"
        begun_s = float((folder / "load-ready").read_text()) + one["load_tool"]["warm_up_s"]
        rows = (folder / "requests.csv").read_text().splitlines()[1:]
        within = [row for row in rows if begun_s <= float(row.split(",")[0]) < begun_s + WINDOW_S]
        # The instant is recorded to the millisecond.
        assert 0 < one["load_tool"]["requests"] == pytest.approx(len(within), abs=2), "the slow beginning is not in it"
        assert len(rows) > len(within) + 2


def test_a_service_that_never_gets_steady(tmp_path: Path) -> None:
    """XP-06: is measured after the longest warm-up, and its cell says so."""
    root = make_warming(tmp_path / "w", RESTLESS, max_s=4.0)
    result = run_campaign(root)
    assert result.returncode in (0, 1), result.stdout
    for one in read_summaries(root).values():
        assert one["load_tool"] | {"steady": False, "warm_up_s": 4.0} == one["load_tool"], one
    assert "not steady after 4 s" in result.stdout


def test_tools_that_tell_nothing_while_they_run(tmp_path: Path) -> None:
    """XP-06: such a warm-up is refused for them before anything runs, and in a smoke campaign it is short."""
    root = make_warming(tmp_path / "w", SERVICE, max_s=30.0)
    result = run_campaign(root, "--staging-smoke", campaign_id="s")
    assert "steady" not in next(iter(read_summaries(root, "s").values()))["load_tool"]
    assert read_campaign(root, "s")["smoke"]
    path = root / "benchmark" / "benchmark.yaml"
    path.write_text(path.read_text().replace("load:\n", "load:\n  tool: wrk\n"))
    result = run_campaign(root)
    assert result.returncode == 2
    assert "wrk does not tell latencies while it runs" in result.stdout
