"""Verdicts as test cases of their own, so that pipelines see them; the same with and without workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_staging.reports.cases import FAIL_ON, verdict_name, verdict_outcome, verdict_text

__all__ = ["FAIL_ON", "build_reports", "verdict_outcome"]


def build_reports(aggregate: Mapping[str, Any], file: str, fail_on: str) -> Iterator[pytest.TestReport]:
    """Two reports per row, its verdict and its end: other plugins, pytest-html for one, wait for a test's end."""
    for row in aggregate["rows"]:
        outcome, text = verdict_outcome(row, fail_on), verdict_text(row)
        longrepr: Any = None
        if outcome == "failed":
            longrepr = text
        elif outcome == "skipped":
            longrepr = (file, 0, f"Skipped: {text}")
        report = _report(file, verdict_name(row), "call", outcome, longrepr)
        # Marks the report as ours for the terminal.
        vars(report)["staging_verdict"] = row["verdict"]
        yield report
        yield _report(file, verdict_name(row), "teardown", "passed", None)


def _report(file: str, name: str, when: Any, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"{file}::{name}",
        location=(file, None, name),
        keywords={name: 1},
        outcome=outcome,
        longrepr=longrepr,
        when=when,
    )
