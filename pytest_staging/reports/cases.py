"""Cells and verdicts as test cases: the same names, outcomes and words in a pytest run and in a report made later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.reports.markdown import show_verdict

ITEM_NAME = "campaign"
FAIL_ON = ("regression", "inconclusive", "never")
FAILING: Mapping[str, tuple[str, ...]] = {
    "regression": ("regression",),
    "inconclusive": ("regression", "inconclusive"),
    "never": (),
}
# GitLab takes JUnit files of up to 30 MB; names, escapes and pytest's second copy of each text take the rest.
TEXT_BUDGET = 5_000_000
LEAST_TEXT = 400
Outcome = Literal["passed", "failed", "skipped"]


def cell_name(cell: Cell) -> str:
    """Name of the test case of a cell."""
    return f"{ITEM_NAME}[{cell.cell_id}]"


def verdict_name(row: Mapping[str, Any]) -> str:
    """Name of the test case of a row of the comparison."""
    return f"verdict[{row['candidate_slug']}-{row['platform_mode']}-{row['metric']}]"


def subject(row: Mapping[str, Any]) -> str:
    """What a row is about: candidate, mode and metric."""
    return f"{row['candidate_slug']} {row['platform_mode']} {row['metric']}"


def verdict_text(row: Mapping[str, Any]) -> str:
    """The row's verdict and its reason, in one line."""
    return f"{subject(row)}: {show_verdict(row)}: {row['reason']}"


def verdict_outcome(row: Mapping[str, Any], fail_on: str) -> Outcome:
    """A test's word for a verdict: a pass passes, what fails depends on `fail_on` (one of FAIL_ON), the rest skips."""
    if not row["applicable"] or (row["advisory"] and row["verdict"] != "pass"):
        return "skipped"
    if row["verdict"] == "pass":
        return "passed"
    return "failed" if row["verdict"] in FAILING[fail_on] else "skipped"


def failure_text(summary: CellSummary) -> str:
    """Why a cell has no result, with the end of the log that explains it."""
    tail = f"\n--- end of the log ---\n{summary.log_tail}" if summary.log_tail else ""
    return f"{summary.cell.cell_id}: {summary.why}{tail}"


def text_limit(campaign: Campaign) -> int:
    """How many characters one test case's text may have, so that a file with all of them stays readable for GitLab."""
    return max(LEAST_TEXT, TEXT_BUDGET // max(1, len(campaign.cells)))


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters: the beginning has the reason, the end of a log its point."""
    if len(text) <= limit:
        return text
    first, last = limit // 3, limit - limit // 3
    return f"{text[:first]}\n... {len(text) - limit} characters are left out here ...\n{text[-last:]}"


def campaign_facts(campaign: Campaign, aggregate: Mapping[str, Any]) -> dict[str, str]:
    """What pins a campaign and what came of it, as properties of a test suite."""
    facts = {
        "staging.campaign_id": campaign.campaign_id,
        "staging.benchmark_sha256": campaign.benchmark_sha256,
        "staging.seed": str(campaign.seed),
        "staging.smoke": str(campaign.smoke).lower(),
        "staging.baseline": campaign.baseline_slug,
        "staging.candidates": " ".join(campaign.candidate_slugs),
        "staging.verdict": "none (smoke)" if campaign.smoke else aggregate["verdict"],
        "staging.complete": str(aggregate["complete"]).lower(),
        "staging.load_tool": f"{campaign.load_tool['name']} {campaign.load_tool['version']}",
    }
    return facts | {f"staging.version.{slug}": print_ for slug, print_ in campaign.versions.items()}
