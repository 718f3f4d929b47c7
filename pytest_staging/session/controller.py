"""The one writer: journals what reports bring, judges, and reports. Runs once per session, also with xdist."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from pytest_staging import durable, store, wiring
from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.campaign.planning import create_folder, load_pinned_benchmark
from pytest_staging.campaign.records import Journal, count_attempts, exclusive, sweep, unmeasured
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import StorageError, UsageProblem, WorkspaceError
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.cases import text_limit
from pytest_staging.reports.markdown import render_report
from pytest_staging.reports.terminal import paint
from pytest_staging.session import junit
from pytest_staging.session.board import Board
from pytest_staging.session.exits import exiting, leave_out_lineless
from pytest_staging.session.hosts import Hosts
from pytest_staging.session.images import check_forced, foresee_builds, rebuild_forced
from pytest_staging.session.live import LiveView, can_draw, encoding_of
from pytest_staging.session.pages import write_page
from pytest_staging.session.progress import (
    Estimate,
    Standing,
    build_progress,
    read_phases,
    remove_phases,
    render_cell,
    worker_number,
)
from pytest_staging.session.scheduling import BlockScheduling, cell_id_of
from pytest_staging.session.summary import render_generator, render_header, render_summary, render_title
from pytest_staging.session.verdicts import build_reports
from pytest_staging.store import Workspace


@dataclass(frozen=True)
class Orders:
    """How this session runs the campaign; nothing of it is pinned."""

    fail_on: str
    resumed: bool = False
    retry_failed: bool = False
    rebuild_all: bool = False
    rebuild_modes: tuple[str, ...] = ()
    policy_api: str | None = None
    html_report: str = "auto"

    def forced_modes(self, campaign: Campaign) -> tuple[str, ...]:
        """The modes that are built before the campaign begins, whatever the cache holds."""
        return campaign.platform_modes if self.rebuild_all else self.rebuild_modes


class Controller:
    """Plans nothing and measures nothing; writes everything."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        campaign: Campaign,
        benchmark: Benchmark,
        orders: Orders,
        hosts: Hosts,
    ) -> None:
        self.config = config
        self.campaign = campaign
        self.folder = workspace.campaign_folder(campaign.campaign_id)
        self._workspace = workspace
        self._benchmark = benchmark
        self._orders = orders
        self._hosts = hosts
        self._calibration = wiring.calibration_of(campaign.load_tool, benchmark.load.processes)
        policy_api = orders.policy_api or campaign.policy_api
        self._watch = wiring.make_policy_watch(workspace, policy_api, self.folder) if policy_api else None
        if campaign.policy_presets and self.slots > 1:
            raise UsageProblem(
                "--staging-policy-preset: one policy has one preset at a time, so it takes one host slot."
            )
        self._held = ExitStack()
        self._cells = {cell.cell_id: cell for cell in campaign.cells}
        self._journal: Journal | None = None
        self._finished: dict[str, CellSummary] = {}
        check_forced(orders.forced_modes(campaign), campaign, orders.resumed)
        if orders.resumed:
            self._finished = Journal(self.folder, campaign, orders.retry_failed).summaries
        self._aggregate: dict[str, Any] | None = None
        self._estimate = Estimate(len(campaign.cells) - len(self._finished))
        self._live: LiveView | None = None
        self._standing: Standing | None = None
        self._reporting = False
        self._stored = True
        self._page = ""
        self._builds: list[str] = []

    def shipment(self) -> dict[str, Any]:
        """What every process that runs cells must know: the campaign, and the cells that are finished."""
        finished = {cell_id: [one.outcome, one.reason or "", one.attempt] for cell_id, one in self._finished.items()}
        return {"campaign": asdict(self.campaign), "finished": finished, "hosts": self._hosts.shipment()}

    @property
    def slots(self) -> int:
        """How many cells may be measured at once."""
        return len(self._hosts.seats) or 1

    def pytest_report_header(self) -> list[str]:
        lines = render_header(self.campaign, self._benchmark, len(self._finished))
        asked = getattr(self.config.option, "numprocesses", None)
        if not self._hosts.generators:
            lines.append(render_generator(campaign=self.campaign, calibration=self._calibration))
        lines += self._hosts.render()
        if asked and asked > len(self.config.option.tx):
            hosts = "1 host, so 1 worker" if self.slots == 1 else f"{self.slots} host slots, so as many workers"
            lines.append(f"staging: {hosts}: cells on one host never overlap")
        return lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["staging"] = json.dumps(self.shipment())

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # One that was killed leaves its last phase behind.
        remove_phases(self.folder, [worker_number(node.gateway.id)])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> BlockScheduling:
        return BlockScheduling(config, log, self.campaign)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        if self.config.option.staging_build_dry_run:
            with exiting():
                forced = self._orders.forced_modes(self.campaign)
                self._builds = list(foresee_builds(self._workspace, self.campaign, forced, self._hosts.seats))
        if self.config.option.collectonly or session.testsfailed:
            return (yield)
        with exiting():
            self._open()
        if self._reporter and self.config.get_verbosity() == 0:
            # One line of ours per cell: pytest's file name before each would only be repeated.
            self._reporter.showfspath = False
            # A pipeline's log is a pipe, which would keep everything back until the end.
            self._reporter.flush()
        self._live = self._make_live_view()
        if self._watch:
            with exiting():
                self._watch.begin()
        try:
            return (yield)
        finally:
            if self._live:
                self._live.close()
            remove_phases(self.folder)

    def pytest_enter_pdb(self) -> None:
        # Whoever debugs has the terminal for good: where the cursor is then, nobody knows.
        if self._live:
            self._live.close()
            self._live = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None]:
        with self._hidden():
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> tuple[str, str, str] | None:
        # At plain verbosity a cell gets one line of ours instead of pytest's dot, and a verdict its row in the table.
        # Only while it is reported: pytest asks again for the words of its short summary.
        ours = getattr(report, "staging_cells", None) or hasattr(report, "staging_verdict")
        return (report.outcome, "", "") if ours and self._reporting and config.get_verbosity() == 0 else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        summaries = self._summaries_in(report)
        if cell_id_of(report.nodeid) in self._cells:
            junit.shorten_report(report, text_limit(self.campaign))
        with self._hidden():
            self._reporting = True
            try:
                yield
            finally:
                self._reporting = False
            for summary in summaries:
                self._record(summary)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        leave_out_lineless(excinfo)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._journal is None or not self._stored:
            return
        with exiting():
            if self._watch:
                self._watch.end(finished=exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
            # Read again: the campaign's own copy must still be what it pinned.
            benchmark = load_pinned_benchmark(self.folder, self.campaign)
            self._aggregate = build_aggregate(self.campaign, benchmark, self._journal.finished())
            store.write_json(self.folder / "aggregate-comparison.json", self._aggregate)
            durable.write_text(self.folder / "aggregate-comparison.md", render_report(self._aggregate))
            self._page = self._write_page(benchmark)
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not self.campaign.smoke:
            self._report_verdicts(session)
        junit.add_campaign_properties(self.config, self.campaign, self._aggregate)
        self.config.hook.pytest_staging_campaign_finished(config=self.config, aggregate=self._aggregate)

    def pytest_unconfigure(self) -> None:
        self._held.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._builds:
            terminalreporter.section("builds")
            terminalreporter.write_line("\n".join(self._builds))
        if self._aggregate is None:
            return
        terminalreporter.section(render_title(self.campaign))
        terminal = self.config.get_terminal_writer()
        width = terminal.fullwidth if terminalreporter.isatty else None
        for line in render_summary(self.campaign, self._aggregate, self.folder, width, self._page):
            terminalreporter.write_line(paint(line, terminal.markup))

    def _write_page(self, benchmark: Benchmark) -> str:
        assert self._journal is not None
        record = CampaignRecord(
            folder=self.folder,
            campaign=self.campaign,
            benchmark=benchmark,
            summaries=self._journal.finished(),
            aggregate=self._aggregate or {},
        )
        return write_page(record, self._orders.html_report)

    def _open(self) -> None:
        """Makes the campaign's folder, or takes it over; nobody else writes into it from here on."""
        if not self._orders.resumed:
            create_folder(self._workspace, self.campaign)
        self._held.enter_context(exclusive(self.folder))
        if self._orders.resumed:
            sweep(self.folder)
            remove_phases(self.folder)
        self._journal = Journal(self.folder, self.campaign, self._orders.retry_failed)
        if self._journal.summaries.keys() != self._finished.keys():
            raise WorkspaceError(
                f"campaign {self.campaign.campaign_id} went on while this session began. Resume again."
            )
        self._journal.decide_looks(self._benchmark)
        forced = self._orders.forced_modes(self.campaign)
        rebuild_forced(self._workspace, self.campaign, forced, self.folder / "builds", self._hosts.seats)

    def _report_verdicts(self, session: pytest.Session) -> None:
        """As reports of the controller: they reach JUnit, the counts and the exit status like any test's."""
        for report in build_reports(self._aggregate or {}, self.campaign.benchmark_path, self._orders.fail_on):
            self.config.hook.pytest_runtest_logreport(report=report)
            session.testscollected += report.when == "call"
            if report.failed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _summaries_in(self, report: pytest.TestReport) -> list[CellSummary]:
        raw = getattr(report, "staging_cells", None)
        if raw is not None:
            return [store.parse_summary(one, "a worker's report") for one in json.loads(raw)]
        cell = self._cells.get(cell_id_of(report.nodeid) or "")
        if cell is None or self._journal is None or report.when in ("setup", "call", "teardown"):
            return []
        # xdist reports a dead worker in its own words, with a phase of its own and without our data.
        return [self._crashed(cell, str(report.longrepr))] if report.failed else []

    def _crashed(self, cell: Cell, reason: str) -> CellSummary:
        attempt = count_attempts(self.folder, cell) + 1
        return unmeasured(self.campaign, self._benchmark, cell, attempt, reason)

    def _record(self, summary: CellSummary) -> None:
        assert self._journal is not None
        with exiting():
            try:
                again = summary.cell.cell_id in self._journal.summaries
                if self._journal.record(summary) is None:
                    return
                self._journal.decide_looks(self._benchmark)
            except StorageError:
                # One message is enough: what cannot take a cell cannot take the comparison either.
                self._stored = False
                raise
        if not again:
            self._estimate.count()
        if self._standing:
            self._standing.add(summary)
        if self._reporter and self.config.get_verbosity() == 0:
            self._reporter.write_line(render_cell(summary, self._estimate))
            self._reporter.flush()
        self.config.hook.pytest_staging_cell_finished(config=self.config, summary=summary)

    def _make_live_view(self) -> LiveView | None:
        if not can_draw(self.config):
            return None
        assert self._journal is not None
        standing = self._standing = Standing(self.campaign, self._benchmark, self._journal.summaries)

        terminal = self.config.get_terminal_writer()
        board = Board(encoding_of(terminal), terminal.hasmarkup)

        def lines(columns: int, rows: int) -> list[str]:
            progress = build_progress(read_phases(self.folder), self._estimate, standing, time.time())
            return board.render(columns, rows, progress)

        return LiveView(terminal, lines)

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def _hidden(self) -> AbstractContextManager[None]:
        return self._live.hidden() if self._live else nullcontext()
