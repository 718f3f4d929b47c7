"""Relative paths of a service made absolute: they are meant from the folder of the file that they stand in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_staging.capacity.composefile import Tagged
from pytest_staging.capacity.merging import as_list


def place_service(service: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same with the paths of `build`, `env_file`, `volumes` from `folder`."""
    placed = dict(service)
    if isinstance(placed.get("build"), str):
        placed["build"] = {"context": _path(placed["build"], folder)}
    elif isinstance(placed.get("build"), dict) and "context" in placed["build"]:
        placed["build"] = {**placed["build"], "context": _path(str(placed["build"]["context"]), folder)}
    if placed.get("env_file") is not None and not isinstance(placed["env_file"], Tagged):
        placed["env_file"] = [
            {**one, "path": _path(str(one.get("path")), folder)} if isinstance(one, dict) else _path(str(one), folder)
            for one in as_list(placed["env_file"])
        ]
    if isinstance(placed.get("volumes"), list):
        placed["volumes"] = [_volume(one, folder) for one in placed["volumes"]]
    return placed


def _path(text: str, folder: Path) -> str:
    if "://" in text or text.startswith(("git@", "github.com/")):
        return text
    return os.path.normpath(folder / os.path.expanduser(text))


def _volume(one: Any, folder: Path) -> Any:
    if isinstance(one, dict):
        bound = one.get("type") == "bind" and isinstance(one.get("source"), str)
        return {**one, "source": _path(one["source"], folder)} if bound else one
    source, colon, rest = str(one).partition(":")
    # A name without a leading dot, slash or tilde is a named volume's.
    return f"{_path(source, folder)}{colon}{rest}" if colon and source.startswith((".", "/", "~")) else one
