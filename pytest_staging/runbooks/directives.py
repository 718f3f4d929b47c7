"""Comments that speak to the gate: `<!-- staging: NAME ... -->`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks.markdown import Block, Comment, Document, Fence
from pytest_staging.runbooks.nearest import hint

PREFIX = "staging:"
DEFAULT_TIMEOUT_S = 60.0
_ON_FENCE = ("run", "setup", "teardown", "skip", "step")
_OPTIONS = {"run": ("timeout", "exit", "output"), "setup": ("timeout",), "teardown": ("timeout",)}
_USAGE = {
    "sequence": "sequence STEP STEP...",
    "step": "step NAME",
    "generated": "generated NAME [ARGUMENT...]",
    "end": "end",
    "run": "run [timeout=SECONDS] [exit=CODE] [output=REGEX]",
    "setup": "setup [timeout=SECONDS]",
    "teardown": "teardown [timeout=SECONDS]",
    "skip": "skip REASON",
    "names": "names KIND [NAME...]",
    "known": "known KIND NAME REASON",
}


@dataclass(frozen=True)
class Directive:
    """One comment. `block` is what it speaks about; `options` are those of `run`, as text that has been checked."""

    name: str
    line: int
    end: int
    words: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    block: Block | None = None

    @property
    def timeout_s(self) -> float:
        """Deadline of an executed block."""
        return float(self.options.get("timeout", DEFAULT_TIMEOUT_S))


def parse_directives(document: Document) -> tuple[list[Directive], list[Problem]]:
    """All directives of a document, and what is wrong with those that are left out."""
    found: list[Directive] = []
    problems: list[Problem] = []
    for comment in document.comments:
        if comment.text.startswith(PREFIX):
            try:
                found.append(_parse(comment, document))
            except ValueError as error:
                problems.append(Problem("", f"{error}", comment.line))
    return found, problems


def _parse(comment: Comment, document: Document) -> Directive:
    """Raises ValueError that says what is wrong and how it is written."""
    body = comment.text[len(PREFIX) :].strip()
    name, _, rest = body.partition(" ") if " " in body else (body.split("\n")[0], "", body.partition("\n")[2])
    if not comment.closed:
        raise ValueError(f"the comment 'staging: {name}' is not closed; end it with -->")
    if name not in _USAGE:
        raise ValueError(f"'staging: {name}' is no directive.{hint(name, _USAGE)} Known: {', '.join(_USAGE)}.")
    if not comment.alone and name not in ("names", "known"):
        raise ValueError(f"'staging: {name}' stands within a line of text; give it a line of its own")
    words = rest.split() if name in ("skip", "known") else _split(name, rest)
    options = _options(name, words)
    block = document.block_after(comment.end) if name in _ON_FENCE or name == "names" else None
    directive = Directive(name, comment.line, comment.end, tuple(words), options, block)
    _CHECKS[name](directive)
    if name in _ON_FENCE and not isinstance(block, Fence):
        raise ValueError(f"'staging: {name}' speaks about the code block below it, and there is none")
    return directive


def _split(name: str, rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise ValueError(f"'staging: {name}': {str(error).lower()}") from error


def _options(name: str, words: list[str]) -> dict[str, str]:
    """Takes `key=value` of the directives that have such options."""
    if name not in _OPTIONS:
        return {}
    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in _OPTIONS[name]:
            raise ValueError(f"'staging: {name}' knows no {word!r}. Write: {_USAGE[name]}")
        options[key] = value
    _check_number(options, "timeout", lambda text: 0 < float(text) <= 3600, "seconds, from more than 0 to 3600")
    _check_number(options, "exit", lambda text: 0 <= int(text) <= 255, "an exit code from 0 to 255")
    if "output" in options:
        try:
            re.compile(options["output"])
        except re.error as error:
            raise ValueError(f"output={options['output']!r} is no regular expression: {error}") from error
    return options


def _check_number(options: dict[str, str], key: str, good: Callable[[str], bool], what: str) -> None:
    if key not in options:
        return
    try:
        fine = good(options[key])
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"{key}={options[key]} is not {what}")


def _need(count: int, reason: str) -> Callable[[Directive], None]:
    def check(directive: Directive) -> None:
        if len(directive.words) < count:
            raise ValueError(f"'staging: {directive.name}' {reason}. Write: {_USAGE[directive.name]}")

    return check


def _nothing(directive: Directive) -> None:
    if directive.words:
        raise ValueError(f"'staging: {directive.name}' takes nothing, and has {' '.join(directive.words)!r}")


def _anything(directive: Directive) -> None:
    """Options were checked when they were read."""


_CHECKS: dict[str, Callable[[Directive], None]] = {
    "sequence": _need(2, "names at least two steps"),
    "step": _need(1, "names the step"),
    "generated": _need(1, "names what makes the block"),
    "end": _nothing,
    "run": _anything,
    "setup": _anything,
    "teardown": _anything,
    "skip": _need(1, "has no reason"),
    "names": _need(1, "names the kind"),
    "known": _need(3, "needs the kind, the name and the reason"),
}
