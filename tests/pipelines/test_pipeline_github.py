"""What GitHub shows: the step's summary within its size, annotations within their number, both escaped."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from crafted import fill, plan, regressing
from made_up import slower
from recorded import failing, make_record
from running import run_pytest

from pytest_staging.reports.github import SUMMARY_BYTES, fit, render_annotations, render_github, render_step_summary

COMMAND = re.compile(r"::(error|warning) file=([^,:]+),title=([^,:]*)::(.*)")


def test_the_summary_of_a_step():
    """XP-05: verdict, table, reasons, what is missing; what failed comes first among the reasons."""
    text = render_github(make_record(metrics=slower()))
    lines = text.splitlines()
    assert lines[0] == "## fast against baseline"
    assert lines[2] == "Verdict: REGRESSION (worse beyond tolerance: fast jvm p95)."
    assert lines[lines.index("") + 1]
    assert "| jvm    | p95        |" in text
    reasons = lines[lines.index("### Reasons") + 2 :]
    assert reasons[0].startswith("- `fast jvm p95`: regression: worse by")
    assert text.endswith("\n")


def test_what_services_say_is_no_markup():
    """XP-05: a reason with markup, HTML, mentions or line feeds is shown as the text that it is."""
    record = make_record(change=failing("run001-jvm-fast", "<img src=x>\n## *bold* @someone #1 | `x` [a](b)"))
    (line,) = [line for line in render_github(record).splitlines() if line.startswith("- run001-jvm-fast")]
    assert line == r"- run001-jvm-fast: &lt;img src=x&gt; \#\# \*bold\* \@someone \#1 \| \`x\` \[a\](b)"


def test_a_long_summary_is_cut_and_says_so():
    """XP-05: GitHub refuses more than 1 MiB: whole lines are kept, the last one says how many are left out."""
    record = make_record(runs=150, change=lambda one: replace(one, outcome="failed", reason="why " * 600))
    text = render_github(record)
    assert len(render_step_summary(record.aggregate, 1 << 30).encode()) > SUMMARY_BYTES
    assert SUMMARY_BYTES - 3000 < len(text.encode()) <= SUMMARY_BYTES
    assert text.startswith("## ")
    whole = render_step_summary(record.aggregate, 1 << 30).splitlines()
    notice = re.search(r"\*\*Cut here:\*\* (\d+) more lines are over GitHub's limit of 1 MiB\.", text)
    assert int(notice[1]) + len(text.splitlines()) - 2 == len(whole)


@pytest.mark.parametrize("limit", [0, -5, 10, 200, 300, 10_000])
def test_any_size(limit):
    """XP-05: a step that wrote before us leaves less: never more than that, and nothing when a notice has no room."""
    text = fit((f"line {number} ü" for number in range(200)), limit)
    assert len(text.encode()) <= max(0, limit)
    assert (text == "") == (limit < 150)


def test_an_annotation_per_breached_gate():
    """XP-05: an error for each verdict that fails, with file and title; a warning for each cell without a result."""
    record = make_record(metrics=slower(), change=failing("run001-native-fast", "100 % gone:\na, b\r"))
    found = [COMMAND.fullmatch(line).groups() for line in
             render_annotations(record.aggregate, "benchmark/benchmark.yaml", "regression")]
    assert [one[:3] for one in found] == [
        ("error", "benchmark/benchmark.yaml", "fast jvm p95%3A regression"),
        ("warning", "benchmark/benchmark.yaml", "run001-native-fast has no result"),
    ]
    assert found[0][3].startswith("worse by 52.6 %25, beyond the allowed 10 %25")
    assert found[1][3] == "100 %25 gone:%0Aa, b%0D"
    assert render_annotations(record.aggregate, "a,b:c%.yaml", "regression")[0].startswith(
        "::error file=a%2Cb%3Ac%25.yaml,title="
    )


def test_what_fails_is_what_the_option_says():
    """XP-05: with --staging-fail-on inconclusive those rows are errors too; with never there is none; nor for smoke."""
    aggregate = make_record(runs=3).aggregate
    kinds = {fail_on: len(render_annotations(aggregate, "b.yaml", fail_on))
             for fail_on in ("regression", "inconclusive", "never")}
    assert kinds == {"regression": 0, "inconclusive": 7, "never": 0}
    assert render_annotations(make_record(runs=3, smoke=True).aggregate, "b.yaml", "inconclusive") == []


def test_github_shows_ten_of_a_kind():
    """XP-05: beyond ten, the tenth says how many more there are and names them."""
    record = make_record(runs=3, candidates=("fast", "small"), change=lambda summary: None)
    found = [COMMAND.fullmatch(line).groups() for line in
             render_annotations(record.aggregate, "b.yaml", "inconclusive")]
    kinds = [one[0] for one in found]
    assert kinds == ["error"] * 10 + ["warning"] * 10
    rows = [row for row in record.aggregate["rows"] if not row["advisory"] and row["applicable"]]
    assert found[9][2] == f"{len(rows) - 9} more"
    assert "small native fail_rate" in found[9][3]
    assert len(record.aggregate["missing"]) == 18
    assert found[19][2] == "9 more"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace with a finished campaign that regressed; resumed, it reports again without measuring."""
    root = tmp_path_factory.mktemp("github") / "w"
    fill(root, plan(root, runs=8), regressing)
    return root


