"""Verdicts as pytest shows them. The cells were made before; the session that reports them is a real one."""

from __future__ import annotations

import re
import signal
from xml.etree import ElementTree

import pytest
from crafted import fill, passing, plan, regressing, up_to, wavering, without
from running import DEADLINE_S, await_phase, folder_of, make_small, read_aggregate, run_pytest, started_campaign

from pytest_staging.session.verdicts import FAIL_ON, verdict_outcome

METRICS = ("p95", "fail_rate", "throughput", "heap_peak", "gc_pause")
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
VERDICT_LINE = re.compile(r"::verdict\[([^\]]+)\] (\w+)")


def resume(root, *arguments):
    """A session over a campaign whose cells are there already."""
    return run_pytest(root, "--staging-campaign", "--staging-resume=c", *arguments)


def junit_verdicts(path):
    """Outcome and message of each verdict's test case, by name; and the suite's properties."""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    found = {}
    for case in suite.iter("testcase"):
        if case.get("name").startswith("verdict["):
            child = next(iter(case), None)
            found[case.get("name")] = ("passed", "") if child is None else (child.tag, child.get("message"))
    return found, {one.get("name"): one.get("value") for one in suite.iter("property")}


@WORKERS
@pytest.mark.parametrize("fate", [passing, regressing, wavering])
def test_verdicts_are_test_cases(tmp_path, fate, workers):
    """XP-01: one test case per metric, mode and candidate, in -v and in JUnit; a regression fails, also with -n."""
    root = tmp_path / "w"
    fill(root, plan(root), fate)
    result = resume(root, "-v", "--junitxml=junit.xml", *workers)
    words = {passing: "PASSED", regressing: "FAILED", wavering: "SKIPPED"}
    wanted = {f"faster-native-{metric}": "PASSED" for metric in METRICS}
    wanted |= {f"faster-native-{metric}": words[fate] for metric in ("p95", "throughput")}
    wanted["faster-native-gc_pause"] = "SKIPPED"
    assert dict(VERDICT_LINE.findall(result.stdout)) == wanted, result.stdout
    assert result.returncode == (1 if fate is regressing else 0)
    verdicts, properties = junit_verdicts(root / "junit.xml")
    tags = {"PASSED": "passed", "FAILED": "failure", "SKIPPED": "skipped"}
    assert {name: tag for name, (tag, _) in verdicts.items()} == {
        f"verdict[{name}]": tags[word] for name, word in wanted.items()
    }
    assert properties["staging.verdict"] == read_aggregate(root)["verdict"]
    if fate is regressing:
        assert "beyond the allowed 50 %" in verdicts["verdict[faster-native-p95]"][1]
        assert "faster native p95: regression: worse by" in result.stdout
    if fate is wavering:
        assert "too uncertain" in result.stdout or "not shown to be less" in result.stdout
    assert "n/a: not applicable" in result.stdout


@pytest.mark.parametrize(("fate", "fail_on", "exit_code"), [
    (passing, "inconclusive", 0), (wavering, "inconclusive", 1), (regressing, "never", 0),
])  # fmt: skip
def test_fail_on_decides_what_fails(tmp_path, fate, fail_on, exit_code):
    """XP-01: --staging-fail-on says which verdicts fail their test cases, and so the exit status."""
    root = tmp_path / "w"
    fill(root, plan(root), fate)
    result = resume(root, f"--staging-fail-on={fail_on}")
    assert result.returncode == exit_code, result.stdout
    assert ("failed" in result.stdout.splitlines()[-1]) == bool(exit_code)


@pytest.mark.parametrize(("verdict", "advisory", "outcomes"), [
    ("pass", False, ("passed", "passed", "passed")),
    ("regression", False, ("failed", "failed", "skipped")),
    ("inconclusive", False, ("skipped", "failed", "skipped")),
    ("pass", True, ("passed", "passed", "passed")),
    ("regression", True, ("skipped", "skipped", "skipped")),
    ("inconclusive", True, ("skipped", "skipped", "skipped")),
    (None, False, ("skipped", "skipped", "skipped")),
])  # fmt: skip
def test_pytests_word_for_each_verdict(verdict, advisory, outcomes):
    """XP-01: only a pass passes; advisory and inapplicable rows never fail, whatever is asked for."""
    row = {"verdict": verdict, "advisory": advisory, "applicable": verdict is not None}
    assert tuple(verdict_outcome(row, fail_on) for fail_on in FAIL_ON) == outcomes


