"""A document's checks, one by one: what each looks at, in which line, and what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks.commands import CommandReader, Folder
from pytest_staging.runbooks.directives import Directive, parse_directives
from pytest_staging.runbooks.executing import Block as Executed
from pytest_staging.runbooks.executing import run_block
from pytest_staging.runbooks.generated import check_region, find_regions
from pytest_staging.runbooks.markdown import Code, Fence
from pytest_staging.runbooks.nearest import hint, listed
from pytest_staging.runbooks.order import Step, check_sequence
from pytest_staging.runbooks.project import Project
from pytest_staging.runbooks.scope import Scope, at
from pytest_staging.runbooks.shell import Command, Script, commands_only, parse_shell

SHELLS = {"bash", "sh", "shell", "zsh", "console", "shell-session", "shellsession", "terminal"}
SESSIONS = {"console", "shell-session", "shellsession", "terminal"}
_VARIABLE = re.compile(r"\$?\{?([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])\}?(=.*)?")
_OPTION = re.compile(r"--[a-z][a-z0-9-]*(?:[= ].*)?")
_OPTIONAL = re.compile(r"(?<= )\[(\S[^\]]*?)(?:\.\.\.)?\]")
_LABEL_LENGTH = 60


@dataclass(frozen=True)
class Check:
    """One thing that is looked at. `run` returns what is wrong; `skip` is why it is not to be run."""

    kind: str
    line: int
    label: str
    run: Callable[[], list[Problem]]
    skip: str | None = None


def checks_of(project: Project, path: Path) -> list[Check]:
    """Every check of a document, by line. What each finds is found out when it is run."""
    loaded = project.load(path)
    if loaded.problem:
        problem = loaded.problem
        return [Check("document", problem.line or 1, "readable", lambda: [problem])]
    return sorted(_Reader(project, path).checks(), key=lambda check: check.line)


class _Reader:
    def __init__(self, project: Project, path: Path) -> None:
        self._project = project
        self._path = path
        self._document = project.load(path).document
        self._directives, self._broken = parse_directives(self._document)
        self._scope = Scope(project, path, self._directives)
        self._commands = CommandReader(self._scope)
        skipped = {one.block.line: " ".join(one.words) for one in self._directives if one.name == "skip" and one.block}
        self._skipped = skipped
        self._scripts = {fence.line: self._script(fence) for fence in self._document.fences if _is_shell(fence)}
        mentioned = (self._as_command(code.text) for code in self._document.codes)
        for command in (*(one for script in self._scripts.values() for one in script.commands), *mentioned):
            if command:
                self._scope.created |= self._commands.created_by(command)

    def checks(self) -> list[Check]:
        return [
            *self._structure(),
            *self._blocks(),
            *self._executed(),
            *self._sequences(),
            *self._generated(),
            *self._names(),
            *self._declared_names(),
            *self._exceptions(),
        ]

    def _script(self, fence: Fence) -> Script:
        return parse_shell(commands_only(fence.lines, fence.language in SESSIONS), fence.line + 1)

    def _structure(self) -> Iterator[Check]:
        """Comments that say nothing, and code that does not end."""
        for problem in self._broken:
            yield _failing("directive", problem)
        for fence in self._document.fences:
            if not fence.closed:
                yield _failing("structure", Problem("", "the code block that begins here has no end", fence.line))

    def _blocks(self) -> Iterator[Check]:
        """Shell blocks: one check per command, and one for what is no shell. A skipped block is one skipped check."""
        for fence in self._document.fences:
            if fence.line in self._skipped:
                yield Check("block", fence.line, _short(" ".join(fence.lines)), list, self._skipped[fence.line])
        for line, script in self._scripts.items():
            if line in self._skipped:
                continue
            for problem in script.problems:
                yield _failing("shell", problem)
            folder = Folder(self._project.root)
            for command in script.commands:
                yield Check("command", command.line, _short(command.text()), self._command(command, folder))
            for number in sorted({number for _, number in script.variables}):
                names = sorted({name for name, where in script.variables if where == number})
                run = self._variables(number, names)
                if any(name.startswith(self._project.facts.families) for name in names):
                    yield Check("variables", number, _short(" ".join(names)), run)

    def _command(self, command: Command, folder: Folder) -> Callable[[], list[Problem]]:
        # A `cd` changes the folder of the commands after it, whichever of them are run as tests.
        here = Folder(folder.path)
        if command.words[0].text == "cd":
            self._commands.check(command, folder)
        return lambda: self._commands.check(command, here)

    def _variables(self, line: int, names: Sequence[str]) -> Callable[[], list[Problem]]:
        return lambda: at(line, *(self._scope.name("variable", name) for name in names))

    def _executed(self) -> Iterator[Check]:
        """Blocks to be run: with every set-up block above them, and every tear-down block."""
        before = [self._block(one) for one in self._directives if one.name == "setup"]
        after = [self._block(one) for one in self._directives if one.name == "teardown"]
        for one in self._directives:
            if one.name == "run" and one.block:
                block = self._block(one)
                above = [each for each in before if each.line < block.line]
                skip = self._skipped.get(one.block.line)
                yield Check("run", block.line, _short(block.text), self._run(block, above, after), skip)

    def _block(self, directive: Directive) -> Executed:
        fence = directive.block
        assert isinstance(fence, Fence)
        text = commands_only(fence.lines, fence.language in SESSIONS)
        code = int(directive.options.get("exit", 0))
        return Executed(fence.line, text, directive.timeout_s, code, directive.options.get("output"))

    def _run(self, block: Executed, before: list[Executed], after: list[Executed]) -> Callable[[], list[Problem]]:
        root, made = self._project.root, self._project.facts.places.made
        return lambda: [Problem("", text, line) for line, text in run_block(root, block, before, after, made)]

    def _sequences(self) -> Iterator[Check]:
        steps = [
            Step(command.line, self._commands.steps_of(command))
            for line, script in self._scripts.items()
            for command in script.commands
            if line not in self._skipped
        ]
        steps += [Step(one.block.line, one.words) for one in self._directives if one.name == "step" and one.block]
        steps.sort(key=lambda step: step.line)
        for one in self._directives:
            if one.name == "sequence":
                first, last = self._document.section_of(one.line)
                within = [step for step in steps if first <= step.line <= last]
                yield Check("sequence", one.line, _short(" ".join(one.words)), self._sequence(one, within))

    def _sequence(self, claim: Directive, steps: list[Step]) -> Callable[[], list[Problem]]:
        return lambda: check_sequence(claim.line, claim.words, steps)

    def _generated(self) -> Iterator[Check]:
        regions, problems = find_regions(self._directives)
        for problem in problems:
            yield _failing("directive", problem)
        for region in regions:
            run = (lambda one: lambda: check_region(self._project, self._document.lines, one))(region)
            yield Check("generated", region.line, _short(region.title), run)

    def _names(self) -> Iterator[Check]:
        """Links and inline code, one check per line."""
        by_line: dict[tuple[str, int], list[str]] = {}
        for link in self._document.links:
            by_line.setdefault(("link", link.line), []).append(link.target)
        for code in self._document.codes:
            if self._says_something(code):
                by_line.setdefault(("name", code.line), []).append(code.text)
        for (kind, line), texts in by_line.items():
            look = self._scope.link if kind == "link" else self._mention
            yield Check(kind, line, _short(" ".join(texts)), _looking(line, look, texts))

    def _says_something(self, code: Code) -> bool:
        """Whether inline code has one of the forms that are looked up."""
        text = code.text
        return bool("/" in text or _OPTION.fullmatch(text) or _VARIABLE.fullmatch(text) or self._as_command(text))

    def _as_command(self, text: str) -> Command | None:
        """Inline code that begins with a program, a script, or one of a program's commands and has an option."""
        if " " not in text:
            return None
        script = parse_shell(_OPTIONAL.sub(r"\1", text))
        if script.problems or len(script.commands) != 1:
            return None
        command = script.commands[0]
        program, _ = self._commands.program_of(command.words)
        return command if program or command.words[0].text.startswith("scripts/") else None

    def _mention(self, text: str) -> str | None:
        command = self._as_command(text)
        if command:
            problems = self._commands.check(command, Folder(self._project.root), whole=False)
            return "; ".join(problem.message for problem in problems) or None
        if _OPTION.fullmatch(text):
            return self._commands.mention_of_option(text)
        variable = _VARIABLE.fullmatch(text)
        return self._scope.name("variable", variable[1]) if variable else self._scope.word(text)

    def _declared_names(self) -> Iterator[Check]:
        """`names KIND`: those in the comment, or the inline code of the block below it."""
        for one in self._directives:
            if one.name != "names":
                continue
            kind = one.words[0]
            if kind not in self._scope.kinds:
                yield self._no_kind(one)
                continue
            places = [(one.line, name) for name in one.words[1:]] or self._names_below(one)
            if not places:
                text = f"'staging: names {kind}' finds no inline code in the block below it"
                yield _failing("directive", Problem("", text, one.line))
            for line, name in places:
                yield Check(kind, line, _short(name), _looking(line, self._looking_up(kind), [name]))

    def _looking_up(self, kind: str) -> Callable[[str], str | None]:
        return lambda name: self._scope.name(kind, name)

    def _names_below(self, one: Directive) -> list[tuple[int, str]]:
        block = one.block
        if block is None:
            return []
        inside = [code for code in self._document.codes if block.line <= code.line <= block.end]
        if block.kind == "table_open":
            inside = [code for code in inside if code.column == 0]
        elif block.kind.endswith("list_open"):
            inside = [code for code in inside if code.first]
        return [(code.line, code.text) for code in inside]

    def _exceptions(self) -> Iterator[Check]:
        """An exception of an unknown kind, or one that nothing needs any more."""
        for one in self._scope.exceptions:
            kind, name = one.words[:2]
            if kind not in self._scope.kinds:
                yield self._no_kind(one)
            elif not self._document_names(name):
                text = f"'staging: known {kind} {name}' is left over: nothing in this document names it"
                yield _failing("directive", Problem("", text, one.line))

    def _no_kind(self, one: Directive) -> Check:
        kinds = self._scope.kinds
        text = f"{one.words[0]!r} is no kind of name.{hint(one.words[0], kinds)} Known: {listed(kinds)}."
        return _failing("directive", Problem("", text, one.line))

    def _document_names(self, name: str) -> bool:
        own = {number for comment in self._document.comments for number in range(comment.line, comment.end + 1)}
        return any(name in line for number, line in enumerate(self._document.lines, 1) if number not in own)


def _is_shell(fence: Fence) -> bool:
    prompted = not fence.info and any(line.startswith("$ ") for line in fence.lines)
    return fence.language in SHELLS or prompted


def _failing(kind: str, problem: Problem) -> Check:
    return Check(kind, problem.line or 1, _short(problem.message), lambda: [problem])


def _looking(line: int, look: Callable[[str], str | None], texts: Sequence[str]) -> Callable[[], list[Problem]]:
    return lambda: at(line, *(look(text) for text in texts))


def _short(text: str) -> str:
    """A label of one line that can stand in a test's name."""
    plain = " ".join(text.replace("::", ":").split())
    return plain if len(plain) <= _LABEL_LENGTH else f"{plain[: _LABEL_LENGTH - 3]}..."
