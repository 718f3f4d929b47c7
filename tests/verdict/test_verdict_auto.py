"""`--runs auto` for real: the tenth block is measured, the campaign concludes, and nothing beyond it runs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from crafted import fill, plan, regressing, up_to
from running import cell_ids, folder_of, make_small, read_aggregate, read_campaign, read_summaries, run_campaign
from running import run_pytest as run_in
from workspaces import SERVICE, make_version

from pytest_staging.stats import LOOKS

ARGUMENTS = {"serial": (), "n2": ("-n", "2")}


@pytest.fixture(scope="module")
def concluded(tmp_path_factory):
    """Nine blocks as if measured before, and a session that measures the tenth: the candidate sleeps 0.6 s.

    So much that its p95 is far above the baseline's, whatever else this machine does meanwhile.
    """
    folder = tmp_path_factory.mktemp("auto")

    def run(name):
        root = make_small(folder / name, duration_s=1.0)
        make_version(root, "faster", "candidate", SERVICE.replace("DELAY_S = 0.0", "DELAY_S = 0.6"))
        fill(root, plan(root, runs=LOOKS[-1], looks=LOOKS), up_to(regressing, 9))
        return root, run_in(root, "--staging-campaign", "--staging-resume=c", "--runs=auto", "-v", "-rs",
                            *ARGUMENTS[name])

    with ThreadPoolExecutor() as pool:
        return dict(zip(ARGUMENTS, pool.map(run, ARGUMENTS), strict=True))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_campaign_ends_when_the_conclusion_is_reached(concluded, name):
    """XP-02: at the look the remaining items are skipped with the reason, serial and in workers."""
    root, result = concluded[name]
    later = [cell_id for cell_id in cell_ids(root) if int(cell_id[3:6]) > 10]
    assert f"[{len(later)}]" in result.stdout, result.stdout
    assert "conclusion reached after 10 blocks" in result.stdout
    assert set(read_summaries(root)) == set(cell_ids(root)) - set(later)
    assert not list(folder_of(root).glob("runs/run-011"))
    aggregate = read_aggregate(root)
    assert (aggregate["runs"], aggregate["runs_planned"], aggregate["verdict"]) == (10, 30, "regression")
    assert (aggregate["complete"], aggregate["cells_passed"]) == (True, 20)
    assert result.returncode == 1
    assert "verdict[faster-native-p95] FAILED" in result.stdout


def test_workers_measure_the_same_cells_as_a_serial_run(concluded):
    """PT-04: with -n 2 the same cells are measured, in the same order, and the same decision is written."""
    (serial, _), (workers, _) = concluded["serial"], concluded["n2"]
    assert list(read_summaries(serial)) == list(read_summaries(workers))
    measured = [cell_id for cell_id, one in read_summaries(serial).items() if one["phases"]]
    assert sorted(measured) == ["run010-native-baseline", "run010-native-faster"]
    looks = [(folder_of(root) / "looks" / "look-010.json").read_text() for root in (serial, workers)]
    assert looks[0] == looks[1]


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_without_a_conclusion_the_next_runs_are_measured(tmp_path, arguments):
    """XP-02: a look that does not conclude lets its workers go on: the blocks after it are run."""
    root = make_small(tmp_path / "w", duration_s=1.5)
    for slug, status in (("baseline", "baseline"), ("faster", "candidate")):
        make_version(root, slug, status, SERVICE.replace("DELAY_S = 0.0", "DELAY_S = 0.05"))
    campaign = plan(root, runs=LOOKS[-1], looks=LOOKS)

    def unclear(cell):
        if cell.run_index in (10, 11) or cell.run_index > 15:
            return None
        # Of such blocks the next two may be up to three times as slow, or as fast: 10 say nothing, and 15 do.
        return 1.0 if cell.version_slug == "baseline" else (1.9 if cell.run_index in (2, 4, 6, 8) else 0.5)
    fill(root, campaign, unclear)
    result = run_in(root, "--staging-campaign", "--staging-resume=c", "-rs", *arguments)
    measured = [cell_id for cell_id, one in read_summaries(root).items() if one["phases"]]
    assert sorted(measured)[2:4] == ["run011-native-baseline", "run011-native-faster"], result.stdout
    looks = folder_of(root) / "looks"
    assert [json.loads((looks / f"look-0{look}.json").read_text())["stop"] for look in (10, 15)] == [False, True]
    assert "conclusion reached after 15 blocks" in result.stdout


def test_a_new_campaign_with_auto_is_planned_up_to_the_last_look(tmp_path):
    """XP-02: `--runs auto` plans the last look's runs and pins the looks; a selection waits for no look."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    result = run_campaign(root, "--runs=auto", "-k", "run030-native-faster")
    assert result.returncode == 0, result.stdout
    campaign = read_campaign(root)
    assert (campaign["runs"], tuple(campaign["looks"]), len(campaign["cells"])) == (LOOKS[-1], LOOKS, 60)
    assert "up to 30 runs (looks at 10, 15, 20, 30)" in result.stdout
    assert list(read_summaries(root)) == ["run030-native-faster"]
    assert read_aggregate(root)["verdict"] == "inconclusive"
