"""A real engine with the lab's base images, or a skip that says why there is none."""

from __future__ import annotations

import pytest
from dockering import Engine, start_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Left running with its base images: both are there to be found by the next run."""
    return start_engine()
