"""Modules that these tests share with others."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [path for folder in ("campaign", "session", "verdict") if (path := str(TESTS / folder)) not in sys.path]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a candidate that may be promoted; made once, each test works on a copy."""
    from deciding import make_passing

    return make_passing(tmp_path_factory.mktemp("prepared") / "w")


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A workspace of the test's own: baseline, the candidate `faster`, and the campaign `c` that it passed."""
    return shutil.copytree(prepared, tmp_path / "w")
