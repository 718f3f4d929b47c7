"""What a script of the project takes, read from its text: options, commands, and what it passes on to which program."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pytest_staging.runbooks.grammar import is_placeholder
from pytest_staging.runbooks.nearest import hint
from pytest_staging.runbooks.shell import Word

_LABEL = re.compile(r"^\s*\(?\s*([\w.*?-]+(?:\s*\|\s*[\w.*?-]+)*)\s*\)", re.MULTILINE)
_FIRST_ARGUMENT = re.compile(r'\bcase\s+"?\$(?:1|\{1[^}]*\}|\{?(?:arg|opt|option)\}?)"?\s+in(.*?)\besac\b', re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_PASSED = re.compile(r'^\s*(?:if\b.*?\bthen\s+)?(?:exec\s+)?(.*?)\s"\$@"', re.MULTILINE)
_ENVIRONMENT = re.compile(r'"?\$\{?VENV\}?[^\s"]*/bin/([\w-]+)"?')


def _text(path: Path) -> str:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError):
        return ""


@cache
def _read(path: Path, changed_at_ns: int) -> str:
    """Once per state of the file."""
    return path.read_text(encoding="utf-8")


def passes_on(path: Path) -> str | None:
    """The command to which a shell script gives all of its arguments (`exec pytest "$@"`), without them."""
    if path.suffix == ".py":
        return None
    found = [match[1] for match in _PASSED.finditer(_text(path))]
    # A path into a virtual environment names the program as well as its bare name does.
    plain = [_ENVIRONMENT.sub(r"\1", command) for command in found]
    return next((command for command in plain if command and re.match(r"[\w.-]", command)), None)


def declares(path: Path, word: str) -> bool:
    """Whether a label of the script's `case` over its arguments is that word."""
    return word in _labels(path)


def complaints(path: Path, words: Sequence[Word]) -> list[str]:
    """What is wrong with the arguments of a script that declares what it takes; nothing for one that does not."""
    options = _options(path)
    found = []
    for word in words:
        name = word.text.partition("=")[0]
        if word.literal and name.startswith("--") and len(name) > 2 and options and name not in options:
            found.append(f"{path.name} has no option {name}.{hint(name, options)}")
    commands = {label for label in _labels(path) if not label.startswith("-")}
    first = words[0] if words else None
    checked = first and commands and "*" not in commands and not is_placeholder(first)
    if first and checked and not first.text.startswith("-") and first.text not in commands:
        found.append(f"{path.name} has no command {first.text!r}.{hint(first.text, commands)}")
    return found


def every_script_option(root: Path) -> frozenset[str]:
    """Options that scripts of the project declare."""
    scripts = [*(root / "scripts").rglob("*.sh"), *(root / "scripts").rglob("*.py"), *(root / "perf").glob("*.py")]
    return frozenset(option for path in scripts for option in _options(path))


def _labels(path: Path) -> set[str]:
    """Labels of `case "$1" in`; a catch-all counts only when it does something else than complain."""
    found: set[str] = set()
    for block in _FIRST_ARGUMENT.findall(_text(path)):
        for labels in _LABEL.findall(block):
            found |= {label.strip() for label in labels.split("|")}
        if re.search(r"\*\)\s*(?:die|fail|usage|echo|printf|exit)\b", block):
            found.discard("*")
    return found


def _options(path: Path) -> set[str]:
    """Long options in labels and usage lines of a shell script, or in the add_argument calls of a Python one."""
    if path.suffix != ".py":
        usage = " ".join(line for line in _text(path).splitlines() if re.match(r"\s*#?\s*usage:", line, re.IGNORECASE))
        return {label for label in _labels(path) if label.startswith("--")} | set(_OPTION.findall(usage))
    try:
        tree = ast.parse(_text(path))
    except SyntaxError:
        return set()
    return {
        str(argument.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("--")
    }