def test_fail_on_can_stand_in_the_ini_file_and_the_command_line_wins(tmp_path):
    """XP-01: staging_fail_on is the default of --staging-fail-on; an unknown word is a usage error that names all."""
    root = tmp_path / "w"
    fill(root, plan(root), regressing)
    with (root / "pytest.ini").open("a") as file:
        file.write("staging_fail_on = never\n")
    assert resume(root).returncode == 0
    assert resume(root, "--staging-fail-on=regression").returncode == 1
    wrong = resume(root, "--staging-fail-on=always")
    assert wrong.returncode == 2
    assert "regression, inconclusive, never" in wrong.stdout


def test_a_pass_names_the_next_command(tmp_path):
    """XP-01: the summary ends with the verdict and the exact command that follows from it."""
    root = tmp_path / "w"
    fill(root, plan(root), passing)
    result = resume(root)
    assert "Verdict: PASS (within tolerance: all 4 counted metrics)." in result.stdout
    assert re.search(r"^next: \S*staging-manager promote --candidate faster --campaign-id c$", result.stdout, re.M)


def test_an_inconclusive_campaign_names_the_runs_that_would_do(tmp_path):
    """XP-01: the next command asks for enough runs."""
    root = tmp_path / "w"
    fill(root, plan(root), wavering)
    found = re.search(r"^next: \S*pytest --staging-campaign .*--runs (\d+)", resume(root).stdout, re.M)
    needed = [row["runs_needed"] for row in read_aggregate(root)["rows"] if row["verdict"] == "inconclusive"]
    assert int(found[1]) >= max(needed)


def test_a_smoke_campaign_has_no_verdict(tmp_path):
    """XP-01: a smoke campaign shows the wiring; it has no verdict test case whatever its cells say."""
    root = tmp_path / "w"
    fill(root, plan(root, smoke=True), regressing)
    result = resume(root, "-v")
    assert "::verdict[" not in result.stdout
    assert "a smoke campaign gives no verdict" in result.stdout
    assert "No verdict." in result.stdout
    assert result.returncode == 0


def test_an_interrupted_campaign_has_no_verdict(tmp_path):
    """XP-01: a session that was cut off reports no verdict test case, though 15 of 16 cells show a regression."""
    root = make_small(tmp_path / "w", duration_s=4.0)
    campaign = plan(root)
    fill(root, campaign, without(regressing, campaign.cells[-1].cell_id))
    log = root / "output.txt"
    with started_campaign(root, "--staging-resume=c", "--runs=8", "-v", log=log) as process:
        await_phase(root, process, campaign.cells[-1].version_slug, "load")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 2
    assert "::verdict[" not in log.read_text()
    assert (folder_of(root) / "aggregate-comparison.json").is_file()
    assert read_aggregate(root)["complete"] is False


@pytest.mark.parametrize(("runs", "line"), [
    (3, "3 runs can show neither: a pass needs at least 5, a regression over 4 comparisons 7"),
    (6, "6 runs can show a pass; a regression over 4 comparisons needs at least 7"),
    (7, "7 runs can show a pass (from 5) and a regression over 4 comparisons (from 7)"),
])  # fmt: skip
def test_the_header_says_what_this_number_of_runs_can_show(tmp_path, runs, line):
    """XP-01: before anything runs, the header says what N can and cannot detect, and the aggregate's notes agree."""
    root = tmp_path / "w"
    fill(root, plan(root, runs=runs), passing)
    output = resume(root).stdout
    assert f"staging: {line}" in output
    assert output.index(line) < output.index("staging campaign c")
    notes = " ".join(read_aggregate(root)["notes"])
    assert ("cannot show a pass" in notes) == (runs < 5)
    assert ("cannot show a regression" in notes) == (runs < 7)


def test_an_incomplete_campaign_says_how_to_go_on(tmp_path):
    """XP-03: cells that did not run or failed are named, and the next command is the resume that gets them."""
    root = tmp_path / "w"
    campaign = fill(root, plan(root), up_to(passing, 7))
    result = resume(root, "-k", "run001")
    assert re.search(r"^next: \S*pytest --staging-campaign --staging-resume c$", result.stdout, re.M)
    assert "run008-native-faster: not run" in result.stdout
    fill(root, campaign, without(passing, "run008-native-faster", 0.0))
    again = resume(root).stdout
    assert re.search(r"^next: \S*pytest --staging-campaign --staging-resume c --staging-retry-failed$", again, re.M)