def in_github(root, *arguments, **env):
    """The finished campaign, once more, in a job of GitHub's."""
    given = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(root.parent), **env}
    return run_pytest(root, "--staging-campaign", "--staging-resume=c", *arguments, env=given)


@pytest.mark.parametrize("arguments", [(), ("-n", "1"), ("-p", "no:terminal")], ids=["serial", "n1", "quiet"])
def test_a_campaign_in_a_job(root, tmp_path, arguments):
    """XP-05: in a job the controller appends the summary once, and prints each annotation at the start of a line."""
    summary = tmp_path / "summary.md"
    summary.write_text("# from an earlier command\n")
    result = in_github(root, *arguments, GITHUB_STEP_SUMMARY=str(summary))
    assert result.returncode == 1
    text = summary.read_text()
    assert text.startswith("# from an earlier command\n## faster against baseline\n")
    assert text.count("## faster against baseline") == 1
    commands = [line for line in result.stdout.splitlines() if "::error" in line or "::warning" in line]
    assert len(commands) == len(set(commands)) == 2
    assert all(line.startswith("::error file=w/benchmark/benchmark.yaml,title=faster native ") for line in commands)


def test_a_summary_that_cannot_be_written_fails_nothing(root, tmp_path):
    """XP-05: a folder that is not there, and a full summary, are said in a line; the campaign is as without."""
    missing = in_github(root, "--staging-fail-on=never", GITHUB_STEP_SUMMARY=str(tmp_path / "no" / "summary.md"))
    assert missing.returncode == 0, missing.stdout
    assert "summary.md cannot be written: No such file or directory." in missing.stdout
    full = tmp_path / "full.md"
    full.write_bytes(b"x" * (SUMMARY_BYTES - 5))
    result = in_github(root, "--staging-fail-on=never", GITHUB_STEP_SUMMARY=str(full))
    assert result.returncode == 0
    assert "has no room left" in result.stdout
    assert full.stat().st_size == SUMMARY_BYTES - 5


def test_it_can_be_switched_off(root, tmp_path):
    """XP-05: staging_github = never writes and prints nothing; a typo is refused."""
    summary = tmp_path / "summary.md"
    result = in_github(root, "-o", "staging_github=never", GITHUB_STEP_SUMMARY=str(summary))
    assert not summary.exists()
    assert "::error" not in result.stdout
    wrong = in_github(root, "-o", "staging_github=always")
    assert wrong.returncode == 2
    assert "known are auto, never" in wrong.stdout
