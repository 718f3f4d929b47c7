"""Shell text to the simple commands in it, with lines. Nothing is run or expanded.

Knows continuations, comments, quotes, pipes and lists, here-documents, redirections, substitutions and the reserved
words around commands; enough to find every command that a document tells its reader to type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytest_staging.model.errors import Problem, ShellTextBroken

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNMENT = re.compile(rf"({NAME})\+?=")
_PLACEHOLDER = re.compile(r"<([A-Za-z][\w .-]*)>(?=\s|$)")
_REDIRECTION = re.compile(r"\d*(?:<<<|<<-?|>>|>\||<>|[<>]&?|&>>?)")
_BEFORE = {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"}
_ALONE = {"fi", "done", "esac", "}", ";;"}
_NO_COMMAND = {"for", "select", "case", "function", "[[", "(("}


@dataclass(frozen=True)
class Word:
    """A word without its quotes. `literal` is false where the shell would put something in."""

    text: str
    line: int
    literal: bool = True


@dataclass(frozen=True)
class Command:
    """A simple command: `words[0]` is the program. `assigned` are the variables that it gets in front."""

    words: tuple[Word, ...]
    assigned: tuple[str, ...] = ()
    line: int = 1

    def text(self) -> str:
        """The words as one line, for labels."""
        return " ".join(word.text for word in self.words)


@dataclass
class Script:
    """What a shell text consists of. `variables` are those that it sets or uses, with their lines."""

    commands: list[Command] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    variables: list[tuple[str, int]] = field(default_factory=list)


def parse_shell(text: str, line: int = 1) -> Script:
    """`line` is that of the text's first line. What cannot be shell is a problem of the result."""
    reader = _Reader(text, line)
    try:
        reader.read_list(end="")
    except ShellTextBroken as broken:
        reader.script.problems.append(Problem("", broken.reason, broken.line))
    except RecursionError:
        reader.script.problems.append(Problem("", "is nested too deeply", line))
    return reader.script


