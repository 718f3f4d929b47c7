"""Calibrations on disk: found for the same tool, version, machine and number of processes, or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pytest_staging.calibrations import find_calibration, save_calibration, state_folder
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.errors import WorkspaceError

ONE = Calibration(
    tool="wrk", tool_version="4.1.0", machine="m", measured_at="2026-01-01T00:00:00Z",
    floor_ms={"p50": 0.1}, capacity_rps=1000.0, capacity_cpus=0.9,
)  # fmt: skip


def test_it_holds_for_what_it_was_measured_with(tmp_path: Path) -> None:
    """XP-06: another version, machine or number of processes has no calibration."""
    save_calibration(ONE, tmp_path / "state")
    found = [find_calibration(tmp_path / "state", "wrk", *facts)
             for facts in (("4.1.0", "m"), ("4.2.0", "m"), ("4.1.0", "n"), ("4.1.0", "m", 2))]  # fmt: skip
    assert found == [ONE, None, None, None]
    assert find_calibration(tmp_path / "state", "k6", "1", "m") is None
    assert find_calibration(tmp_path / "none", "wrk", "4.1.0", "m") is None


@pytest.mark.parametrize("change", [{"capacity_rps": "many"}, {"floor_ms": [1]}, {"floor_ms": {"p50": None}}, {"x": 1}])
def test_a_damaged_one_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """XP-06: it is never taken for none, which would judge less."""
    path = save_calibration(ONE, tmp_path)
    path.write_text(json.dumps({**asdict(ONE), **change}))
    with pytest.raises(WorkspaceError, match="staging-manager calibrate --tool wrk"):
        find_calibration(tmp_path, "wrk", "4.1.0", "m")


def test_where_they_lie(tmp_path: Path) -> None:
    """The XDG base directory, unless another is named."""
    assert state_folder({"XDG_STATE_HOME": "/s"}) == Path("/s/pytest-staging")
    assert state_folder({"STAGING_STATE_FOLDER": "/t", "XDG_STATE_HOME": "/s"}) == Path("/t")
