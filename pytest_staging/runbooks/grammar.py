"""A command's words against an argparse parser: what each word is, what is wrong, and the nearest valid name.

Nothing is run: the parser's own answer is asked for too, but of a parser that neither prints, nor leaves, nor opens
files.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pytest_staging.model.errors import CommandRefused, ParserLeft, Problem
from pytest_staging.runbooks.nearest import hint, listed
from pytest_staging.runbooks.shell import Word

_CAPITALS = re.compile(r"[A-Z][A-Z0-9_-]*|\.\.\.")
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_SAMPLES = ("1", "1.5", "x", "20m", "2026-01-01T00:00:00Z", "a=1", "http://127.0.0.1")


@dataclass
class Reading:
    """What a command's words are: `path` its subcommands, `values` what each argument may be called, and its word.

    An argument is called by its metavar and by its name in capitals.
    """

    path: list[str] = field(default_factory=list)
    values: list[tuple[tuple[str, str], Word]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def is_placeholder(word: Word) -> bool:
    """Whether a reader puts something of their own in its place: `ID`, `$ID`, `...`."""
    return not word.literal or bool(_CAPITALS.fullmatch(word.text))


def read_arguments(parser: argparse.ArgumentParser, words: Sequence[Word], line: int, whole: bool = True) -> Reading:
    """Walks `words` (without the program) along the parser. `whole` asks for required arguments too."""
    reading = Reading()
    _Walk(parser, list(words), reading, line).go()
    if whole and not reading.problems and not any(word.text in ("...", "…") for word in words):
        complaint = _real_answer(parser, words)
        if complaint:
            reading.problems.append(Problem("", complaint, line))
    return reading


def neutralise(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Makes a parser and its subparsers harmless: they raise instead of leaving, print nothing and open no file."""

    def complain(message: str) -> None:
        raise CommandRefused(message)

    def leave(status: int = 0, message: str | None = None) -> None:
        raise ParserLeft

    for one in every_parser(parser):
        one.error = complain  # type: ignore[assignment, method-assign]
        one.exit = leave  # type: ignore[assignment, method-assign]
        one._print_message = lambda message, file=None: None  # type: ignore[method-assign]
        for action in one._actions:
            if isinstance(action.type, argparse.FileType):
                action.type = None
    return parser


