"""`staging-manager report`: every format from a campaign's folder, the same everywhere; plain words for mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path += [path for folder in ("session", "verdict")
             if (path := str(Path(__file__).parents[1] / folder)) not in sys.path]
from crafted import fill, plan, regressing

from pytest_staging import durable, store
from pytest_staging.campaign.evidence import load_record
from pytest_staging.cli import main
from pytest_staging.cli.report import RENDERERS, renderer_of
from pytest_staging.reports.aggregate import render_json
from pytest_staging.reports.markdown import render_report
from pytest_staging.store import Workspace

TEXT = [name for name in RENDERERS if name != "html"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace with a finished campaign `c` whose candidate regressed."""
    root = tmp_path_factory.mktemp("report") / "w"
    fill(root, plan(root, runs=8), regressing)
    record = load_record(Workspace(root), "c")
    # As a campaign writes them at its end.
    store.write_json(record.folder / "aggregate-comparison.json", record.aggregate)
    durable.write_text(record.folder / "aggregate-comparison.md", render_report(record.aggregate))
    return root


def report(root, *arguments, cwd=None, env=None):
    """The program as a user runs it; its output as bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_staging", "--root", str(root), "report", *arguments],
        cwd=cwd or root, env={**os.environ, **(env or {})}, capture_output=True, timeout=180, check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def call(root, *arguments):
    """The same within this process."""
    return main(["--root", str(root), "report", *arguments])


@pytest.mark.parametrize("name", TEXT)
def test_text_goes_to_the_output_or_to_a_file(root, tmp_path, capsysbinary, name):
    """XP-05: every text format is printed, or written whole to --output, and is the same both times."""
    assert call(root, "c", "--format", name) == 0
    printed = capsysbinary.readouterr().out
    path = tmp_path / "report.txt"
    assert call(root, "c", "--format", name, "--output", str(path)) == 0
    assert path.read_bytes() == printed
    assert printed.endswith(b"\n")
    assert capsysbinary.readouterr().out == f"wrote {path}\n".encode()


@pytest.mark.parametrize("name", ["json", "bmf", "customSmallerIsBetter", "customBiggerIsBetter"])
def test_json_is_strict(root, capsys, name):
    """XP-05: what is called JSON is JSON: no NaN, nothing beside it."""
    def refuse(constant):
        raise AssertionError(constant)

    assert call(root, "c", "--format", name) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=refuse)


@pytest.mark.parametrize(("name", "file"), [("md", "aggregate-comparison.md"), ("json", "aggregate-comparison.json")])
def test_the_campaigns_own_files_again(root, capsysbinary, name, file):
    """SM-08: md and json are byte for byte what the campaign wrote at its end."""
    assert call(root, "c", "--format", name) == 0
    assert capsysbinary.readouterr().out == (root / "campaigns" / "c" / file).read_bytes()


def test_markdown_is_the_same_on_any_machine(root, tmp_path):
    """XP-05: the same folder gives the same bytes whatever the locale, zone, width, hash seed and place."""
    elsewhere = tmp_path / "elsewhere" / "w"
    shutil.copytree(root, elsewhere)
    machines = [
        (root, root, {"LC_ALL": "C", "TZ": "UTC", "COLUMNS": "40", "PYTHONHASHSEED": "1", "PYTHONUTF8": "0",
                      "PYTHONCOERCECLOCALE": "0"}),
        (root, Path("/"), {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "COLUMNS": "300", "PYTHONHASHSEED": "2",
                           "NO_COLOR": "1"}),
        (elsewhere, tmp_path, {"LANG": "de_DE.UTF-8", "TZ": "America/St_Johns", "PYTHONHASHSEED": "random",
                               "PYTHONIOENCODING": "latin-1", "FORCE_COLOR": "1"}),
    ]
    found = [report(place, "c", "--format", "md", cwd=cwd, env=env) for place, cwd, env in machines]
    assert [one.returncode for one in found] == [0, 0, 0], [one.stderr for one in found]
    assert len({one.stdout for one in found}) == 1
    assert "–".encode() in found[0].stdout, "there is something that a locale could spoil"
    assert found[0].stdout == (root / "campaigns" / "c" / "aggregate-comparison.md").read_bytes()


@pytest.mark.parametrize("name", RENDERERS)
def test_every_format_has_its_renderer(name):
    """XP-05: each name of the table leads to a function of its own; html's needs no extra to be imported."""
    if name == "html":
        pytest.importorskip("pytest_staging.reports.html", reason="the HTML report is not there")
    assert callable(renderer_of(name))
    assert len({RENDERERS[one] for one in RENDERERS}) == len(RENDERERS)


