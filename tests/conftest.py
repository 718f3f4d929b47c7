"""What every test gets: a host lease of its own, so that no test waits for another campaign on this machine."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell that starts the suite in the background makes it ignore Ctrl-C, and with it every campaign of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def lease_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """STAGING_LEASE_FOLDER, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("lease")
    monkeypatch.setenv("STAGING_LEASE_FOLDER", str(folder))
    # Nor does a calibration of this machine's user say anything about a test's cells.
    monkeypatch.setenv("STAGING_STATE_FOLDER", str(folder / "state"))
    return folder