def borrow(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """A parser under another name that looks at the same arguments; the one that it looks into stays as it is."""
    view = argparse.ArgumentParser(prog=name, add_help=False, allow_abbrev=False)
    view._actions = parser._actions
    view._option_string_actions = parser._option_string_actions
    return view


def every_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser itself and those of its subcommands, at every depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in dict.fromkeys(action.choices.values()):
                yield from every_parser(one)


def every_option(parser: argparse.ArgumentParser) -> set[str]:
    """All option strings of a parser and its subcommands."""
    return {option for one in every_parser(parser) for option in one._option_string_actions}


def _real_answer(parser: argparse.ArgumentParser, words: Sequence[Word]) -> str | None:
    """What argparse says about the command; None when it takes it. Placeholders get values of the right type."""
    try:
        parser.parse_args(_Walk(parser, list(words), Reading(), 0).filled())
    except CommandRefused as complaint:
        return str(complaint)
    except ParserLeft:
        return None
    return None


class _Walk:
    """Through one parser; a subcommand gets a walk of its own."""

    def __init__(self, parser: argparse.ArgumentParser, words: list[Word], reading: Reading, line: int) -> None:
        self._parser = parser
        self._words = words
        self._reading = reading
        self._line = line
        self._positionals = [action for action in parser._actions if not action.option_strings]
        self._filled: list[str] = []

    def filled(self) -> list[str]:
        """The words with values in place of placeholders."""
        self.go()
        return self._filled

    def go(self) -> None:
        while self._words:
            word = self._words.pop(0)
            if word.text == "--" and word.literal:
                self._filled += ["--", *(one.text for one in self._words)]
                return
            if word.text.startswith("-") and word.text != "-" and not _NUMBER.fullmatch(word.text):
                self._take_option(word)
            elif self._take_positional(word):
                return

    def _complain(self, message: str, word: Word) -> None:
        self._reading.problems.append(Problem("", message, word.line or self._line))

    def _take_option(self, word: Word) -> None:
        name, equals, value = word.text.partition("=")
        known = self._parser._option_string_actions
        action = known.get(name)
        if action is None and not name.startswith("--") and name[:2] in known:
            self._take_cluster(word, known)
            return
        if action is None:
            self._complain(f"{self._parser.prog} has no option {name}.{hint(name, known)}", word)
            self._filled.append(word.text)
            return
        if equals:
            self._note(action, Word(value, word.line, word.literal))
            self._filled.append(f"{name}={self._value(action, Word(value, word.line, word.literal))}")
            return
        self._filled.append(name)
        self._take_values(action)

    def _take_cluster(self, word: Word, known: dict[str, argparse.Action]) -> None:
        """`-xvs` and `-n2`: short options in one word, the last perhaps with its value."""
        self._filled.append(word.text)
        for at, letter in enumerate(word.text[1:], 1):
            action = known.get(f"-{letter}")
            if action is None:
                self._complain(f"{self._parser.prog} has no option -{letter} (in {word.text})", word)
                return
            if action.nargs != 0:
                if at == len(word.text) - 1:
                    self._take_values(action)
                return

    def _take_values(self, action: argparse.Action) -> None:
        least, most = _count(action)
        taken = 0
        while self._words and taken < most:
            following = self._words[0]
            if following.literal and following.text.startswith("-") and not _NUMBER.fullmatch(following.text):
                if following.text != "-":
                    break
            elif taken >= least and self._positionals and following.text in _choices(self._positionals[0]):
                break
            self._note(action, following)
            self._filled.append(self._value(action, self._words.pop(0)))
            taken += 1

    def _take_positional(self, word: Word) -> bool:
        """True when the word is a subcommand, whose walk took everything that follows."""
        if not self._positionals:
            self._complain(f"{self._parser.prog} takes no {word.text!r}", word)
            self._filled.append(word.text)
            return False
        action = self._positionals[0]
        if isinstance(action, argparse._SubParsersAction):
            return self._enter(action, word)
        if action.nargs not in ("*", "+", argparse.REMAINDER, "..."):
            self._positionals.pop(0)
        self._note(action, word)
        self._filled.append(self._value(action, word))
        if action.nargs in (argparse.REMAINDER, "..."):
            self._filled += [one.text for one in self._words]
            return True
        return False

    def _enter(self, action: argparse._SubParsersAction[argparse.ArgumentParser], word: Word) -> bool:
        choices = action.choices
        if word.text not in choices:
            if not is_placeholder(word):
                known = f"{hint(word.text, choices)} Known: {listed(choices)}."
                self._complain(f"{self._parser.prog} has no command {word.text!r}.{known}", word)
            self._filled.append(word.text)
            return True
        self._reading.path.append(word.text)
        inner = _Walk(choices[word.text], self._words, self._reading, self._line)
        self._filled += [word.text, *inner.filled()]
        return True

    def _note(self, action: argparse.Action, word: Word) -> None:
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        self._reading.values.append(((metavar, action.dest.upper()), word))
        choices = _choices(action)
        if choices and not is_placeholder(word) and word.text not in choices:
            option = action.option_strings[-1] if action.option_strings else metavar
            known = f"{hint(word.text, choices)} Known: {listed(choices)}."
            self._complain(f"{self._parser.prog}: {option} cannot be {word.text!r}.{known}", word)

    def _value(self, action: argparse.Action, word: Word) -> str:
        if not is_placeholder(word):
            return word.text
        choices = _choices(action)
        if choices:
            return word.text if word.text in choices else sorted(choices)[0]
        convert = action.type
        return next((one for one in (word.text, *_SAMPLES) if _fits(convert, one)), word.text)


def _choices(action: argparse.Action) -> set[str]:
    return {str(choice) for choice in action.choices or ()}


def _count(action: argparse.Action) -> tuple[int, float]:
    """How many words an option takes at least and at most."""
    if isinstance(action.nargs, int):
        return action.nargs, action.nargs
    return {None: (1, 1), "?": (0, 1), "*": (0, float("inf"))}.get(action.nargs, (1, float("inf")))


def _fits(convert: object, text: str) -> bool:
    if not callable(convert):
        return True
    try:
        convert(text)
    # A user's own converter may raise anything; here it only says that this sample is not for it.
    except Exception:
        return False
    return True
