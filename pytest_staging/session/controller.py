"""The one writer: journals what reports bring, writes the comparison, prints the summary. Runs on the controller."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_staging import durable, store
from pytest_staging.campaign.planning import create_folder, load_pinned_benchmark
from pytest_staging.campaign.records import Journal, build_aggregate
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.reports.markdown import render_missing, render_report, render_table
from pytest_staging.session import junit
from pytest_staging.session.cells import in_order
from pytest_staging.session.progress import PHASE_FILE, Estimate, LiveLine, render_cell
from pytest_staging.session.scheduling import BlockScheduling, cell_id_of
from pytest_staging.store import Workspace

MISSING_SHOWN = 10


class Controller:
    """Exists once per session, also with xdist."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        campaign: Campaign,
        shipped: str,
        exiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.config = config
        self.campaign = campaign
        self.folder = workspace.campaign_folder(campaign.campaign_id)
        self._workspace = workspace
        self._shipped = shipped
        self._exiting = exiting
        self._cells = {cell.cell_id: cell for cell in campaign.cells}
        self._journal: Journal | None = None
        self._aggregate: dict[str, Any] | None = None
        self._estimate = Estimate(len(campaign.cells))
        self._live: LiveLine | None = None

    def pytest_report_header(self) -> list[str]:
        one = self.campaign
        against = ", ".join(one.candidate_slugs)
        kind = "smoke campaign" if one.smoke else "campaign"
        modes = ", ".join(one.platform_modes)
        lines = [
            f"staging: {kind} {one.campaign_id}: {against} against {one.baseline_slug}",
            f"staging: {one.runs} runs × modes {modes} × {len(one.slugs)} versions = {len(one.cells)} cells, "
            f"seed {one.seed}, {one.load_tool['name']} {one.load_tool['version']}",
        ]
        asked = getattr(self.config.option, "numprocesses", None)
        if asked and asked > len(self.config.option.tx):
            lines.append("staging: 1 host, so 1 worker: cells on one host never overlap")
        return lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["staging_campaign"] = self._shipped

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> BlockScheduling:
        return BlockScheduling(config, log, self.campaign)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        yield
        items[:] = in_order(items, self.campaign)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        if self.config.option.collectonly or session.testsfailed:
            return (yield)
        with self._exiting():
            create_folder(self._workspace, self.campaign)
            self._journal = Journal(self.folder, self.campaign)
        self._estimate = Estimate(len(session.items) or len(self.campaign.cells))
        self._live = self._make_live_line()
        reporter = self._reporter
        if reporter and self.config.get_verbosity() == 0:
            # One line of ours per cell: pytest's file name before each would only be repeated.
            reporter.showfspath = False
        try:
            return (yield)
        finally:
            if self._live:
                self._live.close()
            (self.folder / PHASE_FILE).unlink(missing_ok=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None]:
        with self._hidden():
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> tuple[str, str, str] | None:
        # At plain verbosity a cell gets one line of ours instead of pytest's dot.
        if getattr(report, "staging_cell", None) and config.get_verbosity() == 0:
            return report.outcome, "", ""
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        summary = self._summary_in(report)
        with self._hidden():
            yield
            if summary is not None:
                self._record(summary)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._journal is None:
            return
        with self._exiting():
            benchmark = load_pinned_benchmark(self.folder, self.campaign)
            self._aggregate = build_aggregate(self.campaign, benchmark, self._journal.finished())
            store.write_json(self.folder / "aggregate-comparison.json", self._aggregate)
            durable.write_text(self.folder / "aggregate-comparison.md", render_report(self._aggregate))
        junit.add_campaign_properties(self.config, self.campaign)
        self.config.hook.pytest_staging_campaign_finished(config=self.config, aggregate=self._aggregate)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._aggregate is None:
            return
        write = terminalreporter.write_line
        terminalreporter.section(f"staging campaign {self.campaign.campaign_id}")
        if self.campaign.smoke:
            write("Smoke campaign: it shows that the wiring works, nothing else.")
        done, planned = self._aggregate["cells_passed"], self._aggregate["cells_planned"]
        write(f"{done} of {planned} cells measured; medians over runs:")
        write("")
        write(render_table(self._aggregate))
        missing = render_missing(self._aggregate["missing"])
        if missing:
            write("")
            write("Missing:")
            for line in missing[:MISSING_SHOWN]:
                write(f"  {line}")
            if len(missing) > MISSING_SHOWN:
                write(f"  and {len(missing) - MISSING_SHOWN} more, all in aggregate-comparison.md")
        write("")
        for name in ("aggregate-comparison.md", "aggregate-comparison.json", "campaign.json"):
            write(f"wrote {shown(self.folder / name)}")

    def _summary_in(self, report: pytest.TestReport) -> CellSummary | None:
        raw = getattr(report, "staging_cell", None)
        if raw is not None:
            return store.parse_summary(json.loads(raw), "a worker's report")
        cell = self._cells.get(cell_id_of(report.nodeid) or "")
        if cell is not None and report.failed and self._journal and cell.cell_id not in self._journal.summaries:
            if report.when in ("setup", "call", "teardown"):
                return None
            return self._crashed(cell, str(report.longrepr))
        return None

    def _crashed(self, cell: Cell, reason: str) -> CellSummary:
        """xdist reports a dead worker in its own words and without our data."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return CellSummary(
            campaign_id=self.campaign.campaign_id,
            run_index=cell.run_index,
            version_slug=cell.version_slug,
            platform_mode=cell.platform_mode,
            attempt=1,
            outcome="failed",
            started_at=now,
            finished_at=now,
            reason=reason,
            benchmark_sha256=self.campaign.benchmark_sha256,
            smoke=self.campaign.smoke,
        )

    def _record(self, summary: CellSummary) -> None:
        assert self._journal is not None
        with self._exiting():
            if self._journal.record(summary) is None:
                return
        self._estimate.count()
        if self.config.get_verbosity() == 0:
            if self._reporter:
                self._reporter.write_line(render_cell(summary, self._estimate))
        self.config.hook.pytest_staging_cell_finished(config=self.config, summary=summary)

    def _make_live_line(self) -> LiveLine | None:
        reporter = self._reporter
        wanted = reporter and reporter.isatty and self.config.get_verbosity() >= 0
        if not wanted or self.config.option.capture == "no":
            return None
        return LiveLine(self.folder, self.campaign, self._estimate, reporter._tw._file)

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def _hidden(self) -> AbstractContextManager[None]:
        return self._live.hidden() if self._live else nullcontext()


def shown(path: Path) -> str:
    """Relative to where the user stands, when it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
