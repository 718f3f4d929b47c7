"""JUnit XML that is made from a campaign's folder: its schema, its words, its size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import xmlschema
from made_up import make_benchmark, slower
from recorded import failing, make_record

from pytest_staging.reports.cases import shorten, text_limit
from pytest_staging.reports.junit import render_junit
from pytest_staging.session.junit import shorten_report

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parents[1] / "session" / "junit-10.xsd"))
GITLAB_BYTES = 30 * 1000 * 1000
HOSTILE = "<&]]>\x00\x1b[31m\ufffe\ud7ff\U0001f600 \"'"


def parse(text):
    """The file's root, after the schema has accepted it."""
    root = ElementTree.fromstring(text)
    SCHEMA.validate(root)
    return root


def cases(root):
    """Test case by name."""
    found = {case.get("name"): case for case in root.iter("testcase")}
    assert len(found) == len(list(root.iter("testcase"))), "a pipeline that keys on the name would drop one"
    return found


def test_each_kind_of_result():
    """PT-05: passed, failed, invalid and absent cells; passed, failed and skipped verdicts; the counts of the suite."""
    def change(summary):
        if summary.cell.cell_id == "run001-jvm-fast":
            return replace(summary, outcome="failed", reason=f"died {HOSTILE}", log_tail=HOSTILE)
        if summary.cell.cell_id == "run002-jvm-fast":
            return replace(summary, outcome="invalid", reason="the generator was saturated")
        return None if summary.cell.cell_id == "run003-native-fast" else summary

    record = make_record(runs=10, metrics=slower(), change=change)
    root = parse(render_junit(record))
    found = cases(root)
    assert list(found)[:40] == [f"campaign[{cell.cell_id}]" for cell in record.campaign.cells]
    failure = found["campaign[run001-jvm-fast]"].find("failure")
    assert failure.get("message").startswith("run001-jvm-fast: died <&]]>#x00#x1B[31m#xFFFE")
    assert "--- end of the log ---" in failure.text
    assert "\U0001f600" in failure.text
    assert found["campaign[run002-jvm-fast]"].find("failure").text == (
        "run002-jvm-fast: invalid: the generator was saturated"
    )
    assert found["campaign[run003-native-fast]"].find("skipped").get("message") == "not run"
    assert "worse by" in found["verdict[fast-jvm-p95]"].find("failure").get("message")
    assert found["verdict[fast-native-gc_pause]"].find("skipped") is not None
    assert len(found["verdict[fast-native-p95]"]) == 0
    suite = root.find("testsuite")
    counted = {tag: len(list(root.iter(tag))) for tag in ("testcase", "failure", "skipped")}
    assert counted == {"testcase": 50, "failure": 3, "skipped": 2}
    assert [int(suite.get(name)) for name in ("tests", "failures", "skipped", "errors")] == [50, 3, 2, 0]


def test_facts_and_times():
    """PT-05: campaign facts are suite properties, times are the cells' own, and the bytes are always the same."""
    def change(summary):
        return replace(summary, phases={"load": 1.25, "stop": 0.25})

    record = make_record(runs=2, change=change)
    text = render_junit(record)
    assert text == render_junit(record)
    root = parse(text)
    properties = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert properties["staging.campaign_id"] == "c"
    assert properties["staging.verdict"] == "inconclusive"
    assert root.find("testsuite").get("time") == "12.000"
    assert {case.get("time") for case in root.iter("testcase")} == {"1.500", "0.000"}


def test_a_smoke_campaign_has_no_verdict():
    """PT-05: cells only, as in the run."""
    found = cases(parse(render_junit(make_record(runs=1, smoke=True))))
    assert [name for name in found if name.startswith("verdict")] == []
    assert len(found) == 4


def test_ten_thousand_failing_cells_stay_below_gitlabs_limit():
    """PT-05: GitLab takes 30 MB: with many cells long logs are shortened in the middle, and it is said."""
    log = "\n".join(f"line {number}: <Exception & \"cause\"> in thread main" for number in range(400))
    benchmark = make_benchmark({"p95": {"unit": "ms", "direction": "lower", "tolerance": 0.1}})

    def change(summary):
        return replace(summary, outcome="failed", reason="it died: " + "why " * 60, log_tail=log)

    record = make_record(runs=2500, benchmark=benchmark, change=change)
    assert len(record.campaign.cells) == 10_000
    text = render_junit(record)
    assert len(text.encode()) < GITLAB_BYTES
    found = cases(ElementTree.fromstring(text))
    failure = found["campaign[run001-jvm-fast]"].find("failure").text
    assert failure.startswith("run001-jvm-fast: it died: why")
    assert "characters are left out here" in failure
    assert failure.endswith("line 399: <Exception & \"cause\"> in thread main")


def test_few_cells_keep_their_whole_log():
    """PT-05: what is shortened for many cells is whole for few: the journal's 16 KiB fit a thousand times."""
    log = "x" * 16_000
    record = make_record(runs=8, change=failing("run001-jvm-fast", log_tail=log))
    assert log in cases(parse(render_junit(record)))["campaign[run001-jvm-fast]"].find("failure").text


@pytest.mark.parametrize("limit", [400, 1000])
def test_what_a_run_writes_is_shortened_alike(limit):
    """PT-05: reports of a run lose the middle of a failure and of captured output beyond the limit, no more."""
    report = SimpleNamespace(longrepr="a" * 5000, sections=[("Captured stdout call", "b" * 5000), ("short", "c")])
    shorten_report(report, limit)
    assert len(report.longrepr) < limit + 60
    assert report.sections[1] == ("short", "c")
    assert len(report.sections[0][1]) < limit + 60
    assert shorten("d" * limit, limit) == "d" * limit
    own = SimpleNamespace(longrepr=object(), sections=[])
    kept = own.longrepr
    shorten_report(own, limit)
    assert own.longrepr is kept


def test_the_limit_falls_with_the_number_of_cells():
    """PT-05: the limit is large for few cells and never below what a reason needs."""
    limits = [text_limit(SimpleNamespace(cells=range(count))) for count in (8, 1000, 100_000)]
    assert limits == [625_000, 5000, 400]
