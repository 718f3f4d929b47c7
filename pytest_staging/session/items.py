"""Cells as pytest items, and a cell in the hands of a user's own test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import StagingError
from pytest_staging.reports.cases import cell_name, failure_text

FIXTURE = "staging_cell"
SUMMARIES = pytest.StashKey[list[CellSummary]]()
RunCell = Callable[[pytest.Item, Cell], CellSummary]


class CellFailed(Exception):
    """A cell's test fails with this; shown as the reason and the log's tail, without a traceback."""


class CampaignFile(pytest.File):
    """The benchmark file as a test file. `run` measures a cell of it."""

    def __init__(self, *, cells: tuple[Cell, ...], run: RunCell, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._cells = cells
        self._run = run

    def collect(self) -> list[CellItem]:
        return [self._item(cell_name(cell), cell) for cell in self._cells]

    def _item(self, name: str, cell: Cell) -> CellItem:
        # With a whole id: pytest 9.2 would take the brackets for a part of the name, and --lf would not find it again.
        return CellItem.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", cell=cell, run=self._run)


class CellItem(pytest.Item):
    """One cell; needs no code of the user's."""

    def __init__(self, *, cell: Cell, run: RunCell, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.cell = cell
        self._run = run

    def runtest(self) -> None:
        require_passed(self._run(self, self.cell))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (CellFailed, StagingError)):
            return str(excinfo.value)
        if isinstance(excinfo.value, pytest.fail.Exception):  # from outside: pytest-timeout
            return f"{self.cell.cell_id}: {excinfo.value.msg}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class StagingCell:
    """A cell in the hands of the user's own test."""

    def __init__(self, run: RunCell, item: pytest.Item, cell: Cell) -> None:
        self._run = run
        self._item = item
        self._cell = cell
        self.version_slug = cell.version_slug
        self.platform_mode = cell.platform_mode
        self.run_index = cell.run_index

    def run(self) -> CellSummary:
        """Deploys, loads and measures the cell. Fails the test when that does not work. Once per test."""
        if self._item.stash.get(SUMMARIES, None) is not None:
            raise pytest.UsageError("staging_cell.run() is called twice in one test")
        summary = self._run(self._item, self._cell)
        require_passed(summary)
        return summary


def require_passed(summary: CellSummary) -> None:
    """Raises CellFailed with the reason and the log's tail."""
    if not summary.passed:
        raise CellFailed(failure_text(summary))


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell that an item runs, if it is one."""
    if isinstance(item, CellItem):
        return item.cell
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        cell = item.callspec.params.get(FIXTURE)
        return cell if isinstance(cell, Cell) else None
    return None


def in_order(items: list[pytest.Item], campaign: Campaign) -> Iterator[pytest.Item]:
    """Items with the cells among them in the campaign's order, whatever another plugin shuffled."""
    place = {cell.cell_id: number for number, cell in enumerate(campaign.cells)}
    cells = sorted((item for item in items if cell_of(item)), key=lambda item: place[cell_of(item).cell_id])  # type: ignore[union-attr]
    ordered = iter(cells)
    for item in items:
        yield next(ordered) if cell_of(item) else item
