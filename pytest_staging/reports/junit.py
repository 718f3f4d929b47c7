"""A finished campaign as JUnit XML: the test cases that `--junitxml` writes in a run, made from the folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from pytest_staging.model.campaign import Cell, CellSummary
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.cases import (
    FAIL_ON,
    campaign_facts,
    cell_name,
    failure_text,
    shorten,
    text_limit,
    verdict_name,
    verdict_outcome,
    verdict_text,
)

SUITE = "pytest"  # junit_suite_name's default, so that a pipeline finds the suite under its name
LONGEST_MESSAGE = 300
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(record: CampaignRecord) -> str:
    """The whole file. Test-case properties are left out: the strict Jenkins schema refuses them."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in campaign_facts(record.campaign, record.aggregate).items():
        ElementTree.SubElement(properties, "property", name=name, value=_legal(value))
    cases = [*_cells(record), *([] if record.campaign.smoke else _verdicts(record))]
    suite.extend(cases)
    seconds = sum(sum(one.phases.values()) for one in record.summaries)
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")}
    suite.attrib |= {
        "errors": "0",
        "failures": str(counts["failure"]),
        "skipped": str(counts["skipped"]),
        "tests": str(len(cases)),
        "time": f"{seconds:.3f}",
        "timestamp": record.campaign.created_at,
    }
    root = ElementTree.Element("testsuites", name="pytest tests")
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _cells(record: CampaignRecord) -> Iterator[ElementTree.Element]:
    known = {one.cell.cell_id: one for one in record.summaries}
    limit = text_limit(record.campaign)
    for cell in record.campaign.cells:
        yield _cell(record, cell, known.get(cell.cell_id), limit)


def _cell(record: CampaignRecord, cell: Cell, summary: CellSummary | None, limit: int) -> ElementTree.Element:
    case = _case(record, cell_name(cell), sum(summary.phases.values()) if summary else 0.0)
    if summary is None:
        runs, stopped = record.aggregate["runs"], record.aggregate["stopped"]
        concluded = stopped and cell.run_index > runs
        _skipped(case, f"conclusion reached after {runs} blocks" if concluded else "not run")
    elif not summary.passed:
        text = _legal(shorten(failure_text(summary), limit))
        ElementTree.SubElement(case, "failure", message=text.partition("\n")[0][:LONGEST_MESSAGE]).text = text
    return case


def _verdicts(record: CampaignRecord) -> Iterator[ElementTree.Element]:
    for row in record.aggregate["rows"]:
        case = _case(record, verdict_name(row), 0.0)
        outcome, text = verdict_outcome(row, FAIL_ON[0]), _legal(verdict_text(row))
        if outcome == "failed":
            ElementTree.SubElement(case, "failure", message=text).text = text
        elif outcome == "skipped":
            _skipped(case, text)
        yield case


def _case(record: CampaignRecord, name: str, seconds: float) -> ElementTree.Element:
    """With the class name that pytest makes of the benchmark's path."""
    classname = record.campaign.benchmark_path.replace("/", ".")
    attributes: dict[str, Any] = {"classname": _legal(classname), "name": name, "time": f"{seconds:.3f}"}
    return ElementTree.Element("testcase", attributes)


def _skipped(case: ElementTree.Element, reason: str) -> None:
    ElementTree.SubElement(case, "skipped", type="pytest.skip", message=_legal(reason)).text = _legal(reason)


def _legal(text: str) -> str:
    """Without what XML forbids: each such character becomes its number, as pytest writes it."""
    return _FORBIDDEN.sub(lambda found: f"#x{ord(found[0]):02X}", text)