class _Reader:
    def __init__(self, text: str, line: int, script: Script | None = None) -> None:
        self.text = text
        self.at = 0
        self.script = script or Script()
        self._counted = (0, line)
        self._pending: list[tuple[str, bool, int]] = []

    @property
    def line(self) -> int:
        # Counted on from the last place that was asked for, or long texts would take for ever.
        at, line = self._counted
        line += self.text.count("\n", at, self.at) if self.at >= at else -self.text.count("\n", self.at, at)
        self._counted = (self.at, line)
        return line

    def read_list(self, end: str) -> None:
        """Commands up to `end` (a closing parenthesis) or the end of the text."""
        opened, depth = self.line, 0
        words: list[Word] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                self._skip_to_line_end()
            elif char == "\n":
                words = self._flush(words)
                self.at += 1
                self._skip_here_documents()
            elif char in " \t":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char == ")" and depth == 0 and end:
                self._flush(words)
                self.at += 1
                return
            elif found := _REDIRECTION.match(self.text, self.at):
                self._redirect(found)
            elif char in ";&|()":
                depth += {"(": 1, ")": -1 if depth else 0}.get(char, 0)
                words = self._flush(words)
                self.at += 1
            else:
                words.append(self._word())
        self._flush(words)
        if end:
            raise ShellTextBroken("'(' is not closed", opened)
        if self._pending:
            name, _, line = self._pending[0]
            raise ShellTextBroken(f"the here-document {name!r} has no end", line)

    def _flush(self, words: list[Word]) -> list[Word]:
        """Makes a command of the words so far; returns the empty list for the next one."""
        while words and words[0].text in _BEFORE and words[0].literal:
            words = words[1:]
        if not words or words[0].text in _ALONE or words[0].text in _NO_COMMAND:
            return []
        assigned = []
        line = words[0].line
        while words and (found := _ASSIGNMENT.match(words[0].text)):
            assigned.append(found[1])
            self.script.variables.append((found[1], words[0].line))
            words = words[1:]
        if words and words[0].text in ("export", "local", "declare", "readonly"):
            for word in words[1:]:
                name = word.text.partition("=")[0]
                if re.fullmatch(NAME, name):
                    self.script.variables.append((name, word.line))
        if words:
            self.script.commands.append(Command(tuple(words), tuple(assigned), line))
        return []

    def _skip_to_line_end(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _redirect(self, found: re.Match[str]) -> None:
        placeholder = _PLACEHOLDER.match(self.text, self.at)
        if placeholder:
            name = re.sub(r"\W", "_", placeholder[1]).upper()
            message = f"<{placeholder[1]}> redirects files in a shell; write a name in capitals, as {name}"
            self.script.problems.append(Problem("", message, self.line))
            self.at = placeholder.end()
            return
        line, operator = self.line, found[0].lstrip("0123456789")
        self.at = found.end()
        if operator in ("<", ">") and self.text.startswith("(", self.at):
            self.at += 1
            self.read_list(end=")")
            return
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        target = self._word()
        if operator in ("<<", "<<-"):
            self._pending.append((target.text, operator == "<<-", line))

    def _skip_here_documents(self) -> None:
        for name, tabs, line in self._pending:
            while True:
                if self.at >= len(self.text):
                    raise ShellTextBroken(f"the here-document {name!r} has no end", line)
                start = self.at
                self._skip_to_line_end()
                content = self.text[start : self.at]
                self.at += 1
                if (content.lstrip("\t") if tabs else content) == name:
                    break
        self._pending.clear()

    def _word(self) -> Word:
        line, parts, literal = self.line, [], True
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\n;&|()<>":
                break
            if char == "\\":
                parts.append(self.text[self.at + 1 : self.at + 2].strip("\n"))
                self.at += 2
            elif char == "'":
                parts.append(self._single_quoted())
            elif char == '"':
                literal = self._double_quoted(parts) and literal
            elif char in "$`":
                literal = not self._expansion(parts) and literal
            else:
                literal = literal and char not in "*?["
                parts.append(char)
                self.at += 1
        return Word("".join(parts), line, literal)

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ShellTextBroken("' is not closed", self.line)
        content = self.text[self.at + 1 : end]
        self.at = end + 1
        return content

    def _double_quoted(self, parts: list[str]) -> bool:
        """True when nothing is put in."""
        opened, literal = self.line, True
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return literal
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                parts.append(self.text[self.at + 1].strip("\n"))
                self.at += 2
            elif char in "$`":
                literal = not self._expansion(parts) and literal
            else:
                parts.append(char)
                self.at += 1
        raise ShellTextBroken('" is not closed', opened)

    def _expansion(self, parts: list[str]) -> bool:
        """Takes what begins with $ or a backtick; false when it is only that character."""
        start = self.at
        rest = self.text[start : start + 200]
        if rest[0] == "`":
            end = self.text.find("`", start + 1)
            if end < 0:
                raise ShellTextBroken("` is not closed", self.line)
            _Reader(self.text[start + 1 : end], self.line, self.script).read_list(end="")
            self.at = end + 1
        elif rest.startswith("$(("):
            end = self.text.find("))", start)
            if end < 0:
                raise ShellTextBroken("'$((' is not closed", self.line)
            self.at = end + 2
        elif rest.startswith("$("):
            self.at += 2
            self.read_list(end=")")
        elif rest.startswith("${"):
            end = self.text.find("}", start)
            if end < 0:
                raise ShellTextBroken("'${' is not closed", self.line)
            self._use(self.text[start + 2 : end])
            self.at = end + 1
        elif found := re.match(rf"\$({NAME}|[0-9@*#?$!-])", rest):
            self._use(found[1])
            self.at += found.end()
        else:
            parts.append(rest[0])
            self.at += 1
            return False
        parts.append(self.text[start : self.at])
        return True

    def _use(self, inner: str) -> None:
        found = re.match(rf"[#!]?({NAME})", inner)
        if found:
            self.script.variables.append((found[1], self.line))


def commands_only(lines: tuple[str, ...], session: bool) -> str:
    """The text of a block without prompts; in a session, lines that no prompt begins are output and become empty.

    A block in which a line begins with `$ ` is a session, whatever it is called.
    """
    if not session and not any(line.lstrip().startswith("$ ") for line in lines):
        return "\n".join(lines)
    kept, going_on = [], False
    for line in lines:
        stripped = line.lstrip()
        if stripped.startswith(("$ ", "% ", "# ")):
            line, taken = stripped[2:], True
        else:
            taken = going_on
            line = stripped[2:] if stripped.startswith("> ") else line
        going_on = taken and line.rstrip().endswith("\\")
        kept.append(line if taken else "")
    return "\n".join(kept)
