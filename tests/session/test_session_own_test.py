"""Tests that take the `staging_cell` fixture: the user's own way of running a cell."""

from __future__ import annotations

import pytest
from running import cell_ids, make_bad, make_small, read_summaries, run_campaign, run_pytest

OWN = '''
def test_cell(staging_cell):
    assert (staging_cell.version_slug, staging_cell.platform_mode) in [("baseline", "native"), ("faster", "native")]
    summary = staging_cell.run()
    print("measured", summary.cell.cell_id, summary.metrics["p95"])
    assert summary.metrics["fail_rate"] == 0
    assert staging_cell.run_index == 1
    assert staging_cell.version_slug != "faster", "an assertion of the user's"
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A campaign whose cells run in the user's test; an assertion of it fails for the candidate."""
    root = make_small(tmp_path_factory.mktemp("own") / "w", duration_s=0.2)
    (root / "test_own.py").write_text(OWN)
    return root, run_campaign(root, "test_own.py", "-v")


def test_the_users_test_takes_the_place_of_the_built_in_items(own):
    """PT-01: a test with staging_cell runs once per cell in the campaign's order, instead of the built-in items."""
    root, result = own
    lines = [line for line in result.stdout.splitlines() if line.endswith(("[ 50%]", "[100%]"))]
    assert [line.split()[0] for line in lines] == [f"test_own.py::test_cell[{name}]" for name in cell_ids(root)]
    assert "benchmark.yaml::campaign" not in result.stdout


def test_a_users_assertion_fails_the_test_and_keeps_the_measurement(own):
    """PT-01: what the user asserts is their test's outcome; the cell that was measured stays measured."""
    root, result = own
    assert result.returncode == 1, result.stdout
    assert "an assertion of the user's" in result.stdout
    assert "1 failed, 1 passed" in result.stdout
    assert {name: one["outcome"] for name, one in read_summaries(root).items()} == dict.fromkeys(
        cell_ids(root), "passed"
    )


def test_a_cell_that_cannot_be_measured_fails_the_users_test(tmp_path):
    """PT-01: staging_cell.run() fails the test with the reason and the log's tail."""
    root = make_small(tmp_path / "w", candidates=())
    make_bad(root, "broken", "import sys\nprint('no licence')\nsys.exit(9)\n")
    (root / "test_own.py").write_text("def test_cell(staging_cell):\n    staging_cell.run()\n")
    result = run_campaign(root, "test_own.py", "-k", "broken")
    assert result.returncode == 1, result.stdout
    assert "ended with status 9" in result.stdout
    assert "no licence" in result.stdout
    assert read_summaries(root)["run001-native-broken"]["outcome"] == "failed"


def test_without_a_campaign_the_users_test_is_skipped(tmp_path):
    """PT-06: the same test in an ordinary run is skipped and says which option it needs."""
    root = make_small(tmp_path / "w")
    (root / "test_own.py").write_text(OWN)
    result = run_pytest(root, "-rs")
    assert result.returncode == 0, result.stdout
    assert "1 skipped" in result.stdout
    assert "staging_cell needs --staging-campaign" in result.stdout
    assert list((root / "campaigns").iterdir()) == []


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def test_a(staging_cell): pass\ndef test_b(staging_cell): pass\n", "only one test may take staging_cell"),
        ("import pytest\n@pytest.mark.parametrize('size', [1, 2])\ndef test_a(staging_cell, size): pass\n",
         "once for each cell"),
    ],
    ids=["two tests", "two tests by parameters"],
)
def test_a_cell_has_one_test(tmp_path, tests, message):
    """PT-01: two tests cannot both run the cells of one campaign: a usage error, before anything runs."""
    root = make_small(tmp_path / "w")
    (root / "test_own.py").write_text(tests)
    result = run_campaign(root, "test_own.py")
    assert result.returncode in (2, 4), result.stdout
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert "INTERNALERROR" not in result.stdout
    assert list((root / "campaigns").iterdir()) == []


def test_a_cell_runs_once_per_test(tmp_path):
    """PT-01: a second run() in one test is refused; the first one's result stands."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    (root / "test_own.py").write_text(
        "import pytest\n"
        "def test_cell(staging_cell):\n"
        "    staging_cell.run()\n"
        "    with pytest.raises(pytest.UsageError, match='twice'):\n"
        "        staging_cell.run()\n"
    )
    result = run_campaign(root, "test_own.py", "-k", "baseline")
    assert result.returncode == 0, result.stdout
    assert read_summaries(root)["run001-native-baseline"]["outcome"] == "passed"


def test_a_test_that_forgets_to_run_its_cell_measures_nothing(tmp_path):
    """SM-08: a test that passes without measuring gives no result: the cell is missing, not passed."""
    root = make_small(tmp_path / "w")
    (root / "test_own.py").write_text("def test_cell(staging_cell):\n    pass\n")
    result = run_campaign(root, "test_own.py")
    assert read_summaries(root) == {}
    assert "run001-native-baseline: not run" in result.stdout
