"""Reading ssh_config(5): lines into the settings of one host. The first value found counts, as it does for ssh."""

from __future__ import annotations

import fnmatch
import getpass
import glob
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_staging.model.errors import SshConfigError

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
MAX_DEPTH = 16
# These collect values over all their lines.
MANY = ("identityfile",)
_LINE = re.compile(r"(\w+)(?:\s*=\s*|\s+)(.*)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Place:
    """A line of a file, for messages."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


@dataclass
class Settings:
    """What the files say about one host: each keyword (in lower case) with its values and where they stand."""

    alias: str
    values: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def add(self, keyword: str, value: str, place: Place | None = None) -> None:
        if keyword not in self.values:
            self.values[keyword] = [value]
            if place:
                self.places[keyword] = place
        elif keyword in MANY:
            self.values[keyword].append(value)

    def first(self, *keywords: str) -> str | None:
        """Whichever of the keywords came first."""
        return next((name for name in self.values if name in keywords), None)

    def text(self, keyword: str, default: str, tokens: Mapping[str, str] | None = None) -> str:
        """A single value without its quotes; ProxyCommand keeps them, for the shell."""
        if keyword not in self.values:
            return default
        value = self.values[keyword][0]
        plain = value if keyword == "proxycommand" else " ".join(self._words(keyword, value))
        return plain if tokens is None else self.expanded(plain, tokens)

    def paths(self, keyword: str, tokens: Mapping[str, str]) -> list[Path]:
        """Every path that the keyword names, `~`, `${NAME}` and %-tokens filled in; `none` is left out."""
        words = [word for value in self.values.get(keyword, []) for word in self._words(keyword, value)]
        return [
            Path(os.path.expanduser(_VARIABLE.sub(self._variable(keyword), self.expanded(word, tokens))))
            for word in words
            if word.lower() != "none"
        ]

    def expanded(self, text: str, tokens: Mapping[str, str]) -> str:
        """Fills in %h and its like; one that is not known stays."""
        known = {**tokens, "%": "%"}
        return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), text)

    def wrong(self, keyword: str, what: str) -> SshConfigError:
        """The error to raise about a keyword's value."""
        place = self.places.get(keyword)
        return SshConfigError(f"{place or self.alias}: {what}")

    def _words(self, keyword: str, value: str) -> list[str]:
        try:
            return shlex.split(value, comments=True)
        except ValueError as error:
            raise self.wrong(keyword, f"{keyword} has a quote that is not closed.") from error

    def _variable(self, keyword: str) -> Callable[[re.Match[str]], str]:
        def value(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                raise self.wrong(keyword, f"the environment variable {found[1]} is not set.")
            return os.environ[found[1]]

        return value


def load_settings(alias: str, files: Sequence[Path], given: Mapping[str, str]) -> Settings:
    """`given` counts before every file. A file that is missing says nothing; one that is unreadable is an error."""
    settings = Settings(alias)
    for keyword, value in given.items():
        settings.add(keyword, value)
    if {"identityfile"} & set(given):
        settings.values["identityfile"] = [given["identityfile"]]
    fixed = set(given)
    for path in files:
        for keyword, value, place in _active_lines(path, path.parent, settings, depth=0):
            if keyword not in fixed:
                settings.add(keyword, value, place)
    return settings


def _active_lines(path: Path, home: Path, settings: Settings, depth: int) -> Iterator[tuple[str, str, Place]]:
    """Lines that hold for the host, with those of included files in their place."""
    active = True
    for keyword, value, place in _lines(path):
        if keyword == "host":
            active = matches_patterns(settings.alias, _split(value, place))
        elif keyword == "match":
            active = _matches(_split(value, place), settings)
        elif not active:
            continue
        elif keyword == "include":
            if depth >= MAX_DEPTH:
                raise SshConfigError(f"{place}: files that include each other go more than {MAX_DEPTH} deep.")
            for included in _included(_split(value, place), home):
                yield from _active_lines(included, home, settings, depth + 1)
        else:
            yield keyword, value, place


def _lines(path: Path) -> Iterator[tuple[str, str, Place]]:
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise SshConfigError(f"cannot read {path}: {error.strerror}. Check its owner and mode.") from error
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            raise SshConfigError(f"{path}, line {number}: {stripped.split()[0]!r} has no value.")
        yield found[1].lower(), found[2].strip(), Place(path, number)


def _included(patterns: Sequence[str], home: Path) -> Iterator[Path]:
    """Files in the order of their names; relative patterns begin where the first file lies."""
    for pattern in patterns:
        for name in sorted(glob.glob(str(home / os.path.expanduser(pattern)))):
            yield Path(name)


def _split(value: str, place: Place) -> list[str]:
    try:
        return shlex.split(value, comments=True)
    except ValueError as error:
        raise SshConfigError(f"{place}: a quote is not closed.") from error


def matches_patterns(name: str, patterns: Sequence[str]) -> bool:
    """ssh_config's patterns: `*`, `?`, and `!` in front of one that excludes."""
    found = False
    for pattern in patterns:
        # fnmatch would give brackets a meaning that they do not have here.
        plain = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), plain.lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches(words: Sequence[str], settings: Settings) -> bool:
    """Whether every criterion of a `Match` line holds; one that is not known here does not."""
    names: dict[str, str] = {
        "host": settings.text("hostname", settings.alias, {"h": settings.alias}),
        "originalhost": settings.alias,
        "user": settings.text("user", getpass.getuser()),
        "localuser": getpass.getuser(),
    }
    rest = list(words)
    while rest:
        word = rest.pop(0)
        criterion = word.lower().removeprefix("!")
        if criterion == "all":
            held = True
        elif criterion in names and rest:
            held = matches_patterns(names[criterion], rest.pop(0).split(","))
        else:
            return False
        if held == word.startswith("!"):
            return False
    return bool(words)
