"""Cells as pytest items: collected from the benchmark file, run one at a time while their block's host is leased."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from _pytest import runner

from pytest_staging import wiring
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.campaign.pool import HostPool
from pytest_staging.campaign.records import (
    count_attempts,
    keep_lost_attempt,
    prepare_attempt,
    read_host,
    read_look,
    unmeasured,
)
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.session.hosts import Hosts
from pytest_staging.session.items import (
    FIXTURE,
    SUMMARIES,
    CampaignFile,
    CellFailed,
    CellItem,
    StagingCell,
    cell_of,
    in_order,
)
from pytest_staging.session.progress import remove_phases, worker_number, write_phase
from pytest_staging.store import Workspace

SESSION_PLUGIN = "staging-session"
LEASE_TIMEOUT_S = 3600
HERE = ""  # the one place of targets without an inventory
LOOK_TIMEOUT_S = 3600
LOOK_POLL_S = 0.02
Finished = Sequence[Any]
"""Outcome, reason and attempt of a cell that an earlier session finished."""


class CellSession:
    """Collects and runs cells: in the only process, or in an xdist worker."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        campaign: Campaign,
        finished: Mapping[str, Finished],
        hosts: Hosts,
    ) -> None:
        self.config = config
        self.campaign = campaign
        self._finished = finished
        self._whole = False
        self.folder = workspace.campaign_folder(campaign.campaign_id)
        self._workspace = workspace
        self._benchmark_path = workspace.root / campaign.benchmark_path
        self._hosts = hosts
        self._worker = worker_number(str(getattr(config, "workerinput", {}).get("workerid", "")))
        self._pool = self._make_pool()
        self._runner: CellRunner | None = None
        self._leased_block: str | None = None
        self._measured_on: dict[str, str] = {}
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

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> Generator[None]:
        """The user's own cell tests take the place of the built-in items; without any, those are added.

        In workers too, since xdist hands out what they collected: no plugin that shuffles tests changes the order.
        """
        own = [item for item in items if isinstance(item, pytest.Function) and cell_of(item)]
        if len({cell_of(item) for item in own}) < len(own):
            names = sorted({item.nodeid.partition("[")[0] for item in own})
            found = ", ".join(names)
            raise pytest.UsageError(f"only one test may take {FIXTURE}, and once for each cell; found: {found}")
        if own:
            items[:] = [item for item in items if not isinstance(item, CellItem)]
        elif not any(isinstance(item, CellItem) for item in items):
            items += self._collector(session).collect()
        yield
        items[:] = in_order(items, self.campaign)

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
        summaries = item.stash.get(SUMMARIES, None)
        if call.when == "call" and summaries:
            # Extra attributes of a report travel from xdist's workers to the controller.
            vars(report)["staging_cells"] = json.dumps([asdict(one) for one in summaries])
        return report

    def pytest_sessionfinish(self) -> None:
        self._release()
        remove_phases(self.folder, [self._worker])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self) -> None:
        self._has_workers = True

    def pytest_unconfigure(self) -> None:
        """On the controller, after its workers: one that was killed left its service, and no next cell ends it."""
        if self._has_workers:
            with ThreadPoolExecutor(len(self._pool.seats)) as pool:
                list(pool.map(self._end_leftovers, self._pool.seats))

    def _end_leftovers(self, seat: str) -> None:
        """Getting the lease ends them. If another campaign has it, that one has done so."""
        target = wiring.make_target(self._workspace, self.campaign.target, self._seat(seat))
        holder = f"campaign {self.campaign.campaign_id}"
        with suppress(StagingError), target.lease(holder, 0.0), self._generators_of(seat, holder):
            pass

    def _generators_of(self, seat: str, holder: str) -> AbstractContextManager[None]:
        """The lease of what loads the host."""
        host = self._hosts.seats.get(seat)
        if host is None or not host.generators:
            return nullcontext()
        tool = wiring.make_load_tool(self.campaign.load_tool["name"])
        return wiring.make_generators(host.generators, self._hosts.generators, tool).lease(holder, 0.0)

    def cell_for(self, request: pytest.FixtureRequest) -> StagingCell:
        """What the fixture `staging_cell` gives."""
        if not isinstance(getattr(request, "param", None), Cell):
            raise pytest.UsageError(f"{FIXTURE} cannot be requested dynamically; name it in the test's arguments")
        return StagingCell(self.run_cell, request.node, request.param)

    def run_cell(self, item: pytest.Item, cell: Cell) -> CellSummary:
        """Measures `cell` on the leased host. The summary travels in the item's report. Skips what need not run."""
        self._skip_finished(cell)
        self._skip_concluded(cell)
        summaries: list[CellSummary] = []
        item.stash[SUMMARIES] = summaries
        while (summary := self._measure_block_to(cell, summaries)).host_lost:
            keep_lost_attempt(self.folder, summary)
            self._leased_block = None
            self._pool.lose(summary.reason or "")
        if self.config.option.staging_junit_cell_properties:
            # pytest writes those of the teardown's report, and each report takes the item's.
            item.user_properties += [(name, str(value)) for name, value in summary.metrics.items()]
        return summary

    def _measure_block_to(self, cell: Cell, summaries: list[CellSummary]) -> CellSummary:
        """Measures `cell`; before it those cells of its block again that another host measured."""
        summary = None
        for one in (*self._measured_elsewhere(cell), cell):
            try:
                summary = self._measure(one)
            except pytest.fail.Exception as cut_off:  # pytest-timeout's, for one
                summaries.append(self._cut_off(one, str(cut_off.msg)))
                raise
            if summary.host_lost:
                return summary
            summaries.append(summary)
            self._measured_on[one.cell_id] = self._pool.held or HERE
        assert summary is not None
        return summary

    def _measure(self, cell: Cell) -> CellSummary:
        started = time.monotonic()
        runner = self._hold(cell)
        waited_s = time.monotonic() - started
        # Only under the lease: a worker of a killed session may still be writing there.
        return runner.run(cell, prepare_attempt(self.folder, cell), waited_s)

    def _cut_off(self, cell: Cell, reason: str) -> CellSummary:
        benchmark = load_pinned_benchmark(self.folder, self.campaign)
        return unmeasured(self.campaign, benchmark, cell, count_attempts(self.folder, cell) + 1, reason)

    def _measured_elsewhere(self, cell: Cell) -> list[Cell]:
        """A block's cells are compared with each other, so all of them must come from one host."""
        if self._pool.seats == [HERE]:
            return []
        self._hold(cell)
        others = [one for one in self.campaign.cells if one.block_id == cell.block_id and one != cell]
        return [one for one in others if self._host_of(one) not in (None, self._pool.held)]

    def _host_of(self, cell: Cell) -> str | None:
        """The host that measured a finished cell."""
        found = self._measured_on.get(cell.cell_id)
        return found or read_host(self.folder, cell)

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

    def _hold(self, cell: Cell) -> CellRunner:
        """Back to back on one host: the lease is kept from a block's first cell to its last."""
        if self._leased_block != cell.block_id:
            self._release()
            self._tell(cell.cell_id, "lease")
            block = (one for one in self.campaign.cells if one.block_id == cell.block_id)
            preferred = next((host for one in block if (host := self._host_of(one))), None)
            self._runner = self._pool.hold(preferred, self._lease_timeout_s)
            self._leased_block = cell.block_id
        assert self._runner is not None
        return self._runner

    def _release(self) -> None:
        self._leased_block = None
        self._pool.release()

    def _seat(self, name: str) -> wiring.Seat | None:
        return (name, self._hosts.seats[name]) if name in self._hosts.seats else None

    def _tell(self, cell_id: str, phase: str, seat: str = HERE) -> None:
        write_phase(self.folder, cell_id, phase, self._worker, seat)

    def _make_pool(self) -> HostPool:
        def make(seat: str) -> CellRunner:
            return wiring.make_runner(
                self._workspace,
                self.campaign,
                self.folder,
                lambda cell_id, phase: self._tell(cell_id, phase, seat),
                keep_failed=self.config.option.staging_keep_failed,
                seat=self._seat(seat),
                generators=self._hosts.generators,
            )

        names = list(self._hosts.seats) or [HERE]
        first = self._worker % len(names)  # each worker begins with a host of its own
        generator = wiring.make_generator(self._hosts.generator_slots) if self._hosts.seats else None
        return HostPool([*names[first:], *names[:first]], make, f"campaign {self.campaign.campaign_id}", generator)

    def _collector(self, parent: pytest.Collector) -> CampaignFile:
        return CampaignFile.from_parent(
            parent,
            path=self._benchmark_path,
            nodeid=self.campaign.benchmark_path,
            cells=self.campaign.cells,
            run=self.run_cell,
        )


class OnlyOnce:
    """Runs each cell's test as pytest itself does, before any plugin would run it several times.

    A cell that failed is a result: with another try a version that crashes now and then would pass.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        return runner.pytest_runtest_protocol(item, nextitem) if cell_of(item) else None


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
