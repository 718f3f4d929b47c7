"""--staging-resume and --staging-retry-failed: what runs, what is kept, what is refused."""

from __future__ import annotations

import json

import pytest
from crafted import fill, passing, plan, without
from filelock import FileLock
from running import folder_of, read_aggregate, read_summaries, run_pytest
from workspaces import SERVICE, make_version, write_benchmark

GONE = "run002-native-faster"


def resume(root, *arguments, campaign_id="c"):
    return run_pytest(root, "--staging-campaign", f"--staging-resume={campaign_id}", *arguments)


def files_of(root):
    """Every file of the campaign below runs/, with its content and the instant of its last change."""
    paths = [path for path in folder_of(root).glob("runs/**/*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def make_cut_off(root, fate=None, runs=2):
    """A campaign in which one cell is left to run, unless `fate` says otherwise."""
    return fill(root, plan(root, runs=runs), fate or without(passing, GONE))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_finished_cells_are_not_run_again(tmp_path, workers):
    """XP-03: finished cells are reported as such and their files keep every byte; the missing cell is run."""
    root = tmp_path / "w"
    make_cut_off(root)
    before = files_of(root)
    result = resume(root, "-v", "-rs", *workers)
    assert result.returncode == 0, result.stdout
    assert "4 cells, 3 finished before" in result.stdout
    assert "finished before, in attempt 1" in result.stdout
    assert result.stdout.count("PASSED") == 1
    after = files_of(root)
    assert {path: after[path] for path in before} == before
    measured = [cell_id for cell_id, one in read_summaries(root).items() if one["phases"]]
    assert measured == [GONE]
    assert read_aggregate(root)["complete"] is True


def test_what_an_interrupted_attempt_left_is_kept(tmp_path):
    """XP-03: logs of an attempt that never ended go to attempts/01, and the cell is attempt 2."""
    root = tmp_path / "w"
    campaign = make_cut_off(root)
    home = folder_of(root) / next(cell for cell in campaign.cells if cell.cell_id == GONE).folder
    home.mkdir(parents=True)
    (home / "service.log").write_text("half a lo")
    assert resume(root).returncode == 0
    assert (home / "attempts" / "01" / "service.log").read_text() == "half a lo"
    assert json.loads((home / "cell-summary.json").read_text())["attempt"] == 2
    assert (home / "service.log").read_text() != "half a lo"


def test_a_failed_cell_is_finished_too(tmp_path):
    """XP-03: without --staging-retry-failed a failed cell stays as it is and fails with its reason again."""
    root = tmp_path / "w"
    make_cut_off(root, without(passing, GONE, 0.0))
    before = files_of(root)
    result = resume(root)
    assert result.returncode == 1
    assert f"{GONE}: failed before, in attempt 1: the service died" in result.stdout
    assert files_of(root) == before


def test_retry_runs_failed_cells_only_and_keeps_the_attempt(tmp_path):
    """XP-03: --staging-retry-failed runs the failed cell, keeps its first attempt, and touches no passed one."""
    root = tmp_path / "w"
    campaign = make_cut_off(root, without(passing, GONE, 0.0))
    home = folder_of(root) / next(cell for cell in campaign.cells if cell.cell_id == GONE).folder
    failed = (home / "cell-summary.json").read_bytes()
    before = {path: state for path, state in files_of(root).items() if home not in path.parents}
    result = resume(root, "--staging-retry-failed", "-v")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("PASSED") == 1
    assert (home / "attempts" / "01" / "cell-summary.json").read_bytes() == failed
    summary = json.loads((home / "cell-summary.json").read_text())
    assert (summary["outcome"], summary["attempt"]) == ("passed", 2)
    after = files_of(root)
    assert {path: after[path] for path in before} == before
    assert read_aggregate(root)["cells_passed"] == 4


def test_a_failure_that_was_not_tried_again_stays_in_the_aggregate(tmp_path):
    """XP-03: the aggregate equals the cells on disk, also when a retry was selected away."""
    root = tmp_path / "w"
    make_cut_off(root, without(passing, GONE, 0.0))
    assert resume(root, "--staging-retry-failed", "-k", "run001").returncode == 0
    assert read_aggregate(root)["missing"][-1] == {"cell": GONE, "metric": None, "reason": "the service died"}


def test_retry_goes_with_resume(tmp_path):
    """XP-03: --staging-retry-failed alone is a usage error, and nothing is made."""
    root = tmp_path / "w"
    make_cut_off(root)
    result = run_pytest(root, "--staging-campaign", "--staging-retry-failed", "--campaign-id=d")
    assert result.returncode == 2
    assert "--staging-retry-failed goes with --staging-resume ID" in result.stdout
    assert not folder_of(root, "d").exists()


def change_benchmark(root):
    write_benchmark(root, duration_s=0.3, platform_modes=["native"])


def change_pinned(name):
    def change(root):
        path = folder_of(root) / "benchmark" / name
        path.write_text(f"{path.read_text()}\n")
    return change


def leave(root):
    """Nothing on disk changes."""


REFUSED = {
    "benchmark": (change_benchmark, (), ["benchmark/benchmark.yaml changed"]),
    "payload": (lambda root: (root / "benchmark/payloads/echo.json").write_text("[]"), (),
                ["benchmark/payloads/echo.json changed"]),
    "payload gone": (lambda root: (root / "benchmark/payloads/echo.json").unlink(), (),
                     ["benchmark/payloads/echo.json is gone"]),
    "candidate": (lambda root: make_version(root, "faster", "candidate", SERVICE + "\n"), (),
                  ["versions/faster/snapshot changed"]),
    "baseline": (lambda root: make_version(root, "baseline", "baseline", SERVICE + "\n"), (),
                 ["versions/baseline/snapshot changed"]),
    "pinned benchmark": (change_pinned("benchmark.yaml"), (), ["cannot change within a campaign", "benchmark.yaml"]),
    "pinned payload": (change_pinned("payloads/echo.json"), (), ["cannot change within a campaign", "echo.json"]),
    "seed": (leave, ("--staging-seed=8",), ["--staging-seed 8: the campaign has 7"]),
    "runs": (leave, ("--runs=3",), ["--runs 3: the campaign has 2"]),
    "runs auto": (leave, ("--runs=auto",), ["--runs auto: the campaign has 2"]),
    "order": (leave, ("--staging-order=fixed",), ["--staging-order fixed: the campaign has balanced"]),
    "candidate option": (leave, ("--candidate=slower",), ["--candidate slower: the campaign has faster"]),
    "baseline option": (leave, ("--baseline=slower",), ["--baseline slower: the campaign has baseline"]),
    "id": (leave, ("--campaign-id=d",), ["--campaign-id d: the campaign has c"]),
    "smoke": (leave, ("--staging-smoke",), ["the campaign is no smoke campaign"]),
    "several": (change_benchmark, ("--runs=3", "--staging-seed=8"),
                ["benchmark.yaml changed", "--runs 3", "--staging-seed 8"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_campaign_that_is_no_longer_the_same_is_not_resumed(tmp_path, name):
    """SM-11: a resume with another benchmark, snapshot, seed or matrix ends with 2 and names what differs."""
    root = tmp_path / "w"
    make_cut_off(root)
    change, arguments, words = REFUSED[name]
    change(root)
    before = files_of(root)
    result = resume(root, *arguments)
    assert result.returncode == 2, result.stdout
    for word in words:
        assert word in result.stdout
    assert files_of(root) == before
    assert not (folder_of(root) / "aggregate-comparison.json").exists()


def test_the_same_options_again_are_no_difference(tmp_path):
    """XP-03: options that say what the campaign has are accepted beside --staging-resume."""
    root = tmp_path / "w"
    make_cut_off(root, passing)
    same = ("--runs=2", "--staging-seed=7", "--staging-order=balanced", "--baseline=baseline", "--candidate=faster",
            "--campaign-id=c")
    assert resume(root, *same).returncode == 0


@pytest.mark.parametrize(("campaign_id", "words"), [("d", "no campaign 'd' to resume. Known: c."), ("../c", "../c")])
def test_an_unknown_campaign_names_the_known_ones(tmp_path, campaign_id, words):
    """XP-03: an unknown id is a usage error."""
    root = tmp_path / "w"
    make_cut_off(root)
    result = resume(root, campaign_id=campaign_id)
    assert result.returncode == 2
    assert words in result.stdout


def test_a_campaign_that_runs_right_now_is_left_alone(tmp_path):
    """XP-03: two sessions never write into one campaign: the second ends with 2 and changes nothing."""
    root = tmp_path / "w"
    make_cut_off(root)
    before = files_of(root)
    with FileLock(str(folder_of(root) / ".lock")):
        result = resume(root)
    assert result.returncode == 2, result.stdout
    assert "campaign c is being run by another process" in result.stdout
    assert files_of(root) == before
