"""pytest's own options on a campaign: what a pytest user expects of -k, -x, --lf, --collect-only, -v, -q, node ids."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import (
    QUICK_LOAD,
    cell_ids,
    folder_of,
    make_bad,
    make_small,
    read_aggregate,
    read_summaries,
    run_campaign,
    run_pytest,
)

FILE = "benchmark/benchmark.yaml"
BROKEN = "import sys\nsys.exit(3)\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace whose candidate `broken` fails at once, and one test of the project."""
    root = make_small(tmp_path_factory.mktemp("selection") / "w", duration_s=0.2)
    make_bad(root, "broken", BROKEN)
    (root / "test_project.py").write_text("def test_of_the_project():\n    pass\n")
    return root


def ids_in(output: str) -> list[str]:
    """Node ids that stand alone on a line."""
    return [line for line in output.splitlines() if re.fullmatch(r"\S+::\S+", line)]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_collect_only_lists_the_cells_and_touches_nothing(root, workers):
    """PT-01: --collect-only -q lists the ids in the order of the campaign; no file, no folder, no process."""
    before = tree_of(root)
    result = run_campaign(root, "--collect-only", "-q", "--staging-order=fixed", *workers, campaign_id="never")
    assert result.returncode == 0, result.stdout
    assert ids_in(result.stdout) == [
        f"{FILE}::campaign[run001-native-{slug}]" for slug in ("baseline", "broken", "faster")
    ]
    assert tree_of(root) == before


def tree_of(root):
    """Every path of the workspace, but for the caches of pytest and Python and an empty file that is only locked."""
    return sorted(p for p in root.rglob("*") if not {".pytest_cache", "__pycache__", ".lock"} & set(p.parts))


def test_ids_are_the_same_for_every_seed(root):
    """PT-01: ids are stable: another seed changes their order only."""
    found = [
        ids_in(run_campaign(root, "--collect-only", "-q", "--runs=2", f"--staging-seed={seed}", "--baseline=baseline",
                            campaign_id="never").stdout)
        for seed in (1, 2)
    ]
    assert len(found[0]) == 6
    assert sorted(found[0]) == sorted(found[1])
    assert found[0] != found[1]


def test_k_selects_cells_and_the_rest_is_named_as_missing(root):
    """PT-01: -k runs the cells it matches; the comparison says that the others did not run."""
    result = run_campaign(root, "-k", "baseline", campaign_id="k")
    assert result.returncode == 0, result.stdout
    assert "2 deselected" in result.stdout
    assert list(read_summaries(root, "k")) == ["run001-native-baseline"]
    missing = {one["cell"]: one["reason"] for one in read_aggregate(root, "k")["missing"] if one["metric"] is None}
    assert missing == {"run001-native-broken": "not run", "run001-native-faster": "not run"}


def test_a_node_id_selects_one_cell(root):
    """PT-01: a node id as pytest prints it is an argument."""
    result = run_campaign(root, f"{FILE}::campaign[run001-native-faster]", campaign_id="node")
    assert result.returncode == 0, result.stdout
    assert list(read_summaries(root, "node")) == ["run001-native-faster"]


def test_an_unknown_node_id_is_an_error(root):
    """PT-01: a node id that does not exist is pytest's usage error, not a campaign without cells."""
    result = run_campaign(root, f"{FILE}::campaign[run009-native-faster]", campaign_id="nothing")
    assert result.returncode == 4, result.stdout
    assert not folder_of(root, "nothing").exists()


def test_x_stops_after_the_first_failed_cell(root):
    """PT-01: -x stops; what was measured is kept and compared."""
    result = run_campaign(root, "-x", "--staging-order=fixed", campaign_id="x")
    assert result.returncode not in (0, 3), result.stdout
    assert list(read_summaries(root, "x")) == ["run001-native-baseline", "run001-native-broken"]
    missing = {one["cell"] for one in read_aggregate(root, "x")["missing"] if one["metric"] is None}
    assert missing == {"run001-native-broken", "run001-native-faster"}


def test_lf_runs_the_failed_cell_again(root):
    """PT-01: --lf runs the cells that failed in the last session."""
    run_campaign(root, "--staging-order=fixed", campaign_id="first")
    result = run_campaign(root, "--lf", "--staging-order=fixed", campaign_id="second")
    assert result.returncode == 1, result.stdout
    assert list(read_summaries(root, "second")) == ["run001-native-broken"]


@pytest.fixture(scope="module")
def shown(root):
    """The output of one and the same selection, at three verbosities."""
    flags = {"long": ["-v"], "short": ["-q"], "plain": []}
    return {name: run_campaign(root, *flag, "-k", "broken", campaign_id=name).stdout for name, flag in flags.items()}


def test_v_prints_a_line_per_cell_with_its_id(shown):
    """PT-01: -v prints node id, outcome and percentage as for any test."""
    assert re.search(rf"^{re.escape(FILE)}::campaign\[run001-native-broken\] FAILED +\[100%\]$", shown["long"], re.M)


def test_q_prints_less(shown):
    """PT-01: -q leaves out the header and still prints the summary and the failure."""
    assert "test session starts" not in shown["short"]
    assert "staging campaign short" in shown["short"]
    assert "ended with status 3" in shown["short"]
    assert "test session starts" in shown["plain"]


def test_the_projects_own_tests_run_only_when_they_are_named(root):
    """PT-01: without paths a campaign collects its cells only; with a path those tests run beside it."""
    alone = run_campaign(root, "--collect-only", "-q", campaign_id="never")
    assert "test_of_the_project" not in alone.stdout
    named = run_campaign(root, "--collect-only", "-q", "test_project.py", campaign_id="never")
    assert "test_of_the_project" in named.stdout
    assert len(ids_in(named.stdout)) == 4


