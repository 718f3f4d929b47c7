"""Workspaces for images on a real engine, or a skip that says why there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_workspaces import ImageWorkspace, find_engine, image_workspace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "targets"))  # private_engine

from dockering import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return find_engine()


@pytest.fixture
def place(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageWorkspace]:
    with image_workspace(tmp_path / "workspace", engine, monkeypatch) as found:
        yield found
