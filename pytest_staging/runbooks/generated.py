"""Blocks that the program writes: found, held against what it would write now, and rewritten."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks.directives import Directive
from pytest_staging.runbooks.nearest import hint, listed
from pytest_staging.runbooks.project import Project

UPDATE = "pytest --staging-contracts-update rewrites it"


@dataclass(frozen=True)
class Region:
    """The lines `first` to `last` (from 1; none when `last` is smaller) between a block's two comments."""

    name: str
    arguments: tuple[str, ...]
    line: int
    first: int
    last: int

    @property
    def title(self) -> str:
        """`cli-help capacity`"""
        return " ".join((self.name, *self.arguments))


def find_regions(directives: Sequence[Directive]) -> tuple[list[Region], list[Problem]]:
    """Pairs `generated` with `end`; what has no partner is a problem."""
    regions: list[Region] = []
    problems: list[Problem] = []
    opened: Directive | None = None
    for one in directives:
        if one.name == "generated":
            if opened:
                problems.append(_endless(opened))
            opened = one
        elif one.name == "end":
            if opened is None:
                problems.append(Problem("", "'staging: end' ends no generated block", one.line))
            else:
                regions.append(Region(opened.words[0], opened.words[1:], opened.line, opened.end + 1, one.line - 1))
                opened = None
    return regions, problems + ([_endless(opened)] if opened else [])


def _endless(opened: Directive) -> Problem:
    words = " ".join(opened.words)
    return Problem("", f"the generated block {words!r} has no end; write <!-- staging: end --> below it", opened.line)


def generate(project: Project, region: Region) -> str:
    """What belongs into the region. Raises ValueError naming what is wrong with its words."""
    generators = project.generators
    if region.name not in generators:
        known = f"{hint(region.name, generators)} Known: {listed(generators)}."
        raise ValueError(f"nothing generates {region.name!r}.{known}")
    generator = generators[region.name]
    try:
        inspect.signature(generator).bind(project, *region.arguments)
    except TypeError as error:
        raise ValueError(f"{region.title!r}: {error}") from error
    return generator(project, *region.arguments)


def current_lines(project: Project, region: Region, indent: str) -> list[str]:
    """The lines that belong between the comments: an empty one around the text, each as deep as the comments."""
    text = generate(project, region).strip("\n").split("\n")
    return ["", *(f"{indent}{line}".rstrip() for line in text), ""]


def check_region(project: Project, lines: Sequence[str], region: Region) -> list[Problem]:
    """`lines` are the document's."""
    try:
        wanted = current_lines(project, region, _indent(lines[region.line - 1]))
    except ValueError as error:
        return [Problem("", str(error), region.line)]
    present = [line.rstrip() for line in lines[region.first - 1 : region.last]]
    if present == wanted:
        return []
    for number, line in enumerate(present):
        if number >= len(wanted) or line != wanted[number]:
            now = f"and is now {wanted[number]!r}" if number < len(wanted) else "and is no longer there"
            message = f"the generated block {region.title!r} is stale: it says {line!r}, {now}; {UPDATE}"
            return [Problem("", message, region.first + number)]
    missing = wanted[len(present)]
    message = f"the generated block {region.title!r} is stale: {missing!r} is missing; {UPDATE}"
    return [Problem("", message, region.last + 1)]


def rewrite(project: Project, text: str, regions: Sequence[Region]) -> tuple[str, list[Region]]:
    """The text with current blocks, and those that were stale. Everything else stays as it is, line ends included.

    Raises ValueError as `generate`.
    """
    lines = _with_ends(text)
    changed: list[Region] = []
    for region in reversed(regions):
        marker = lines[region.line - 1]
        end = "\r\n" if marker.endswith("\r\n") else "\n"
        wanted = [f"{line}{end}" for line in current_lines(project, region, _indent(marker))]
        present = [f"{line.rstrip()}{end}" for line in lines[region.first - 1 : region.last]]
        if present != wanted:
            lines[region.first - 1 : region.last] = wanted
            changed.insert(0, region)
    return "".join(lines), changed


def _with_ends(text: str) -> list[str]:
    """Lines with their ends; only \\n and \\r\\n end one, as in the structure that was read."""
    return [f"{line}\n" for line in text.split("\n")[:-1]] + [text.split("\n")[-1]]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
