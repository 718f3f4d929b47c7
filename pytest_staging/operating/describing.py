"""capacity.yaml and its compose files from disk, and names in it that a user gave."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pytest_staging import contract, store
from pytest_staging.capacity.validating import Description
from pytest_staging.model.errors import UsageProblem
from pytest_staging.store import Workspace
from pytest_staging.yamltext import YamlText

DEFAULT_FILE = "deploy/capacity.yaml"


def load_description(workspace: Workspace, file: str | None = None) -> Description:
    """`file` is relative to the workspace. Raises ContractError or WorkspaceError."""
    path = workspace.root / (file or DEFAULT_FILE)
    shown = workspace.shown(path)
    advice = "Write it (staging-manager schema capacity shows its shape), or name another with --file."
    text = store.read_text(path, "capacity file", advice)
    capacity = contract.parse_capacity(text, shown)
    return Description(capacity, YamlText(text), path.parent, shown, workspace.root, cache(read_file))


def read_file(path: Path) -> str | None:
    """A compose file's text; None when there is none, or it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def require_profile(description: Description, name: str) -> str:
    """The name itself. Raises UsageProblem naming the profiles, the nearest first."""
    return _require(name, description.capacity.profiles, "profile", description.shown)


def require_environment(description: Description, name: str) -> str:
    """The name itself. Raises UsageProblem naming the environments, the nearest first."""
    return _require(name, description.capacity.environments, "environment", description.shown)


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """`known` with what is most like `name` at its head."""
    names = list(known)
    near = difflib.get_close_matches(name, names, len(names) or 1, 0.0)
    return near + [one for one in names if one not in near]


def _require(name: str, known: Iterable[str], what: str, shown: str) -> str:
    names = list(known)
    if name not in names:
        raise UsageProblem(f"there is no {what} {name!r} in {shown}. Known: {', '.join(nearest_first(name, names))}.")
    return name
