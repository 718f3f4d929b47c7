"""A project whose documents are checked: its programs, its names, and its documents, each read once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks.facts import Facts
from pytest_staging.runbooks.grammar import every_option
from pytest_staging.runbooks.markdown import Document, parse_markdown
from pytest_staging.runbooks.scripts import every_script_option

MAX_BYTES = 1_048_576


@dataclass(frozen=True)
class Program:
    """A program whose commands are checked against `parser`.

    `whole` says that the parser may be asked itself, and not only be looked at. `modules` are the names by which
    `python -m` starts it, `creates` its subcommands whose SLUG is a new version. `main` runs it in this process for the
    commands in `safe`, which change nothing.
    """

    name: str
    parser: argparse.ArgumentParser
    whole: bool = True
    modules: tuple[str, ...] = ()
    creates: frozenset[str] = frozenset()
    main: Callable[[list[str]], object] | None = None
    safe: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A document's text, its structure, and why it could not be read."""

    text: str
    document: Document
    problem: Problem | None = None


Generator = Callable[..., str]
"""Called with the project and the words after the block's name; returns markdown. Raises ValueError for bad words."""


@dataclass
class Project:
    """Everything that documents are held against."""

    facts: Facts
    programs: Mapping[str, Program]
    generators: Mapping[str, Generator]
    _loaded: dict[Path, Loaded] = field(default_factory=dict)

    @cached_property
    def options(self) -> frozenset[str]:
        """Every option that a program or script of the project takes."""
        programs = {option for one in self.programs.values() for option in every_option(one.parser)}
        return every_script_option(self.root) | programs

    @property
    def root(self) -> Path:
        """The folder to which paths in documents may be relative; resolved."""
        return self.facts.root

    def load(self, path: Path) -> Loaded:
        """A document by its path, from now on as it was when it was first asked for."""
        if path not in self._loaded:
            self._loaded[path] = load_document(path)
        return self._loaded[path]

    def forget(self, path: Path) -> None:
        """Its file was rewritten."""
        self._loaded.pop(path, None)

    def anchors(self, path: Path) -> set[str]:
        """What links into a document may name after `#`."""
        return self.load(path).document.anchors


def load_document(path: Path) -> Loaded:
    """Reads UTF-8, with or without a mark. What cannot be read is an empty document with a problem."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            problem = Problem("", f"has {len(data)} bytes; a document has at most {MAX_BYTES}. Split it.", 1)
            return Loaded("", parse_markdown(""), problem)
        text = data.decode("utf-8-sig")
    except OSError as error:
        return Loaded("", parse_markdown(""), Problem("", f"cannot be read: {error.strerror}", 1))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem("", f"is not UTF-8: byte 0x{data[error.start]:02x}. Save it as UTF-8.", line)
        return Loaded("", parse_markdown(""), problem)
    return Loaded(text, parse_markdown(text))
