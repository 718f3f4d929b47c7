"""The fast pipeline: what it runs exists and parses, and it may do no more than it has to."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_staging.runbooks.shell import parse_shell

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "ci-fast.yml"
GATES = {"runbook-contract", "capacity-contract", "policy-contract"}


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    """The parsed file; YAML reads its key `on` as true."""
    return dict(yaml.safe_load(WORKFLOW.read_text()))


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    """Every step of every job."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(workflow: dict[Any, Any]) -> list[list[str]]:
    """Every command as its words, once per gate of the matrix."""
    found = []
    for step in steps(workflow):
        for gate in sorted(GATES) if "matrix.gate" in step.get("run", "") else [""]:
            script = parse_shell(step.get("run", "").replace("${{ matrix.gate }}", gate))
            assert script.problems == []
            found += [[word.text for word in command.words] for command in script.commands]
    return found


def test_it_runs_on_each_pull_request(workflow: dict[Any, Any]) -> None:
    """RB-03: every pull request, whatever it changes, with nothing filtered out."""
    assert workflow[True]["pull_request"] is None
    assert "pull_request_target" not in workflow[True]


def test_it_runs_style_types_and_every_gate(workflow: dict[Any, Any]) -> None:
    """RB-03: ruff, mypy, and the three contract gates."""
    found = [words[:2] for words in commands(workflow)]
    assert ["ruff", "check"] in found
    assert ["mypy"] in found
    assert set(workflow["jobs"]["contracts"]["strategy"]["matrix"]["gate"]) == GATES
    for gate in GATES:
        assert ["scripts/test.sh", f"--{gate}"] in found


def test_what_it_runs_exists(workflow: dict[Any, Any]) -> None:
    """RB-03: scripts are there, executable, valid, and know the gates; the extras are those of setup.cfg."""
    script = ROOT / "scripts" / "test.sh"
    assert shutil.which(str(script))
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=20)
    assert re.findall(r"^  --([\w-]+-contract)\)", script.read_text(), re.MULTILINE) != []
    assert set(re.findall(r"^  --([\w-]+-contract)\)", script.read_text(), re.MULTILINE)) == GATES
    settings = (ROOT / "setup.cfg").read_text()
    for words in commands(workflow):
        for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
            assert [one for one in extras.split(",") if not re.search(rf"^{one} =$", settings, re.MULTILINE)] == []


def test_the_gates_have_something_to_check() -> None:
    """RB-03: a gate whose tests were moved away does not pass in silence."""
    assert list((ROOT / "tests" / "capacity").glob("test_*.py"))
    assert list((ROOT / "tests").rglob("test_policy_contract*.py"))


def test_it_may_do_no_more_than_it_has_to(workflow: dict[Any, Any]) -> None:
    """RB-03: read-only, credentials are not kept, each job has a deadline, old runs of a pull request are ended."""
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"].startswith("ci-fast-")
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 20
        assert job["runs-on"].startswith("ubuntu-")
        assert "permissions" not in job
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


def test_actions_are_pinned_to_a_major_version(workflow: dict[Any, Any]) -> None:
    """RB-03: no branch, and no action of an owner that nobody knows."""
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", one)] == []


def test_nothing_of_a_pull_request_is_pasted_into_a_shell(workflow: dict[Any, Any]) -> None:
    """RB-03: titles and branch names are never part of a command."""
    expressions = {found for step in steps(workflow) for found in re.findall(r"\$\{\{(.*?)\}\}", step.get("run", ""))}
    assert {expression.strip() for expression in expressions} <= {"matrix.gate"}
