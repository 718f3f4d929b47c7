"""Cells as pytest items: collected from the benchmark file, run one at a time while their block's host is leased."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pytest_staging import wiring
from pytest_staging.campaign.records import prepare_attempt, read_look
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.session.progress import PHASE_FILE, write_phase
from pytest_staging.store import Workspace

ITEM_NAME = "campaign"
FIXTURE = "staging_cell"
SESSION_PLUGIN = "staging-session"
LEASE_TIMEOUT_S = 3600
LOOK_TIMEOUT_S = 3600
LOOK_POLL_S = 0.02
Finished = Sequence[Any]
"""Outcome, reason and attempt of a cell that an earlier session finished."""


class CellFailed(Exception):
    """A cell's test fails with this; shown as the reason and the log's tail, without a traceback."""


class CellSession:
    """Collects and runs cells: in the only process, or in an xdist worker."""

    def __init__(
        self, config: pytest.Config, workspace: Workspace, campaign: Campaign, finished: Mapping[str, Finished]
    ) -> None:
        self.config = config
        self.campaign = campaign
        self._finished = finished
        self._whole = False
        self.folder = workspace.campaign_folder(campaign.campaign_id)
        self._workspace = workspace
        self._benchmark_path = workspace.root / campaign.benchmark_path
        self._runner: CellRunner | None = None
        self._lease = ExitStack()
        self._leased_block: str | None = None
        self._has_workers = False
        self._lease_timeout_s = _read_lease_timeout(config)

    def pytest_sessionstart(self) -> None:
        """A pipeline that cancels a job sends SIGTERM: it gets the same clean-up as Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if file_path == self._benchmark_path:
            return self._collector(parent)
        return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if FIXTURE in metafunc.fixturenames:
            cells = self.campaign.cells
            metafunc.parametrize(FIXTURE, cells, ids=[cell.cell_id for cell in cells], indirect=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """The user's own cell tests take the place of the built-in items; without any, those are added."""
        own = [item for item in items if isinstance(item, pytest.Function) and cell_of(item)]
        if len({cell_of(item) for item in own}) < len(own):
            names = sorted({item.nodeid.partition("[")[0] for item in own})
            found = ", ".join(names)
            raise pytest.UsageError(f"only one test may take {FIXTURE}, and once for each cell; found: {found}")
        if own:
            items[:] = [item for item in items if not isinstance(item, CellItem)]
        elif not any(isinstance(item, CellItem) for item in items):
            items += self._collector(session).collect()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A selection (-k, a node id) can never complete a look, so nobody waits for one."""
        self._whole = sum(1 for item in session.items if cell_of(item)) == len(self.campaign.cells)

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
            # Extra attributes of a report travel from xdist's workers to the controller.
            vars(report)["staging_cell"] = json.dumps(asdict(summary))
        return report

    def pytest_sessionfinish(self) -> None:
        self._release()
        with suppress(OSError):
            (self.folder / PHASE_FILE).unlink(missing_ok=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self) -> None:
        self._has_workers = True

    def pytest_unconfigure(self) -> None:
        """On the controller, after its workers: one that was killed left its service, and no next cell ends it."""
        if self._has_workers:
            target = wiring.make_target(self.campaign.target)
            # Getting the lease ends leftovers. If another campaign has it, that one has done so.
            with suppress(StagingError), target.lease(f"campaign {self.campaign.campaign_id}", 0.0):
                pass

    def cell_for(self, request: pytest.FixtureRequest) -> StagingCell:
        """What the fixture `staging_cell` gives."""
        if not isinstance(getattr(request, "param", None), Cell):
            raise pytest.UsageError(f"{FIXTURE} cannot be requested dynamically; name it in the test's arguments")
        return StagingCell(self, request.node, request.param)

    def run_cell(self, item: pytest.Item, cell: Cell) -> CellSummary:
        """Measures `cell` on the leased host. The summary travels in the item's report. Skips what need not run."""
        self._skip_finished(cell)
        self._skip_concluded(cell)
        runner = self._runner = self._runner or wiring.make_runner(
            self._workspace, self.campaign, self.folder, lambda cell_id, phase: write_phase(self.folder, cell_id, phase)
        )
        started = time.monotonic()
        self._hold(runner, cell)
        waited_s = time.monotonic() - started
        # Only under the lease: a worker of a killed session may still be writing there.
        summary = runner.run(cell, prepare_attempt(self.folder, cell), waited_s)
        item.stash[SUMMARY] = summary
        if self.config.option.staging_junit_cell_properties:
            # pytest writes those of the teardown's report, and each report takes the item's.
            item.user_properties += [(name, str(value)) for name, value in summary.metrics.items()]
        return summary

    def _skip_finished(self, cell: Cell) -> None:
        if cell.cell_id in self._finished:
            outcome, reason, attempt = self._finished[cell.cell_id]
            if outcome != "passed":
                raise CellFailed(f"{cell.cell_id}: failed before, in attempt {attempt}: {reason}")
            pytest.skip(f"finished before, in attempt {attempt}")

    def _skip_concluded(self, cell: Cell) -> None:
        """With `--runs auto`: the controller decides at each look, and no run beyond it begins before that."""
        for look in self.campaign.looks if self._whole else ():
            if cell.run_index <= look:
                return
            deadline = time.monotonic() + LOOK_TIMEOUT_S
            while (stop := read_look(self.folder, look)) is None:
                if time.monotonic() > deadline:
                    raise CellFailed(f"{cell.cell_id}: the look at {look} runs was not decided in {LOOK_TIMEOUT_S} s")
                self._release()
                time.sleep(LOOK_POLL_S)
            if stop:
                pytest.skip(f"conclusion reached after {look} blocks")

    def _hold(self, runner: CellRunner, cell: Cell) -> None:
        """Back to back on one host: the lease is kept from a block's first cell to its last."""
        if self._leased_block == cell.block_id:
            return
        self._release()
        write_phase(self.folder, cell.cell_id, "lease")
        self._lease.enter_context(runner.target.lease(f"campaign {self.campaign.campaign_id}", self._lease_timeout_s))
        self._leased_block = cell.block_id

    def _release(self) -> None:
        self._leased_block = None
        self._lease.close()

    def _collector(self, parent: pytest.Collector) -> CampaignFile:
        return CampaignFile.from_parent(
            parent, path=self._benchmark_path, nodeid=self.campaign.benchmark_path, cells=self.campaign.cells
        )


SUMMARY = pytest.StashKey[CellSummary]()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


def _read_lease_timeout(config: pytest.Config) -> float:
    text = str(config.getini("staging_lease_timeout_s") or LEASE_TIMEOUT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageProblem(f"staging_lease_timeout_s = {text}: needs a number of seconds, for example 3600.")
    return seconds


def find_session(config: pytest.Config) -> CellSession:
    """The session that `begin` registered."""
    session = config.pluginmanager.get_plugin(SESSION_PLUGIN)
    assert isinstance(session, CellSession)
    return session


class CampaignFile(pytest.File):
    """The benchmark file as a test file."""

    def __init__(self, *, cells: tuple[Cell, ...], **keywords: Any) -> None:
        super().__init__(**keywords)
        self._cells = cells

    def collect(self) -> list[CellItem]:
        return [self._item(f"{ITEM_NAME}[{cell.cell_id}]", cell) for cell in self._cells]

    def _item(self, name: str, cell: Cell) -> CellItem:
        # With a whole id: pytest 9.2 would take the brackets for a part of the name, and --lf would not find it again.
        return CellItem.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", cell=cell)


class CellItem(pytest.Item):
    """One cell; needs no code of the user's."""

    def __init__(self, *, cell: Cell, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.cell = cell

    def runtest(self) -> None:
        require_passed(find_session(self.config).run_cell(self, self.cell))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (CellFailed, StagingError)):
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
