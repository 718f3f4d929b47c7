"""Verdicts as test cases of their own, so that pipelines see them; the same with and without workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_staging.campaign.comparing import Key
from pytest_staging.reports.markdown import show_verdict

FAIL_ON = ("regression", "inconclusive", "never")


def build_reports(aggregate: Mapping[str, Any], file: str, fail_on: str) -> Iterator[pytest.TestReport]:
    """One report per row. A pass passes; what fails depends on `fail_on`; the rest is skipped with the reason."""
    for row in aggregate["rows"]:
        key = Key(row["candidate_slug"], row["platform_mode"], row["metric"])
        name = f"verdict[{key.test_id}]"
        text = f"{show_verdict(row)}: {row['reason']}"
        outcome = verdict_outcome(row, fail_on)
        longrepr: Any = None
        if outcome == "failed":
            longrepr = f"{key}: {text}"
        elif outcome == "skipped":
            longrepr = (file, 0, f"Skipped: {key}: {text}")
        report = pytest.TestReport(
            nodeid=f"{file}::{name}",
            location=(file, None, name),
            keywords={name: 1},
            outcome=outcome,
            longrepr=longrepr,
            when="call",
        )
        # Marks the report as ours for the terminal.
        vars(report)["staging_verdict"] = row["verdict"]
        yield report


def verdict_outcome(row: Mapping[str, Any], fail_on: str) -> Any:
    """pytest's word for a verdict."""
    if not row["applicable"] or (row["advisory"] and row["verdict"] != "pass"):
        return "skipped"
    if row["verdict"] == "pass":
        return "passed"
    failing = {"regression": ("regression",), "inconclusive": ("regression", "inconclusive"), "never": ()}[fail_on]
    return "failed" if row["verdict"] in failing else "skipped"
