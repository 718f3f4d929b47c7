"""What holds within one document only: names that it declares itself, and exceptions that it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks import paths
from pytest_staging.runbooks.directives import Directive
from pytest_staging.runbooks.project import Project

EXTRA_KINDS = ("path", "variable", "option", "anchor")


class Scope:
    """Looks names up for one document. `created` are versions that its own commands make."""

    def __init__(self, project: Project, path: Path, directives: Iterable[Directive]) -> None:
        self.project = project
        self.path = path
        self.created: set[str] = set()
        self._known = {(one.words[0], one.words[1]): one for one in directives if one.name == "known"}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that `names` and `known` take."""
        return (*self.project.facts.kinds, *EXTRA_KINDS)

    @property
    def exceptions(self) -> list[Directive]:
        """The document's `known` comments."""
        return list(self._known.values())

    def name(self, kind: str, name: str) -> str | None:
        """What is wrong with a name of that kind; None for one that exists."""
        if kind == "path":
            goal = self.project.root / name
            there = goal.exists() or paths.made(self.project, goal)
            missing = None if there else f"{name} does not exist.{paths.near_file(self.project, goal)}"
            return self._unless_known(kind, name, missing)
        if kind == "variable":
            return self._unless_known(kind, name, self.project.facts.variable_complaint(name))
        if kind == "version" and name in self.created:
            return None
        return self._unless_known(kind, name, self.project.facts.known(kind).complaint(name))

    def word(self, text: str, folder: Path | None = None) -> str | None:
        """What is wrong with a word that looks like a path; `folder` is where its command runs."""
        bases = (folder,) if folder else (self.project.root, self.path.parent)
        complaint = paths.path_complaint(self.project, text, bases)
        if complaint and any(part in self.created for part in text.split("/")):
            return None
        return self._unless_known("path", text, complaint)

    def link(self, target: str) -> str | None:
        """What is wrong with a link."""
        complaint = paths.link_complaint(self.project, self.path, target)
        return self._unless_known("anchor" if target.startswith("#") else "path", target, complaint)

    def option(self, name: str, complaint: str | None) -> str | None:
        """An option that no program seems to have."""
        return self._unless_known("option", name, complaint)

    def _unless_known(self, kind: str, name: str, complaint: str | None) -> str | None:
        if complaint and (kind, name) in self._known:
            return None
        return complaint


def at(line: int, *messages: str | None) -> list[Problem]:
    """Problems of what was found."""
    return [Problem("", message, line) for message in messages if message]