def test_testpaths_do_not_bring_the_projects_tests_in(root):
    """PT-01: testpaths of the ini file are not paths on the command line."""
    result = run_campaign(root, "--collect-only", "-q", "-o", "testpaths=test_project.py", campaign_id="never")
    assert len(ids_in(result.stdout)) == 3
    assert "test_of_the_project" not in result.stdout


def test_ini_options_stand_in_for_the_command_line(tmp_path):
    """PT-01: every choice has an ini equivalent, and the command line wins."""
    ini = (
        "[pytest]\nstaging_required_modes = native\nstaging_runs = 3\nstaging_order = fixed\nstaging_root = work\n"
        "staging_baseline = faster\nstaging_candidates = baseline other\nstaging_benchmark_path = work/quick.yaml\n"
    )
    root = make_small(tmp_path / "w" / "work", candidates=("faster", "other"))
    (root / "benchmark" / "benchmark.yaml").rename(root / "quick.yaml")
    for name in ("payloads", QUICK_LOAD.name):
        (root / "benchmark" / name).rename(root / name)
    (root / "pytest.ini").unlink()
    (root.parent / "pytest.ini").write_text(ini)
    result = run_pytest(root.parent, "--staging-campaign", "--collect-only", "-q")
    expected = [f"run{run:03d}-native-{slug}" for run in (1, 2, 3) for slug in ("faster", "baseline", "other")]
    assert [one.split("[")[1][:-1] for one in ids_in(result.stdout)] == expected, result.stdout
    result = run_pytest(root.parent, "--staging-campaign", "--collect-only", "-q", "--runs=1", "--baseline=other",
                        "--candidate=faster")
    assert [one.split("[")[1][:-1] for one in ids_in(result.stdout)] == ["run001-native-other", "run001-native-faster"]


# -- usage errors at the door -----------------------------------------------------------------------------------------

USAGE = {
    "unknown candidate": (["--candidate=fastr"], "Did you mean 'faster'?"),
    "candidate is baseline": (["--candidate=baseline"], "not compared with itself"),
    "no runs": (["--runs=0"], "--runs 0"),
    "negative runs": (["--runs=-1"], "--runs -1"),
    "runs in words": (["--runs=abc"], "--runs abc"),
    "empty runs": (["--runs="], "--runs"),
    "lease in words": (["-o", "staging_lease_timeout_s=soon"], "staging_lease_timeout_s = soon"),
    "unknown verdict": (["--staging-fail-on=pass"], "regression, inconclusive, never"),
    "retry without resume": (["--staging-retry-failed"], "--staging-resume ID"),
    "seed in words": (["--staging-seed=x"], "--staging-seed x"),
    "unknown order": (["--staging-order=random"], "balanced, fixed"),
    "unknown target": (["--staging-target=moon"], "Known: local"),
    "no workspace": (["--staging-root=nowhere"], "is no folder"),
    "no benchmark": (["--benchmark-path=none.yaml"], "none.yaml does not exist"),
    "unsafe id": (["--campaign-id=../x"], "campaign id"),
}


@pytest.fixture(scope="module")
def refused(root):
    """Every bad usage, side by side, and whether the workspace is as it was."""
    before = tree_of(root)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda name: run_campaign(root, *USAGE[name][0], campaign_id="usage"), USAGE)
        return dict(zip(USAGE, results, strict=True)), before == tree_of(root)


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_is_one_message_and_exit_code_2(refused, name):
    """PT-01: bad input ends with exit code 2 and one message, before anything is written or run."""
    results, _ = refused
    output = results[name].stdout
    assert results[name].returncode == 2, output
    assert USAGE[name][1] in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


def test_bad_usage_writes_nothing(refused):
    """PT-01: bad input leaves no file and no folder."""
    _, unchanged = refused
    assert unchanged


def test_an_existing_campaign_is_refused_and_kept(root):
    """SM-07: a campaign id that exists ends with exit code 2, and not a byte of it changes."""
    if not folder_of(root, "k").exists():
        run_campaign(root, "-k", "baseline", campaign_id="k")
    before = {path: path.read_bytes() for path in folder_of(root, "k").rglob("*") if path.is_file()}
    result = run_campaign(root, campaign_id="k")
    assert result.returncode == 2, result.stdout
    assert "campaign 'k' exists already" in result.stdout
    assert {path: path.read_bytes() for path in folder_of(root, "k").rglob("*") if path.is_file()} == before
    assert cell_ids(root, "k")


# -- smoke ------------------------------------------------------------------------------------------------------------


def test_a_smoke_campaign_is_marked_everywhere(tmp_path):
    """PT-01: --staging-smoke shortens the load and says so in every file, in the header and in the summary."""
    root = make_small(tmp_path / "w", duration_s=20.0)
    result = run_pytest(root, "--staging-campaign", "--runs=1", "--staging-smoke", "--junitxml=junit.xml")
    assert result.returncode == 0, result.stdout
    (folder,) = (root / "campaigns").glob("*-smoke")
    name = folder.name
    assert f"smoke campaign {name}" in result.stdout
    assert "smoke" in result.stdout[result.stdout.index(f"staging campaign {name}"):].split("\n", 1)[1].lower()
    assert [one["smoke"] for one in read_summaries(root, name).values()] == [True, True]
    assert read_aggregate(root, name)["smoke"] is True
    assert "Smoke campaign" in (folder / "aggregate-comparison.md").read_text()
    assert '"smoke": true' in (folder / "campaign.json").read_text()
    assert 'name="staging.smoke" value="true"' in (root / "junit.xml").read_text()
    assert all(one["phases"]["load"] < 10 for one in read_summaries(root, name).values())
