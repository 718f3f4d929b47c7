"""What every test gets: a host lease of its own, so that no test waits for another campaign on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def lease_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """STAGING_LEASE_FOLDER, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("lease")
    monkeypatch.setenv("STAGING_LEASE_FOLDER", str(folder))
    return folder
