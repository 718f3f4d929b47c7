"""A log's bounds, on a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from workspaces import wait_for

from pytest_staging.targets.output import BoundedLog


def test_a_log_of_exactly_the_bound(tmp_path: Path) -> None:
    """Nothing is left out that fits."""
    reading, writing = os.pipe()
    kept = BoundedLog(tmp_path / "log", reading, head_bytes=10, tail_bytes=5)
    os.write(writing, b"0123456789abcde")
    os.close(writing)
    kept.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789abcde"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_somebody_else_holds_the_pipe(tmp_path: Path) -> None:
    """A process that got away must not keep the log open: what is there is written after the deadline."""
    reading, writing = os.pipe()
    kept = BoundedLog(tmp_path / "log", reading, head_bytes=2, tail_bytes=5)
    os.write(writing, b"abcdefghij")
    wait_for(lambda: (tmp_path / "log").read_bytes() == b"ab")
    kept.close(deadline_s=0.05)
    assert (tmp_path / "log").read_bytes() == b"ab\n... 3 bytes left out ...\nfghij"
    os.write(writing, b"late")
    os.close(writing)
