"""The summary at the end of a campaign: what stands where, at 80 and at 200 columns, and in which colours."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from crafted import fill, passing, plan, regressing
from made_up import make_benchmark, slower
from recorded import failing, make_record
from terminals import run_on_a_terminal

from pytest_staging.reports.terminal import paint, wrap_command
from pytest_staging.session.summary import program, render_summary, render_title

GOLDEN = Path(__file__).parent / "golden"
LONG = "a-candidate-whose-name-says-everything-about-it"
RED, GREEN = "\x1b[31m", "\x1b[32m"


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    """pytest and staging-manager on PATH, and nothing else; the workspace is where the user stands."""
    (tmp_path / "bin").mkdir()
    for name in ("pytest", "staging-manager"):
        (tmp_path / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)


def test_a_program_of_another_environment_is_not_recommended(tmp_path, monkeypatch):
    """PT-03: what PATH leads to may be another environment's pytest, which does not have the plugin."""
    assert program("pytest") == "pytest"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pytest").touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "own" / "python"))
    assert program("pytest") == "own/pytest"
    assert program("staging-manager") == "staging-manager"


def summary_of(record, width):
    return list(render_summary(record.campaign, record.aggregate, Path.cwd() / record.folder, width))


def of_two():
    """Two candidates, one regressed, one cell failed with a long reason."""
    reason = "the service ended with status 3 before it was healthy, as it said itself: no more room for its heap"
    return make_record(candidates=("fast", LONG), metrics=slower(), change=failing("run003-jvm-fast", reason))


