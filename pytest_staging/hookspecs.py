"""Hooks that a conftest.py or another plugin may implement. They are called on the controller only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_staging.model.campaign import CellSummary


def pytest_staging_cell_finished(config: pytest.Config, summary: CellSummary) -> None:
    """A cell has its result; its cell-summary.json is written."""


def pytest_staging_campaign_finished(config: pytest.Config, aggregate: dict[str, Any]) -> None:
    """The campaign's files are written; `aggregate` is what aggregate-comparison.json holds."""
