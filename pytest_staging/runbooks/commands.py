"""A command of a document against the program that it calls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks import scripts
from pytest_staging.runbooks.grammar import Reading, is_placeholder, read_arguments
from pytest_staging.runbooks.nearest import hint
from pytest_staging.runbooks.project import Program
from pytest_staging.runbooks.scope import Scope, at
from pytest_staging.runbooks.shell import Command, Script, Word, parse_shell

# The metavar of an argument, or its name in capitals, says which kind of name it takes.
KIND_OF = {"PROFILE": "profile", "PRESET": "preset", "SLUG": "version", "SERVICE": "service", "METRIC": "metric",
           "COMPOSE_PROFILE": "compose-profile", "CLASS": "class", "ENV": "environment"}  # fmt: skip
_WRAPPERS = {"sudo", "nice", "nohup", "exec", "command", "time", "env", "timeout", "stdbuf", "ionice", "setsid"}
_READS_FILES = {"cat", "less", "more", "head", "tail", "ls", "source", ".", "bash", "sh", "cp", "diff", "jq", "wc"}
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")


@dataclass
class Folder:
    """Where the commands of a block run; None after a `cd` to somewhere unknown."""

    path: Path | None


class CommandReader:
    """Reads commands of one document."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._project = scope.project

    def program_of(self, words: tuple[Word, ...]) -> tuple[Program | None, tuple[Word, ...]]:
        """The program that is checked by a parser, and its arguments; None and the unwrapped words for others."""
        words = _unwrap(words)
        if not words:
            return None, words
        name = words[0].text.rsplit("/", 1)[-1]
        programs = self._project.programs
        if _PYTHON.fullmatch(name) and len(words) > 2 and words[1].text == "-m":
            module = words[2].text
            found = next((one for one in programs.values() if module in one.modules), None)
            return found, words[3:] if found else words
        if len(words) > 1 and f"{name} {words[1].text}" in programs:
            return programs[f"{name} {words[1].text}"], words[2:]
        if name in programs and not self._is_file(words[0]):
            return programs[name], words[1:]
        return None, words

    def reading_of(self, command: Command) -> Reading | None:
        """Its words by kind, and its subcommands; None for a program without a parser."""
        program, words = self.program_of(command.words)
        return read_arguments(program.parser, words, command.line, whole=False) if program else None

    def steps_of(self, command: Command) -> tuple[str, ...]:
        """The words by which a sequence may name this command: its subcommands, or a script's first argument."""
        reading = self.reading_of(command)
        if reading:
            return tuple(reading.path)
        words = _unwrap(command.words)
        return (words[1].text,) if len(words) > 1 and "/" in words[0].text else ()

    def created_by(self, command: Command) -> set[str]:
        """Versions that a command makes."""
        program, words = self.program_of(command.words)
        if program is None or not program.creates & {word.text for word in words}:
            return set()
        reading = read_arguments(program.parser, words, command.line, whole=False)
        return {word.text for names, word in reading.values if "SLUG" in names}

    def check(self, command: Command, folder: Folder, whole: bool = True) -> list[Problem]:
        """What is wrong with a command; `whole` is false for one that running text only mentions."""
        program, words = self.program_of(command.words)
        if program:
            reading = read_arguments(program.parser, words, command.line, whole and program.whole)
            return self._accepted(reading.problems, words) + self._name_problems(reading, folder)
        if not words:
            return []
        first = words[0]
        if first.text == "cd":
            self._change(folder, words)
            return []
        if first.text in ("bash", "sh") and len(words) > 2 and words[1].text.endswith("c"):
            return self._inner(words[2])
        if first.text == "ssh" and words[-1].text.count(" "):
            return self._inner(words[-1])
        if _PYTHON.fullmatch(first.text.rsplit("/", 1)[-1]) and len(words) > 1 and not words[1].text.startswith("-"):
            words, first = words[1:], words[1]
        if "/" in first.text or first.text.endswith((".sh", ".py")):
            return self._check_script(words, folder)
        if first.text in _READS_FILES:
            return self._check_files(words, folder)
        return []

    def mention_of_option(self, text: str) -> str | None:
        """What is wrong with an option in running text: some program has to know it."""
        name = text.split()[0].partition("=")[0]
        known = self._project.options
        if name in known:
            return None
        return self._scope.option(name, f"no program of this project has the option {name}.{hint(name, known)}")

    def _accepted(self, problems: list[Problem], words: tuple[Word, ...]) -> list[Problem]:
        options = {word.text.partition("=")[0] for word in words if word.text.startswith("-")}
        excused = [f"has no option {name}." for name in options if not self._scope.option(name, "unknown")]
        return [one for one in problems if not any(words in one.message for words in excused)]

    def _name_problems(self, reading: Reading, folder: Folder) -> list[Problem]:
        found = []
        for names, word in reading.values:
            metavar = names[0]
            kind = next((KIND_OF[name] for name in names if name in KIND_OF), None)
            if is_placeholder(word):
                continue
            if metavar == "COMPOSE_FILE":
                found += self._compose_file(word, folder)
            elif metavar == "SCALE":
                found += at(word.line, self._scope.name("service", word.text.partition("=")[0]))
            elif metavar == "FILE_OR_DIR":
                path = word.text.partition("::")[0]
                found += at(word.line, self._scope.word(path, folder.path) if folder.path else None)
            elif metavar == "TARGET":
                found += self._target(word)
            elif kind:
                known = self._project.facts.is_declared(kind)
                found += at(word.line, self._scope.name(kind, word.text) if known else None)
            elif word.text.startswith("version:"):
                found += at(word.line, self._scope.name("version", word.text.partition(":")[2]))
        return found

    def _target(self, word: Word) -> list[Problem]:
        """Also `compose:PROFILE,VERSION=PROFILE@ENVIRONMENT`."""
        name, _, profiles = word.text.partition(":")
        problems = at(word.line, self._scope.name("target", name))
        for part in profiles.split(",") if profiles and not problems else ():
            version, _, profile = part.rpartition("=")
            profile, _, environment = profile.partition("@")
            named = {"version": version, "profile": profile, "environment": environment}
            found = (self._scope.name(kind, text) for kind, text in named.items() if text)
            problems += at(word.line, *found)
        return problems

    def _compose_file(self, word: Word, folder: Folder) -> list[Problem]:
        if folder.path is None or word.text == "-" or (folder.path / word.text).exists():
            return []
        relative = (folder.path / word.text).resolve()
        inside = relative.is_relative_to(self._project.root)
        name = relative.relative_to(self._project.root).as_posix() if inside else word.text
        return at(word.line, self._scope.name("path", name))

    def _inner(self, word: Word) -> list[Problem]:
        """A command within a command, in a folder that nobody knows."""
        return self.check_all(parse_shell(word.text, word.line), Folder(None))

    def check_all(self, script: Script, folder: Folder) -> list[Problem]:
        """A whole shell text."""
        return script.problems + [problem for one in script.commands for problem in self.check(one, folder)]

    def _check_script(self, words: tuple[Word, ...], folder: Folder) -> list[Problem]:
        base = folder.path or self._project.root
        path = base / words[0].text
        if not path.is_file():
            return at(words[0].line, self._scope.word(words[0].text, base))
        if not path.resolve().is_relative_to(self._project.root):
            return []
        passed = scripts.passes_on(path)
        program, given = self.program_of(parse_shell(passed).commands[0].words) if passed else (None, ())
        if program:
            own = [word for word in words[1:] if not scripts.declares(path, word.text)]
            line = words[0].line
            return read_arguments(program.parser, [*given, *own], line, whole=False).problems
        return [Problem("", text, words[0].line) for text in scripts.complaints(path, words[1:])]

    def _check_files(self, words: tuple[Word, ...], folder: Folder) -> list[Problem]:
        named = words[1:-1] if words[0].text == "cp" else words[1:]
        if folder.path is None:
            return []
        plain = [word for word in named if word.literal and not word.text.startswith("-")]
        return [problem for word in plain for problem in at(word.line, self._scope.word(word.text, folder.path))]

    def _change(self, folder: Folder, words: tuple[Word, ...]) -> None:
        goal = folder.path / words[1].text if folder.path and len(words) > 1 and words[1].literal else None
        folder.path = goal if goal and goal.is_dir() else None

    def _is_file(self, word: Word) -> bool:
        return "/" in word.text and word.literal and (self._project.root / word.text).is_file()


def _unwrap(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Without `sudo`, `env A=B`, `timeout 5` and the like in front."""
    while words and words[0].text in _WRAPPERS:
        name, words = words[0].text, words[1:]
        while words and (words[0].text.startswith("-") or (name == "env" and "=" in words[0].text)):
            words = words[1:]
        if name == "timeout":
            words = words[1:]
    return words