def test_html_is_written_beside_the_campaign_and_opened(root, capsys, monkeypatch):
    """XP-05: html is the default; --open hands the file to a browser, and says so when there is none."""
    pytest.importorskip("pytest_staging.reports.html", reason="the HTML report is not there")
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    pytest.importorskip("altair", reason="the extra `report` is not installed")
    path = root / "campaigns" / "c" / "report.html"
    marker = root / "opened.txt"
    browser = root / "browser.sh"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {marker}\n')
    browser.chmod(0o755)
    done = report(root, "c", "--open", env={"BROWSER": f"{browser} %s"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "wrote campaigns/c/report.html\n"
    assert path.read_text().lstrip().lower().startswith("<!doctype html")
    assert marker.read_text() == path.as_uri()
    alone = report(root, "c", "--open", env={"BROWSER": "/no/such/browser", "PATH": "/nowhere", "DISPLAY": ""})
    assert alone.returncode == 1
    assert "no browser could be started" in alone.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["c2"], 2, ["there is no campaign 'c2'", "Did you mean c?"]),
        (["20260101-nothing-like-it"], 2, ["there is no campaign", "The latest are c."]),
        (["../c"], 2, ["campaign id"]),
        (["c", "--format", "md", "--open"], 2, ["--open goes with --format html"]),
        (["c", "--format", "md", "--output", "/proc/nothing/x.md"], 1, ["cannot write /proc/nothing/x.md"]),
    ],
    ids=["near", "far", "unsafe", "open", "unwritable"],
)
def test_mistakes(root, capsys, arguments, code, words):
    """XP-05: an unknown campaign names the nearest ones; what cannot be done is said, with exit 2 or 1."""
    assert call(root, *arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    for word in words:
        assert word in said.err


def test_an_unknown_format_names_all(root, capsys):
    """XP-05: exit 2, and every format is named."""
    with pytest.raises(SystemExit) as caught:
        call(root, "c", "--format", "xml")
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in RENDERERS)


def test_an_output_that_is_no_file_is_written_to(root, tmp_path):
    """XP-05: --output /dev/stdout prints, a link keeps leading where it led, a folder is refused."""
    printed = report(root, "c", "--format", "md", "--output", "/dev/stdout").stdout.decode()
    assert printed.startswith("# Campaign c")
    assert Path("/dev/stdout").is_symlink()
    target, link = tmp_path / "target.md", tmp_path / "link.md"
    link.symlink_to(target)
    assert call(root, "c", "--format", "md", "--output", str(link)) == 0
    assert link.is_symlink()
    assert target.read_text().startswith("# Campaign c")
    assert call(root, "c", "--format", "md", "--output", str(tmp_path)) == 1


def test_history_keeps_a_link_too(root, tmp_path, capsys):
    """XP-04: --output writes to where a link or /dev/stdout leads, as in `report`."""
    target, link = tmp_path / "real.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    assert main(["--root", str(root), "history", "--output", str(link)]) == 0
    assert link.is_symlink()
    assert target.read_text().startswith("campaigns: 1")


def test_a_changed_benchmark_is_refused(root, tmp_path):
    """SM-11: a report with another benchmark than the pinned one fails and names the file, without a traceback."""
    other = tmp_path / "w"
    shutil.copytree(root, other)
    path = other / "campaigns" / "c" / "benchmark" / "benchmark.yaml"
    path.write_text(path.read_text() + "\n# changed\n")
    done = report(other, "c", "--format", "md")
    assert done.returncode == 2
    assert b"benchmark.yaml" in done.stderr
    assert done.stdout == b""


def test_a_reader_that_stops_early_is_no_error(root):
    """XP-05: `report ... | head` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m pytest_staging --root {root} report c --format json | head -c 1",
        shell=True, capture_output=True, text=True, timeout=180, check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_json_of_a_record_is_what_the_store_writes(root, tmp_path):
    """SM-08: the two ways to write JSON agree."""
    record = load_record(Workspace(root), "c")
    store.write_json(tmp_path / "a.json", record.aggregate)
    assert (tmp_path / "a.json").read_text() == render_json(record)
