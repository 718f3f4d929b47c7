"""docs/requirements.md is what the tests say: every id that it calls proven is named by the tests that it lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ID = re.compile(r"\b(?:SM|PT|CP|RB|TP|XP)-\d{2}\b")
DOCUMENT = ROOT / "docs" / "requirements.md"


def named_in_tests() -> dict[str, set[str]]:
    """Requirement id to the test files in which a test's docstring names it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for identity in ID.findall(ast.get_docstring(node) or ""):
                    found.setdefault(identity, set()).add(path.relative_to(ROOT).as_posix())
    return found


def rows() -> dict[str, tuple[str, list[str]]]:
    """Id to state and listed files, as the document has them."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and ID.fullmatch(cells[0]):
            found[cells[0]] = (cells[2], re.findall(r"`(tests/[^`]+)`", cells[3]))
    return found


def test_every_proven_requirement_lists_tests_that_name_it() -> None:
    """A listed file must hold a test whose docstring names the requirement."""
    named = named_in_tests()
    wrong = {
        identity: files
        for identity, (state, files) in rows().items()
        if state == "proven" and (not files or set(files) - named.get(identity, set()))
    }
    assert wrong == {}


def test_every_requirement_that_a_test_names_is_in_the_document() -> None:
    """No id is invented, and none is proven in silence."""
    assert set(named_in_tests()) - set(rows()) == set()
    silent = {identity for identity in named_in_tests() if rows()[identity][0] == "open"}
    assert silent == set()
