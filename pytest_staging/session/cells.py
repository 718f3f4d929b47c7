"""Cells as pytest items: collected from the benchmark file, run one at a time while their block's host is leased."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pytest_staging import wiring
from pytest_staging.campaign.records import prepare_attempt
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import UsageProblem
from pytest_staging.session.progress import write_phase
from pytest_staging.store import Workspace

ITEM_NAME = "campaign"
FIXTURE = "staging_cell"


class CellFailed(Exception):
    """A cell's test fails with this; shown as the reason and the log's tail, without a traceback."""


class CellSession:
    """Collects and runs cells: in the only process, or in an xdist worker."""

    def __init__(self, config: pytest.Config, workspace: Workspace, campaign: Campaign) -> None:
        self.config = config
        self.campaign = campaign
        self.folder = workspace.campaign_folder(campaign.campaign_id)
        self._workspace = workspace
        self._runner: CellRunner | None = None
        self._lease = ExitStack()
        self._leased_block: str | None = None

    def pytest_sessionstart(self) -> None:
        """A pipeline that cancels a job sends SIGTERM: it gets the same clean-up as Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if file_path == Path(self.campaign.benchmark_path):
            return self._collector(parent)
        return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if FIXTURE in metafunc.fixturenames:
            cells = self.campaign.cells
            metafunc.parametrize(FIXTURE, cells, ids=[cell.cell_id for cell in cells], indirect=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """The user's own cell tests take the place of the built-in items; without any, those are added."""
        own = {item.originalname for item in items if isinstance(item, pytest.Function) and cell_of(item)}  # type: ignore[attr-defined]
        if len(own) > 1:
            raise pytest.UsageError(f"only one test may take {FIXTURE}, found: {', '.join(sorted(own))}")
        if own:
            items[:] = [item for item in items if not isinstance(item, CellItem)]
        elif not any(isinstance(item, CellItem) for item in items):
            items += self._collector(session).collect()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, bool, bool]:
        """Gives the host back after the last cell of a block, whatever came of it."""
        following = cell_of(nextitem) if nextitem else None
        try:
            return (yield)
        finally:
            if following is None or following.block_id != self._leased_block:
                self._release()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        summary = item.stash.get(SUMMARY, None)
        if call.when == "call" and summary is not None:
            report.staging_cell = json.dumps(asdict(summary))
            if self.config.option.staging_junit_cell_properties:
                report.user_properties += [(name, str(value)) for name, value in summary.metrics.items()]
        return report

    def pytest_sessionfinish(self) -> None:
        self._release()

    def cell_for(self, request: pytest.FixtureRequest) -> StagingCell:
        """What the fixture `staging_cell` gives."""
        if not isinstance(getattr(request, "param", None), Cell):
            raise pytest.UsageError(f"{FIXTURE} cannot be requested dynamically; name it in the test's arguments")
        return StagingCell(self, request.node, request.param)

    def run_cell(self, item: pytest.Item, cell: Cell) -> CellSummary:
        """Measures `cell` on the leased host. The summary travels in the item's report."""
        runner = self._runner = self._runner or wiring.make_runner(
            self._workspace, self.campaign, self.folder, lambda cell_id, phase: write_phase(self.folder, cell_id, phase)
        )
        attempt = prepare_attempt(self.folder, cell)
        started = time.monotonic()
        self._hold(runner, cell)
        summary = runner.run(cell, attempt, waited_s=time.monotonic() - started)
        item.stash[SUMMARY] = summary
        return summary

    def _hold(self, runner: CellRunner, cell: Cell) -> None:
        """Back to back on one host: the lease is kept from a block's first cell to its last."""
        if self._leased_block == cell.block_id:
            return
        self._release()
        write_phase(self.folder, cell.cell_id, "lease")
        timeout_s = float(str(self.config.getini("staging_lease_timeout_s") or 3600))
        self._lease.enter_context(runner.target.lease(f"campaign {self.campaign.campaign_id}", timeout_s))
        self._leased_block = cell.block_id

    def _release(self) -> None:
        self._leased_block = None
        self._lease.close()

    def _collector(self, parent: pytest.Collector) -> CampaignFile:
        path = Path(self.campaign.benchmark_path)
        name = self._workspace.shown(path)
        return CampaignFile.from_parent(parent, path=path, nodeid=name, cells=self.campaign.cells)


SUMMARY = pytest.StashKey[CellSummary]()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


class CampaignFile(pytest.File):
    """The benchmark file as a test file."""

    def __init__(self, *, cells: tuple[Cell, ...], **keywords: Any) -> None:
        super().__init__(**keywords)
        self._cells = cells

    def collect(self) -> list[CellItem]:
        return [CellItem.from_parent(self, name=f"{ITEM_NAME}[{cell.cell_id}]", cell=cell) for cell in self._cells]


class CellItem(pytest.Item):
    """One cell; needs no code of the user's."""

    def __init__(self, *, cell: Cell, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.cell = cell

    def runtest(self) -> None:
        session: CellSession = self.config.pluginmanager.get_plugin("staging-session")
        require_passed(session.run_cell(self, self.cell))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (CellFailed, UsageProblem)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class StagingCell:
    """A cell in the hands of the user's own test."""

    def __init__(self, session: CellSession, item: pytest.Item, cell: Cell) -> None:
        self._session = session
        self._item = item
        self._cell = cell
        self.version_slug = cell.version_slug
        self.platform_mode = cell.platform_mode
        self.run_index = cell.run_index

    def run(self) -> CellSummary:
        """Deploys, loads and measures the cell. Fails the test when that does not work. Once per test."""
        if self._item.stash.get(SUMMARY, None) is not None:
            raise pytest.UsageError("staging_cell.run() is called twice in one test")
        summary = self._session.run_cell(self._item, self._cell)
        require_passed(summary)
        return summary


def require_passed(summary: CellSummary) -> None:
    """Raises CellFailed with the reason and the log's tail."""
    if not summary.passed:
        tail = f"\n--- end of the log ---\n{summary.log_tail}" if summary.log_tail else ""
        raise CellFailed(f"{summary.cell.cell_id}: {summary.reason}{tail}")


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
