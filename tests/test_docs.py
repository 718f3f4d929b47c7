"""The documents: which there are, and that VMs are reached over SSH. What they say is held against the program by
`pytest --staging-contracts` (tests/runbooks)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_nothing_recommends_a_way_into_vms_other_than_ssh() -> None:
    """SM-10: commands in VMs run over SSH, in documents and scripts alike; the tutorial shows how."""
    places = [*DOCUMENTS, *(path for path in (ROOT / "scripts").rglob("*") if path.is_file())]
    assert [path.name for path in places if re.search(r"multipass\s+(exec|shell)", path.read_text())] == []
    assert "ssh vm1" in (ROOT / "docs" / "tutorial.md").read_text()


@pytest.mark.parametrize("name", ["quickstart.md", "tutorial.md", "testing.md", "requirements.md", "files.md"])
def test_the_promised_documents_exist(name: str) -> None:
    """SM-10: quickstart, end-to-end tutorial, testing guide and reference are there, and README names them."""
    assert (ROOT / "docs" / name).is_file()
    assert f"docs/{name}" in (ROOT / "README.md").read_text()


def test_the_limits_that_the_performance_page_names_are_measured() -> None:
    """scripts/perf.sh knows every name by which the page calls it, and measures it without being asked."""
    named = set(re.findall(r"scripts/perf\.sh (\w+)", (ROOT / "docs" / "performance.md").read_text()))
    table = (ROOT / "perf" / "limits.py").read_text().partition("\nLIMITS")[2].partition("}")[0]
    assert {"policy", "ssh", "hosts"} <= named
    assert named <= set(re.findall(r'"(\w+)":', table))


def test_readme_begins_with_the_two_commands() -> None:
    """The first screen shows how to try it and how to test it."""
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert "scripts/demo.sh" in first_screen
    assert "scripts/test.sh" in first_screen
