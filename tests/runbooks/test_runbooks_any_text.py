"""Whatever stands in a document, the gate answers with findings that have lines, and never with a traceback."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest

from pytest_staging.runbooks.checking import checks_of
from pytest_staging.runbooks.facts import Places
from pytest_staging.runbooks.project import Program, Project
from pytest_staging.wiring import documents

ROOT = Path(__file__).resolve().parent.parent.parent
PIECES = (
    "`", "```bash\n", "~~~", "<!-- staging: ", "-->", "$(", '"', "'", "\\", "<<EOF\n", "{", "[", "](", "#", "|", "\n\n",
    "    ", "- ", "> ", "\r\n", "\0", "\u2028", "ü", "$", "${", "((", "staging-manager ", "--", "docker compose ", "-f",
    "pytest ", "scripts/", "*", "<", "..", "~", "known ", "names ", "skip ", "generated ", "sequence ", "cd ",
    "timeout 5 ", "env ", "python -m ", "ssh h 'a b", "bash -c ", "http://[", "%zz", "x" * 5000,
)  # fmt: skip


@pytest.fixture(scope="module")
def project() -> Project:
    """This repository, with a pytest that knows no option."""
    own = Program("pytest", argparse.ArgumentParser(prog="pytest"), whole=False)
    return documents.make_contracts(Places(root=ROOT), own, {}, {}, ["local"])


def damaged(text: str, chance: random.Random) -> str:
    """A piece of a document with some things put in and some left out."""
    start = chance.randrange(len(text))
    text = text[start : start + chance.randrange(2500)]
    for _ in range(chance.randrange(12)):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(PIECES) + text[at + chance.choice((0, 0, 1, 5, 40)) :]
    return text


def test_damaged_documents_are_judged_and_never_crash(project: Project, tmp_path: Path) -> None:
    """RB-02: 300 damaged documents, from a fixed seed; every check has a line of its document."""
    chance = random.Random(7)
    texts = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    judged = found = 0
    for number in range(300):
        path = tmp_path / f"{number}.md"
        path.write_bytes(damaged(chance.choice(texts), chance).encode())
        lines = len(project.load(path).document.lines)
        for check in checks_of(project, path):
            assert 1 <= check.line <= lines, (path.read_text(), check.line)
            judged += 1
            found += bool(check.kind != "run" and check.run())
    assert judged > 500
    assert found > 50


@pytest.mark.parametrize("text", ["", "\n", "---\na: b\n---\n", "<!--", "```", "[x](http://[)", "[x](%00)", "[x](#)"])
def test_odd_documents_are_read(project: Project, tmp_path: Path, text: str) -> None:
    """RB-02: empty ones, front matter, addresses that are none."""
    path = tmp_path / "odd.md"
    path.write_text(text)
    project.forget(path)
    for check in checks_of(project, path):
        check.run()
