"""Which profiles ran: recorded in order, and refused when the file says something that nobody wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from systems import manager, write_system

from pytest_staging.model.errors import WorkspaceError
from pytest_staging.operating.history import Entry, History

WHOLE = {"profile": "small", "environment": "dev", "started_at": "2026-01-01", "reason": "start", "ready": True}


def write(root: Path, entries: Any, version: int = 1) -> Path:
    folder = root / "capacity" / "tests-dev"
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(json.dumps({"schema_version": version, "entries": entries}))
    return folder


DAMAGED: dict[str, tuple[Any, str]] = {
    "profile": ([{**WHOLE, "profile": ["x"]}], "profile is ['x'], and no text"),
    "environment": ([{**WHOLE, "environment": 2}], "environment is 2, and no text"),
    "ready": ([{**WHOLE, "ready": "y"}], "ready is 'y', and no truth value"),
    "a field too many": ([{**WHOLE, "more": 1}], "more"),
    "a field too few": ([{"profile": "small"}], "environment"),
    "no mapping": (["small"], "str"),
    "no list": (3, "int"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_history_is_one_clear_error(case: str, tmp_path: Path) -> None:
    """CP-04: what is wrong in which file, and what to do."""
    entries, words = DAMAGED[case]
    history = History(write(tmp_path, entries))
    with pytest.raises(WorkspaceError, match=r"history\.json is damaged: .*Remove it: ") as caught:
        history.entries()
    assert words in str(caught.value)


def test_a_command_that_meets_one_ends_with_exit_code_2(tmp_path: Path) -> None:
    """CP-04: rollback says so without a traceback."""
    write(write_system(tmp_path), [{"profile": ["x"], "environment": 2, "started_at": 3, "reason": 4, "ready": "y"}])
    done = manager(tmp_path, "rollback", "small", "--env", "dev")
    assert (done.returncode, "is damaged" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """CP-04: the last other profile that was ready is what rollback goes back to."""
    history = History(tmp_path)
    for profile in ("small", "wide", "wide"):
        history.begin(profile, "dev", "start")
        history.mark_ready()
    before = history.before()
    assert isinstance(before, Entry)
    assert (before.profile, before.ready, len(history.entries())) == ("small", True, 3)
