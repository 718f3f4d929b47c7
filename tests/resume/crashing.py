"""Killing parts of a running campaign, and what must hold once it was resumed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from running import (
    end_processes,
    folder_of,
    make_small,
    marked_processes,
    read_aggregate,
    run_pytest,
    started_campaign,
)
from workspaces import CALM, write_benchmark

from pytest_staging import store
from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.campaign.planning import load_pinned_benchmark

RUNS = 2
# lease, build, start, warm_up, load, drain, stop: for each cell; the lease once per block.
PHASE_CHANGES = RUNS * 2 * 6
VICTIMS = ("controller", "worker", "service", "tool")
MAX_RESUMES = 3
# A campaign of four short cells; longer means that it hangs.
ROUND_S = 60.0
LOAD = {"shape": "closed", "users": 1, "warm_up_s": 0.0, "duration_s": 0.2, "generator_limits": CALM}


def make_crash_site(root: Path) -> Path:
    """One mode, two versions, the shortest load."""
    make_small(root, duration_s=0.2)
    write_benchmark(root, platform_modes=["native"], load=LOAD)
    return root


def crash_and_resume(root: Path, seed: int) -> str:
    """One round: what was killed, when, and that the campaign is whole afterwards. Raises AssertionError."""
    rng = random.Random(seed)
    victim = VICTIMS[seed % len(VICTIMS)]
    instant = rng.randrange(1, PHASE_CHANGES)
    make_crash_site(root)
    arguments = ["--runs", str(RUNS), "-v", *(["-n", "1"] if victim == "worker" or rng.random() < 0.3 else [])]
    with started_campaign(root, *arguments) as process:
        phase = await_changes(root, process, instant)
        killed = kill(root, process, victim, rng)
        if victim == "controller":
            process.wait(ROUND_S)
        else:
            await_end(process)
        before = passed_cells(root)
    passed = sum(path.name == "cell-summary.json" and path.parent.parent.parent.name == "runs" for path in before)
    story = f"seed {seed}: {victim} ({killed}) in {phase}, {passed} cells passed before"
    resumes, output = 0, ""
    while not is_whole(root):
        resumes += 1
        assert resumes <= MAX_RESUMES, f"{story}: not whole after {MAX_RESUMES} resumes\n{output}"
        output = run_pytest(root, "--staging-campaign", "--staging-resume=c", "--staging-retry-failed", "-v").stdout
        assert "INTERNALERROR" not in output, f"{story}\n{output}"
    assert_whole(root, before, story)
    return f"{story}, {resumes} resumes"


def await_changes(root: Path, process: subprocess.Popen[str], count: int) -> str:
    """Until the campaign changed its phase so many times; the phase, or that it ended first."""
    path, seen, changes = folder_of(root) / ".phase", "", 0
    until = time.monotonic() + ROUND_S
    while changes < count and process.poll() is None:
        try:
            text = path.read_text()
        except FileNotFoundError:
            text = ""
        if text and text != seen:
            seen, changes = text, changes + 1
        assert time.monotonic() < until, "the campaign stands still"
        time.sleep(0.001)
    return " ".join(seen.split()[:2]) or "nothing"


def await_end(process: subprocess.Popen[str]) -> None:
    """The campaign goes on without what was killed, and ends by itself."""
    assert process.wait(ROUND_S) in (0, 1), "the campaign did not end as a campaign with a failed cell does"


def kill(root: Path, process: subprocess.Popen[str], victim: str, rng: random.Random) -> str:
    """SIGKILL to one part, as soon as it is there; says what was hit, or that the campaign ended before."""
    def find() -> list[int]:
        if victim == "controller":
            return [process.pid]
        if victim == "worker":
            return children(process.pid)
        wanted: Callable[[int], bool] = is_tool if victim == "tool" else is_service
        return [pid for pid in marked_processes(root) if wanted(pid)]

    until = time.monotonic() + ROUND_S
    while not (pids := find()) and process.poll() is None:
        assert time.monotonic() < until, f"no {victim} in {ROUND_S:g} s"
    if not pids:
        return "not there any more"
    pid = rng.choice(pids)
    end_processes([pid])
    return f"pid {pid}"


def children(pid: int) -> list[int]:
    """Direct children: of a controller with -n these are its workers."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def environ_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def is_tool(pid: int) -> bool:
    return b"STAGING_LOAD_PLAN=" in environ_of(pid)


def is_service(pid: int) -> bool:
    return b"STAGING_CELL=" in environ_of(pid)


def passed_cells(root: Path) -> dict[Path, bytes]:
    """Every file of each cell that is passed."""
    found = {}
    for path in folder_of(root).glob("runs/*/*/cell-summary.json"):
        if json.loads(path.read_text())["outcome"] == "passed":
            found |= {one: one.read_bytes() for one in path.parent.rglob("*") if one.is_file()}
    return found


def is_whole(root: Path) -> bool:
    """Every cell passed, and the aggregate is there."""
    folder = folder_of(root)
    if not (folder / "aggregate-comparison.json").is_file():
        return False
    campaign = store.load_campaign(folder)
    summaries = list(store.load_summaries(folder, campaign))
    return len(summaries) == len(campaign.cells) and all(one.passed for one in summaries)


def assert_whole(root: Path, before: dict[Path, bytes], story: str) -> None:
    """Every cell once and whole, finished ones untouched, nothing half written, no process, the right aggregate."""
    folder = folder_of(root)
    campaign = store.load_campaign(folder)
    homes = {str(path.parent.relative_to(folder)) for path in folder.glob("runs/*/*/cell-summary.json")}
    assert homes == {cell.folder for cell in campaign.cells}, story
    assert {str(path.relative_to(folder)) for path in folder.glob("runs/*/*")} == homes, story
    for summary in store.load_summaries(folder, campaign):
        kept = list((folder / summary.cell.folder / "attempts").glob("*"))
        assert sorted(path.name for path in kept) == [f"{number:02d}" for number in range(1, summary.attempt)], story
        assert all(any(path.iterdir()) for path in kept), story
        assert (folder / summary.cell.folder / "requests.csv").is_file(), story
    changed = [path for path, content in before.items() if not path.is_file() or path.read_bytes() != content]
    assert changed == [], story
    halves = [path for path in root.rglob("*") if ".tmp" in path.name or path.name.startswith(".phase")]
    assert halves == [], story
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    benchmark = load_pinned_benchmark(folder, campaign)
    computed = build_aggregate(campaign, benchmark, store.load_summaries(folder, campaign))
    assert json.loads(json.dumps(computed)) == read_aggregate(root), story
    assert marked_processes(root) == [], story


def rounds() -> int:
    """STAGING_CRASH_ROUNDS, or few enough for every test run."""
    return int(os.environ.get("STAGING_CRASH_ROUNDS", "8"))
