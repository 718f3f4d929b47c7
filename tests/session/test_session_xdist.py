"""With pytest-xdist: the same campaign, one cell at a time on a host, and no loss when a worker dies."""

from __future__ import annotations

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import (
    DEADLINE_S,
    await_phase,
    cell_ids,
    folder_of,
    make_small,
    marked_processes,
    read_aggregate,
    read_campaign,
    read_summaries,
    run_campaign,
    started_campaign,
)

# As many workers as the user asked for, whatever the number of hosts: then only the lease keeps their cells apart.
MORE_HOSTS = "from pytest_staging.session.controller import Controller\nController.slots = 2\n"
MEASURED = ("metrics", "phases", "started_at", "finished_at")


def test_a_run_with_workers_writes_what_a_serial_run_writes(campaigns):
    """PT-04: the same files with the same content, but for measured values and instants."""
    serial, workers = (campaigns[name] for name in ("serial", "n2"))
    assert files_of(serial.folder) == files_of(workers.folder)
    assert stable(read_campaign(serial.root)) == stable(read_campaign(workers.root))
    ours, theirs = read_summaries(serial.root), read_summaries(workers.root)
    assert list(ours) == list(theirs)
    assert [stable(one) for one in ours.values()] == [stable(one) for one in theirs.values()]
    keys = [[{k: row[k] for k in ("candidate_slug", "platform_mode", "metric", "unit")} for row in one["rows"]]
            for one in (read_aggregate(serial.root), read_aggregate(workers.root))]
    assert keys[0] == keys[1]
    assert read_aggregate(serial.root)["missing"] == read_aggregate(workers.root)["missing"]


def files_of(folder):
    """Every file of a campaign, relative to its folder; locks aside, which only some file systems leave behind."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


def stable(data):
    """Without what is measured, and without the workspace's own path."""
    kept = {key: value for key, value in data.items() if key not in (*MEASURED, "created_at", "benchmark_path")}
    if "load_tool" in kept:
        measured = ("requests", "cpus", "cpu_wait")
        kept["load_tool"] = {key: value for key, value in kept["load_tool"].items() if key not in measured}
    if "host" in kept:
        kept["host"] = {key: value for key, value in kept["host"].items() if key != "load_average_1min"}
    return kept


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Campaigns for which the user asked for workers: by `auto` and by number."""
    folder = tmp_path_factory.mktemp("asked")

    def finish(workers):
        root = make_small(folder / workers)
        return root, run_campaign(root, "-n", workers)

    with ThreadPoolExecutor() as pool:
        return dict(zip(("auto", "4"), pool.map(finish, ("auto", "4")), strict=True))


@pytest.mark.parametrize("workers", ["auto", "4"])
def test_there_are_as_many_workers_as_hosts(asked, workers):
    """PT-04: -n auto and -n 4 give one worker on one host, and the cells of a serial run in its order."""
    root, result = asked[workers]
    assert result.returncode == 0, result.stdout
    assert "1 worker [2 items]" in result.stdout
    assert list(read_summaries(root)) == cell_ids(root)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A campaign of four blocks over two real workers on one host."""
    root = make_small(tmp_path_factory.mktemp("two") / "w", duration_s=0.2)
    (root / "conftest.py").write_text(MORE_HOSTS)
    return root, run_campaign(root, "-n", "2", "--runs=4")


def test_the_lease_keeps_cells_of_two_workers_apart(two_workers):
    """PT-04: two workers on one host never measure at once, and a block's cells stay back to back in one worker."""
    root, result = two_workers
    assert result.returncode == 0, result.stdout
    assert "2 workers" in result.stdout
    summaries = read_summaries(root)
    assert sorted(summaries) == sorted(cell_ids(root))
    assert_apart([(one["started_at"], one["finished_at"]) for one in summaries.values()])
    ran, planned = list(summaries), cell_ids(root)
    assert sorted(zip(ran[::2], ran[1::2], strict=True)) == sorted(zip(planned[::2], planned[1::2], strict=True))


def assert_apart(intervals):
    """No two intervals overlap."""
    ordered = sorted(intervals)
    for earlier, later in itertools.pairwise(ordered):
        assert earlier[1] <= later[0], f"{earlier} and {later} overlap"


def worker_pids(controller: int) -> list[int]:
    """The controller's child processes that are pytest workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == controller:
                found.append(int(entry.name))
    return found


@dataclass(frozen=True)
class Kill:
    """How a campaign ended in which a worker was killed in the middle of cell `running`."""

    root: Path
    running: str
    code: int
    output: str
    left: list[int]


# Workers, runs, and whose cell is hit: with others to follow, with a second worker at hand, and at the very end.
KILLS = {"replaced": ("1", "2", "baseline"), "shared": ("2", "2", "baseline"), "last": ("1", "1", "faster")}


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    """Each of KILLS, side by side."""
    folder = tmp_path_factory.mktemp("kills")

    def finish(name):
        workers, runs, slug = KILLS[name]
        # Long enough to be hit, however late that is noticed here.
        root = make_small(folder / name, duration_s=3.0)
        (root / "conftest.py").write_text(MORE_HOSTS)
        with started_campaign(root, "-n", workers, "--runs", runs, "--staging-order=fixed") as process:
            await_phase(root, process, slug, "load")
            running = (folder_of(root) / ".phase").read_text().split()[0]
            (holder,) = [pid for pid in worker_pids(process.pid) if owns_service(pid)]
            os.kill(holder, signal.SIGKILL)
            code = process.wait(DEADLINE_S)
            left = marked_processes(root)
        return Kill(root, running, code, (root / "output.txt").read_text(), left)

    with ThreadPoolExecutor() as pool:
        return dict(zip(KILLS, pool.map(finish, KILLS), strict=True))


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_worker_costs_one_cell(kills, name):
    """PT-04: SIGKILL of a worker in mid-cell fails that cell once, all others are measured, and no process is left."""
    kill = kills[name]
    assert kill.code == 1, kill.output
    summaries = read_summaries(kill.root)
    assert sorted(summaries) == sorted(cell_ids(kill.root)), kill.output
    assert [cell for cell, one in summaries.items() if one["outcome"] == "failed"] == [kill.running]
    assert "crashed" in summaries[kill.running]["reason"]
    missing = read_aggregate(kill.root)["missing"]
    assert [one["cell"] for one in missing if one["metric"] is None] == [kill.running]
    assert kill.left == [], "the killed worker's service or load tool still runs"


def owns_service(worker: int) -> bool:
    """Whether one of the worker's children is a service or load tool of a cell."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                marked = b"STAGING_LEASE=" in (entry / "environ").read_bytes()
            except OSError:
                continue
            if parent == worker and marked:
                return True
    return False


def test_two_campaigns_on_one_host_take_turns(tmp_path):
    """PT-04: campaigns started side by side share the host's lease: their blocks never overlap."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    ids = ("one", "two")
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda name: run_campaign(root, "--runs=2", campaign_id=name), ids))
    assert [one.returncode for one in results] == [0, 0], [one.stdout for one in results]
    blocks = []
    for name in ids:
        ran = list(read_summaries(root, name).values())
        blocks += [(ran[i]["started_at"], ran[i + 1]["finished_at"]) for i in (0, 2)]
    assert_apart(blocks)
