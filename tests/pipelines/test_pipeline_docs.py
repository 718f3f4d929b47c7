"""docs/pipelines.md: its jobs are YAML whose commands are the programs' own, and its table is the table of formats."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_staging.cli import build_parser
from pytest_staging.cli.report import RENDERERS

TEXT = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text(encoding="utf-8")
JOBS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)]


def commands(jobs):
    """Every command line of the jobs, GitHub's and GitLab's, as words."""
    github, gitlab = jobs
    lines = [step["run"] for step in github["jobs"]["campaign"]["steps"] if "run" in step]
    return [shlex.split(line) for line in [*lines, *gitlab["campaign"]["script"]]]


def test_commands_of_the_jobs():
    """XP-05: what the jobs call parses, and every option of pytest is one that it has with the plugin."""
    found = commands(JOBS)
    assert {words[0] for words in found} == {"pip", "pytest", "staging-manager"}
    shown = subprocess.run([sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"], capture_output=True,
                           text=True, timeout=300, check=True).stdout
    for words in found:
        if words[0] == "staging-manager":
            assert callable(build_parser().parse_args(words[1:]).run)
        if words[0] == "pytest":
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            assert "--staging-campaign" in options
            # pytest takes --junitxml, and shows it as --junit-xml.
            known = {one.replace("-", "") for one in re.findall(r"--[a-z-]+", shown)}
            assert [one for one in options if one.replace("-", "") not in known] == []


def test_a_jobs_junit_file_is_the_one_that_is_uploaded():
    """PT-05: GitLab reads the file that pytest writes."""
    gitlab = JOBS[1]["campaign"]
    assert any(f"--junitxml={gitlab['artifacts']['reports']['junit']}" in line for line in gitlab["script"])


@pytest.mark.parametrize("name", RENDERERS)
def test_every_format_is_explained(name):
    """XP-05: the table of formats has a row for each."""
    rows = [line for line in TEXT.splitlines() if line.startswith("| `") and line.count("|") == 3]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)
