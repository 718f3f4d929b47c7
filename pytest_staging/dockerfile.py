"""What a Dockerfile builds on: the images that it names and does not make itself. Text in, names out.

Only what decides that is read: FROM, the ARGs before it, COPY --from, RUN --mount=from=, and `# syntax=`. In doubt a
name too many is given: an image that plays no part can only cost a build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pytest_staging.model.errors import ContractError, Problem

_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(.+?)\s*", re.IGNORECASE)
# Words may hold quoted spaces; quotes stay, because single ones keep variables from being replaced.
_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s])+""")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
# Declared by BuildKit itself.
_PREDECLARED = re.compile(r"(?:BUILD|TARGET)(?:PLATFORM|OS|OSVERSION|ARCH|VARIANT)")
_ADVICE = (
    "Correct it. Values of variables come from image.arguments in service.yaml, "
    "or from ARG NAME=VALUE before the first FROM."
)


class _Instruction(NamedTuple):
    line: int
    keyword: str
    flags: dict[str, list[str]]
    words: list[str]


def parse_bases(text: str, arguments: Mapping[str, str], source: str = "Dockerfile") -> tuple[str, ...]:
    """Names of the images that it builds on, in order, each once, as they are written; of all stages.

    `arguments` are the build's own. Raises ContractError, with lines of the file `source`, for what no builder could
    build: no FROM, one without an image, a name with a variable that has no value.
    """
    file = _Dockerfile(arguments)
    directives = _read_directives(text)
    if "syntax" in directives:
        file.bases[directives["syntax"]] = None
    for instruction in _split_instructions(text, directives.get("escape", "\\"), file.problems):
        file.read(instruction)
    if not file.stages and not file.problems:
        file.problems.append(Problem("", "has no FROM, the image to begin with"))
    if file.problems:
        raise ContractError(source, file.problems, _ADVICE)
    return tuple(file.bases)


class _Dockerfile:
    """What is known up to the current line."""

    def __init__(self, arguments: Mapping[str, str]) -> None:
        self._given = arguments
        self._variables = {name: value for name, value in arguments.items() if _PREDECLARED.fullmatch(name)}
        self.bases: dict[str, None] = {}  # a set in order
        self.stages: list[str] = []
        self.problems: list[Problem] = []

    def read(self, instruction: _Instruction) -> None:
        line, keyword, flags, words = instruction
        if keyword == "ARG" and not self.stages:
            self._declare(words)
        elif keyword == "FROM":
            self._begin_stage(words, line)
        elif keyword == "COPY":
            for name in flags.get("from", []):
                self._use(name, line)
        elif keyword == "RUN":
            for mount in flags.get("mount", []):
                for key, _, name in (setting.partition("=") for setting in mount.split(",")):
                    if key.strip().lower() == "from":
                        self._use(name, line)

    def _declare(self, words: list[str]) -> None:
        for word in words:
            name, sign, default = word.partition("=")
            self._variables.pop(name, None)
            value = self._given.get(name)
            if value is None and sign:
                # Only a use of the variable is an error, and is reported there.
                value, missing = _expand(default, self._variables)
                if missing:
                    continue
            if value is not None:
                self._variables[name] = value

    def _begin_stage(self, words: list[str], line: int) -> None:
        image, missing = _expand(words[0], self._variables) if words else ("", [])
        self.problems += [Problem("FROM", f"{name} has no value", line) for name in missing]
        if not image and not missing:
            self.problems.append(Problem("FROM", "names no image", line))
        # Stages have numbers too, but FROM does not know them.
        if not missing and image != "scratch" and image.lower() not in self.stages:
            self.bases[image] = None
        named = len(words) == 3 and words[1].upper() == "AS"
        self.stages.append(words[2].lower() if named else "")

    def _use(self, name: str, line: int) -> None:
        """An image or an earlier stage as a source of files."""
        if "$" in name:
            self.problems.append(Problem("from", f"{name}: builders take no variables here", line))
        elif name.isdecimal() and int(name) < len(self.stages):
            return
        elif name and name != "scratch" and name.lower() not in self.stages:
            self.bases[name] = None


