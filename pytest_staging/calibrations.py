"""Where calibrations of load tools lie: one file per tool, with this user on this machine, not in a workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
    """Takes the place of an earlier one of that tool there. Raises StorageError."""
    path = _path(folder, calibration.tool, calibration.generator)
    with durable.storing(path):
        folder.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, json.dumps(asdict(calibration), indent=2) + "\n")
    return path


def find_calibration(
    folder: Path, tool: str, version: str, machine: str, processes: int = 1, generator: str | None = None
) -> Calibration | None:
    """The one that holds for so many processes of this tool's version on this machine, or None.

    `machine` is that of the `generator` where one is named. Raises WorkspaceError for a damaged file.
    """
    path = _path(folder, tool, generator)
    if not path.exists():
        return None
    from pydantic import TypeAdapter

    try:
        found = TypeAdapter(Calibration).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        there = f" --generator {generator}" if generator else ""
        advice = f"Measure again: staging-manager calibrate --tool {tool}{there}"
        reason = str(error).replace("\n", " ")
        raise WorkspaceError(f"the calibration {path} cannot be read ({reason}). {advice}") from error
    same = (found.tool_version, found.machine, found.processes) == (version, machine, processes)
    return found if same else None


def combined(found: Sequence[Calibration | None]) -> Calibration | None:
    """Of several generators that send together: all their capacities, the highest floor; None unless all are known."""
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    floors = {name: max(one.floor_ms.get(name, 0.0) for one in known) for one in known for name in one.floor_ms}
    return replace(
        known[0],
        machine=" + ".join(one.machine for one in known),
        floor_ms=floors,
        capacity_rps=sum(one.capacity_rps for one in known),
        capacity_cpus=sum(one.capacity_cpus for one in known),
    )


def _path(folder: Path, tool: str, generator: str | None) -> Path:
    where = f"@{require_safe('generator', generator)}" if generator else ""
    return folder / f"calibration-{require_safe('load tool', tool)}{where}.json"
