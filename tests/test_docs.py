"""The documents: links lead somewhere, commands are the program's own, and VMs are reached over SSH."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from pytest_staging.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """(document, line) of every staging-manager command in a bash block."""
    return [
        (path.name, line)
        for path in DOCUMENTS
        for block in FENCE.findall(path.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.startswith("staging-manager ")
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    """A link to a file of the repository has its file."""
    missing = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(("document", "line"), commands(), ids=lambda value: value[:60])
def test_commands_are_the_programs_own(document: str, line: str) -> None:
    """A renamed command or flag is found where it is documented."""
    code: object = 0
    with contextlib.redirect_stderr(io.StringIO()) as complaint:
        try:
            build_parser().parse_args(shlex.split(line, comments=True)[1:])
        except SystemExit as leaving:
            code = leaving.code
    assert code == 0, f"{document}: {line}\n{complaint.getvalue()}"


def test_there_are_commands_to_check() -> None:
    """The check above is not empty."""
    assert len(commands()) >= 10


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


def test_readme_begins_with_the_two_commands() -> None:
    """The first screen shows how to try it and how to test it."""
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert "scripts/demo.sh" in first_screen
    assert "scripts/test.sh" in first_screen
