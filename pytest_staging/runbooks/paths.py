"""Files that documents name: links with their anchors, inline code that looks like a path, arguments of commands."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pytest_staging.runbooks.nearest import hint

if TYPE_CHECKING:
    from pytest_staging.runbooks.project import Project

_PATH = re.compile(r"[\w.@+-]+(?:/[\w.@+*?<>{}$-]*)+")
_VARIABLE_PART = re.compile(r"[<*?{$].*|.*[*?]")
NEAR = 0.6


def link_complaint(project: Project, document: Path, target: str) -> str | None:
    """What is wrong with a link of `document`; None for a good one, and for addresses elsewhere, which nobody asks."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
        return None
    path = unquote(parts.path)
    goal = document if not path else project.root / path[1:] if path.startswith("/") else document.parent / path
    if not goal.exists():
        if made(project, goal):
            return None
        return f"the link leads to {path!r}, which does not exist.{near_file(project, goal)}"
    if not parts.fragment or goal.is_dir() or goal.suffix.lower() not in (".md", ".markdown"):
        return None
    anchors = project.anchors(goal)
    fragment = unquote(parts.fragment)
    if fragment in anchors or re.fullmatch(r"L\d+(-L\d+)?", fragment):
        return None
    where = path or "this document"
    return f"the link leads to #{fragment}, and {where} has no such heading.{hint(fragment, anchors)}"


def path_complaint(project: Project, text: str, bases: tuple[Path, ...]) -> str | None:
    """What is wrong with a word that looks like a path of the project; None also for words that do not.

    A word looks like one when its first part is a folder of a base, or nearly is called so.
    """
    if not _PATH.fullmatch(text) or text.startswith(("../", "~")):
        return None
    first = text.split("/")[0]
    base = next((one for one in bases if (one / first).is_dir()), None)
    if base is None:
        return _misspelt_folder(project, text, first)
    fixed: list[str] = []
    for part in text.rstrip("/").split("/"):
        if _VARIABLE_PART.fullmatch(part):
            break
        fixed.append(part)
    goal = base.joinpath(*fixed)
    if goal.exists() or made(project, goal):
        return None
    rest = text.split("/")[len(fixed) :]
    if rest and any(rest) and (base / "/".join(fixed[:-1])).is_dir() and made(project, base / text):
        return None
    return f"{'/'.join(fixed)} does not exist.{near_file(project, goal)}"


def made(project: Project, path: Path) -> bool:
    """Whether the program makes that path, so that it need not be there: `staging_contracts_made`."""
    try:
        relative = path.resolve().relative_to(project.root).as_posix()
    except ValueError:
        return False
    return any(fnmatchcase(relative, glob) for glob in project.facts.places.made)


def near_file(project: Project, goal: Path) -> str:
    """A hint at the nearest file: in the same folder, or of the same name elsewhere."""
    folder = goal.parent
    while not folder.is_dir() and folder != folder.parent:
        goal, folder = folder, folder.parent
    known = [path.name for path in folder.iterdir()]
    found = hint(goal.name, known)
    if found or folder != goal.parent:
        return found
    return ""


def _misspelt_folder(project: Project, text: str, first: str) -> str | None:
    """A word whose first part is nearly a folder of the project, and whose rest would be there."""
    from difflib import get_close_matches

    folders = [path.name for path in project.root.iterdir() if path.is_dir()]
    near = get_close_matches(first, folders, 1, NEAR)
    rest = text.partition("/")[2]
    if near and rest and (project.root / near[0] / rest).exists():
        return f"{text} does not exist. Did you mean '{near[0]}/{rest}'?"
    return None