def _read_directives(text: str) -> dict[str, str]:
    """The `# name=value` lines at the top; anything else ends them."""
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").split("\n"):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        found.setdefault(match[1].lower(), match[2])
    return found


def _split_instructions(text: str, escape: str, problems: list[Problem]) -> Iterator[_Instruction]:
    """Instructions with their continued lines joined, without comments and the bodies of heredocs."""
    continued = re.compile(rf"(?:(?<!{re.escape(escape)})|^){re.escape(escape)}[ \t]*$")
    lines = enumerate((line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")), 1)
    pending, first = "", 0
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue  # also between continued lines
        first = first if pending else number
        pending += line if pending else line.lstrip()
        if continued.search(line):
            pending = continued.sub("", pending) or " "
            continue
        yield (instruction := _parse_instruction(pending, first))
        pending = ""
        for body_end, indented in _find_heredocs(instruction):
            ended = any((body.lstrip("\t") if indented else body) == body_end for _, body in lines)
            if not ended:
                problems.append(Problem(instruction.keyword, f"<<{body_end} has no end", first))
    if pending.strip():
        yield _parse_instruction(pending, first)


def _parse_instruction(text: str, line: int) -> _Instruction:
    keyword, *words = _WORD.findall(text)
    flags: dict[str, list[str]] = {}
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        flags.setdefault(name, []).append(re.sub(r"[\"']", "", value))
    return _Instruction(line, keyword.upper(), flags, words)


def _find_heredocs(instruction: _Instruction) -> list[tuple[str, bool]]:
    """The last line of each body that follows, and whether tabs before it do not count."""
    if instruction.keyword not in ("RUN", "COPY", "ADD"):
        return []
    matches = [_HEREDOC.fullmatch(word) for word in instruction.words]
    return [(re.sub(r"[\"']", "", match[2]), bool(match[1])) for match in matches if match]


def _expand(word: str, variables: Mapping[str, str]) -> tuple[str, list[str]]:
    """The word without quotes and with its variables' values; and what has none: $NAME, or what is not understood."""
    return _Expansion(word, variables).run()


class _Expansion:
    """One word, read from left to right. `${NAME:-word}` holds words of its own."""

    def __init__(self, word: str, variables: Mapping[str, str]) -> None:
        self._word, self._variables = word, variables
        self._position = 0
        self._missing: list[str] = []

    def run(self) -> tuple[str, list[str]]:
        return self._read_until(""), self._missing

    def _read_until(self, end: str) -> str:
        parts: list[str] = []
        quoted = False
        while self._position < len(self._word):
            sign = self._take()
            if sign == end and not quoted:
                return "".join(parts)
            if sign == '"':
                quoted = not quoted
            elif sign == "'" and not quoted:
                parts.append(self._take_match(r"[^']*"))
                self._position += 1
            elif sign == "\\":
                parts.append(self._take())
            else:
                parts.append(self._read_variable() if sign == "$" else sign)
        return "".join(parts)

    def _take(self) -> str:
        self._position += 1
        return self._word[self._position - 1 : self._position]

    def _take_match(self, pattern: str) -> str:
        match = re.compile(pattern, re.ASCII).match(self._word, self._position)
        self._position += len(match[0]) if match else 0
        return match[0] if match else ""

    def _read_variable(self) -> str:
        if not self._take_match(r"\{"):
            name = self._take_match(r"\w+")
            return self._value(name) if name else "$"
        name, operator = self._take_match(r"\w+"), self._take_match(r":?[-+?]")
        if not operator:
            rest = self._read_until("}")
            if rest:
                self._missing.append(f"${{{name}{rest}}}")  # ${NAME#pattern} and its kind
                return ""
            return self._value(name)
        found, kind = self._variables.get(name), operator[-1]
        is_set = bool(found) if operator[0] == ":" else found is not None
        missing_before = len(self._missing)
        word = self._read_until("}")
        if is_set if kind == "+" else not is_set and kind == "-":
            return word
        del self._missing[missing_before:]  # in a word that is not used
        return "" if kind == "+" else self._value(name)

    def _value(self, name: str) -> str:
        if name not in self._variables:
            self._missing.append(f"${name}")
        return self._variables.get(name, "")