@pytest.mark.parametrize("width", [80, 200])
def test_the_summary_is_as_it_was(width):
    """PT-03: verdict, table, what is missing, files, plain words, command: word for word at 80 and 200 columns."""
    path = GOLDEN / f"summary-{width}.txt"
    found = "\n".join(summary_of(of_two(), width)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


RECORDS = {
    "regression": lambda: make_record(metrics=slower()),
    "pass": make_record,
    "several": of_two,
    "longest": lambda: make_record(runs=2, candidates=("x" * 100, "y" * 100), campaign_id="i" * 100),
    "metric": lambda: make_record(runs=2, candidates=("fast",), benchmark=make_benchmark(
        {"m" * 100: {"unit": "ms", "direction": "lower", "tolerance": 0.1}})),
    "failed": lambda: make_record(change=failing("run001-jvm-fast", "no\nluck " * 50)),
    "nothing": lambda: make_record(change=lambda summary: None),
    "smoke": lambda: make_record(smoke=True),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_longer_than_the_terminal(name, width):
    """PT-03: long slugs, metrics, ids and reasons, and several candidates, stay within the terminal's columns."""
    record = RECORDS[name]()
    lines = summary_of(record, width)
    assert [line for line in lines if len(line) > width] == []
    assert all("\n" not in line for line in lines)
    assert len(render_title(record.campaign)) < 72


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("width", [40, 80])
def test_nothing_is_left_out_at_a_narrow_terminal(name, width):
    """PT-03: the same words as without a limit, apart from the two columns that a narrow table does without."""
    record = RECORDS[name]()
    narrow, whole = ("".join("\n".join(summary_of(record, one)).split()) for one in (width, None))
    for row in record.aggregate["rows"]:
        assert row["metric"] in narrow
    for slug in record.campaign.candidate_slugs:
        assert slug in narrow.replace("\\", "") or slug not in whole
    for line in ("Verdict:", "Note:", "wrote"):
        assert narrow.count(line) == whole.count(line)


@pytest.mark.parametrize("name", RECORDS)
def test_it_begins_with_the_verdict_and_ends_with_what_to_do(name):
    """PT-03: verdict first, then the table, and in the end a plain sentence and the command that follows from it."""
    record = RECORDS[name]()
    lines = summary_of(record, 160)
    first = "Smoke campaign" if record.campaign.smoke else f"Verdict: {record.aggregate['verdict'].upper()}"
    assert lines[0].startswith(first)
    places = [next(number for number, line in enumerate(lines) if re.match(pattern, line))
              for pattern in (first, r"\| |.*: \(?\w+\)?$", "wrote ", "next: ")]
    assert places == sorted(places)
    command = lines.index(next(line for line in lines if line.startswith("next: ")))
    assert lines[command - 1].endswith((".", "again."))
    several = len(record.campaign.candidate_slugs) > 1
    blank = max(number for number, line in enumerate(lines) if not line)
    assert blank < command - 1 - several, "each candidate's verdict stands before the sentence"


@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_command_over_several_lines_is_still_one(width):
    """PT-03: what is printed over several lines is, for a shell, the same command."""
    words = ["staging-manager", "promote", "--candidate", "c" * 100, "--why", "it's 5 % faster", "--id", "i" * 57]
    lines = wrap_command("next: ", shlex.join(words), width)
    assert all(len(line) <= width for line in lines if "'" not in line)
    text = "\n".join(lines).removeprefix("next: ")
    done = subprocess.run(["/bin/sh", "-c", f"print() {{ for one in \"$@\"; do echo \"$one\"; done; }}\nprint {text}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words


def test_verdicts_are_painted_and_nothing_else():
    """PT-03: colour is for verdicts; a metric or a slug of that name stays plain, and a width is never changed."""
    def mark(text, **how):
        return f"<{','.join(sorted(how))}>{text}</>"

    assert paint("Verdict: PASS (within tolerance).", mark) == "Verdict: <bold,green>PASS</> (within tolerance)."
    row = "| jvm | pass | 1 ms | regression |"
    assert paint(row, mark) == "| jvm | pass | 1 ms | <bold,red>regression</> |"
    assert paint("| p95 | (inconclusive) |", mark) == "| p95 | <bold,yellow>(inconclusive)</> |"
    assert paint("fast jvm p95: pass", mark) == "fast jvm p95: <bold,green>pass</>"
    for line in ("wrote campaigns/pass/a.md", "regression is worse: reject it.", "| jvm | pass | n/a |"):
        assert paint(line, mark) == line


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A finished campaign that is shown once more, on terminals of several kinds."""
    root = tmp_path_factory.mktemp("shown") / "w"
    fill(root, plan(root, candidates=("faster", LONG)), lambda cell: passing(cell) if cell.version_slug != LONG
         else regressing(cell))

    def show(*arguments, **how):
        return run_on_a_terminal(root, "--staging-campaign", "--staging-resume=c", *arguments, campaign=False,
                                 **{"columns": 80, **how})

    return show


def section_of(result):
    """What is ours in the output, with its escape sequences."""
    found = result.written.partition("staging campaign c")[2]
    return re.split(r"=+ short test summary", found)[0]


def test_on_a_terminal_of_80_columns(shown):
    """PT-03: the real program: no line of the section is longer than 80 columns, and verdicts have their colours."""
    result = shown()
    section = section_of(result)
    assert f"{RED}\x1b[1mREGRESSION" in section or f"\x1b[1m{RED}REGRESSION" in section, section[:300]
    assert re.search(r"\x1b\[3[12]m(\x1b\[1m)?(pass|regression)\x1b\[0m +\|", section)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", section).splitlines()
    assert [line for line in plain if len(line) > 80] == []
    assert any(line.startswith("next: ") for line in plain)


@pytest.mark.parametrize(
    ("arguments", "env"), [((), {"NO_COLOR": "1"}), (("--color=no",), {}), ((), {"TERM": "dumb"})],
    ids=["NO_COLOR", "color=no", "dumb"],
)
def test_colour_only_where_the_terminal_has_it(shown, arguments, env):
    """PT-03: NO_COLOR, --color=no and a terminal that knows none: the words alone."""
    result = shown(*arguments, env=env)
    section = section_of(result)
    assert "Verdict: REGRESSION" in section
    assert "\x1b[" not in section
