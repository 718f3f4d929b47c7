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
    DEADLINE_S,
    cell_ids,
    end_processes,
    folder_of,
    make_small,
    marked_processes,
    read_aggregate,
    run_pytest,
    started_campaign,
)

from pytest_staging import store
from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.session.progress import read_phases

RUNS = 2
PHASES = ("lease", "build", "start", "warm_up", "load", "drain", "stop")
VICTIMS = ("controller", "worker", "service", "tool")
MAX_RESUMES = 3
# A campaign of four short cells; longer means that it hangs.
ROUND_S = DEADLINE_S


def crash_and_resume(root: Path, seed: int) -> str:
    """One round: what was killed, when, and that the campaign is whole afterwards. Raises AssertionError."""
    rng = random.Random(seed)
    victim = VICTIMS[seed % len(VICTIMS)]
    instant = rng.randrange(1, RUNS * 2 * len(PHASES) - 4)  # up to the start of the last cell
    locust = seed // len(VICTIMS) % 2 == 0
    make_small(root, duration_s=1.0 if locust else 0.2, locust=locust)
    arguments = ["--runs", str(RUNS), "-v", *(["-n", "1"] if victim == "worker" or rng.random() < 0.3 else [])]
    with started_campaign(root, *arguments) as process:
        phase = await_instant(root, process, instant)
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


def await_instant(root: Path, process: subprocess.Popen[str], instant: int) -> str:
    """Until the campaign is in that phase, counted over all its cells, or beyond it; the phase, or `nothing`."""
    seen, reached = "nothing", 0
    until = time.monotonic() + ROUND_S
    while reached < instant and process.poll() is None:
        for phase in read_phases(folder_of(root)):
            cells = cell_ids(root)
            seen = f"{phase.cell_id} {phase.name}"
            reached = cells.index(phase.cell_id) * len(PHASES) + PHASES.index(phase.name)
        assert time.monotonic() < until, "the campaign stands still"
        time.sleep(0.001)
    return seen


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
    return any(mark in environ_of(pid) for mark in (b"STAGING_LOAD_PLAN=", b"STAGING_LOAD_REQUEST="))


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
        recorded = [folder / summary.cell.folder / name for name in ("requests.csv", "load-result.json")]
        assert any(path.is_file() for path in recorded), story
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
