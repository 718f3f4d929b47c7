"""A real engine, Compose and the sample's images, or a skip that says what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
for room in ("lab", "capacity", "session"):
    sys.path.insert(0, str(TESTS / room))  # dockering, systems, running

from dockering import ROOT, Engine, run_lab_script, start_engine  # noqa: E402
from systems import require_compose  # noqa: E402


@pytest.fixture(scope="session", params=[1, 2], ids=["v1", "v2"])
def compose(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the environment of a program needs so that it finds this generation of Compose."""
    return require_compose(request.param)[1]


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Left running with its base images: both are there to be found by the next run."""
    found = start_engine()
    require_compose()
    run_lab_script(ROOT / "scripts" / "lab" / "sample-images.sh")
    return found
