"""Where calibrations of load tools lie: one file per tool, with this user on this machine, not in a workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.model.names import require_safe


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """STAGING_STATE_FOLDER, or the one that the XDG base directories name."""
    if named := environment.get("STAGING_STATE_FOLDER"):
        return Path(named)
    base = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "pytest-staging"


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Takes the place of an earlier one of that tool. Raises StorageError."""
    path = _path(folder, calibration.tool)
    with durable.storing(path):
        folder.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, json.dumps(asdict(calibration), indent=2) + "\n")
    return path


def find_calibration(folder: Path, tool: str, version: str, machine: str, processes: int = 1) -> Calibration | None:
    """The one that holds for so many processes of this tool's version on this machine, or None.

    Raises WorkspaceError for a damaged file.
    """
    path = _path(folder, tool)
    if not path.exists():
        return None
    from pydantic import TypeAdapter

    try:
        found = TypeAdapter(Calibration).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        advice = f"Measure again: staging-manager calibrate --tool {tool}"
        reason = str(error).replace("\n", " ")
        raise WorkspaceError(f"the calibration {path} cannot be read ({reason}). {advice}") from error
    same = (found.tool_version, found.machine, found.processes) == (version, machine, processes)
    return found if same else None


def _path(folder: Path, tool: str) -> Path:
    return folder / f"calibration-{require_safe('load tool', tool)}.json"
