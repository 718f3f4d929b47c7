"""--junitxml: usable by pipelines that check their input strictly, the same with and without workers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from running import cell_ids, make_bad, make_small, read_campaign, read_summaries, run_campaign

from pytest_staging.cli import main

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit-10.xsd")))


def test_the_file_fits_the_common_schema(finished):
    """PT-05: --junitxml validates against the Jenkins xunit schema, serial and with -n 2."""
    SCHEMA.validate(str(finished.junit))


def test_every_cell_is_a_test_case_with_a_stable_name(finished):
    """PT-05: each cell is a test case whose name is its cell, in the campaign's order."""
    cases = cases_of(finished.junit)
    cells = [name for _, name in cases if name.startswith("campaign[")]
    assert cells == [f"campaign[{cell_id}]" for cell_id in cell_ids(finished.root)]
    assert len(set(cases)) == len(cases), "a pipeline that keys on classname and name would drop one"


def test_names_are_the_same_with_workers(campaigns):
    """PT-05: a serial run and a run with workers name the same test cases."""
    assert cases_of(campaigns["serial"].junit) == cases_of(campaigns["n2"].junit)


def test_a_report_made_later_is_the_same_file(finished, tmp_path):
    """PT-05: `report --format junit` has the schema, test cases, outcomes and properties of the run's own file."""
    path = tmp_path / "later.xml"
    assert main(["--root", str(finished.root), "report", "c", "--format", "junit", "--output", str(path)]) == 0
    SCHEMA.validate(str(path))
    assert cases_of(path) == cases_of(finished.junit)
    assert outcomes_of(path) == outcomes_of(finished.junit)
    ours, theirs = (properties_of(one) for one in (path, finished.junit))
    assert ours == theirs
    assert [one.get("name") for one in ElementTree.parse(path).iter("testsuite")] == ["pytest"]


def outcomes_of(path):
    """What each test case holds, in the file's order, with its message."""
    return [[(child.tag, child.get("message")) for child in case] for case in ElementTree.parse(path).iter("testcase")]


def properties_of(path):
    """The suite's properties in the file's order."""
    return [one.attrib for one in ElementTree.parse(path).iterfind("testsuite/properties/property")]


def test_campaign_facts_are_suite_properties(finished):
    """PT-05: campaign id, benchmark hash, seed and versions are properties of the suite, once."""
    campaign = read_campaign(finished.root)
    properties = list(ElementTree.parse(finished.junit).iterfind("testsuite/properties/property"))
    found = {one.get("name"): one.get("value") for one in properties}
    assert len(found) == len(properties)
    wanted = {
        "staging.campaign_id": "c",
        "staging.benchmark_sha256": campaign["benchmark_sha256"],
        "staging.seed": "7",
        "staging.smoke": "false",
        "staging.baseline": "baseline",
        "staging.candidates": "faster",
        **{f"staging.version.{slug}": digest for slug, digest in campaign["versions"].items()},
    }
    assert {name: found.get(name) for name in wanted} == wanted


def test_each_verdict_is_a_test_case_of_its_own(finished):
    """PT-05: one test case per candidate, mode and metric carries the verdict."""
    verdicts = [name for _, name in cases_of(finished.junit) if not name.startswith("campaign[")]
    rows = [(row, metric) for row in ("jvm", "native") for metric in read_metrics(finished.root)]
    assert len(verdicts) == len(rows)
    for (mode, metric), name in zip(rows, verdicts, strict=True):
        assert "faster" in name
        assert mode in name
        assert metric in name


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A smoke campaign with test-case properties, one cell of which fails with hostile output."""
    root = make_small(tmp_path_factory.mktemp("junit") / "w", candidates=())
    make_bad(root, "broken", "import sys\nprint('<&]]>\\x00\\x1b[31m\\ufffe')\nsys.exit(3)\n")
    result = run_campaign(root, "--junitxml=junit.xml", "--staging-junit-cell-properties", "--staging-smoke")
    return root, result


def test_metrics_are_test_case_properties_only_on_demand(failed, serial):
    """PT-05: --staging-junit-cell-properties adds the metrics to each test case; without it there is none."""
    root, result = failed
    assert result.returncode == 1
    case = ElementTree.parse(root / "junit.xml").find("testsuite/testcase[@name='campaign[run001-native-baseline]']")
    found = {one.get("name"): one.get("value") for one in case.iterfind("properties/property")}
    metrics = read_summaries(root)["run001-native-baseline"]["metrics"]
    assert {name: found[name] for name in metrics} == {name: str(value) for name, value in metrics.items()}
    assert ElementTree.parse(serial.junit).find("testsuite/testcase/properties") is None


def test_a_failed_cell_carries_its_reason_and_log(failed):
    """PT-05: a failure element with the reason and the end of the log, also when the log holds what XML forbids."""
    root, _ = failed
    cases = ElementTree.parse(root / "junit.xml").findall("testsuite/testcase")
    (case,) = [one for one in cases if one.get("name") == "campaign[run001-native-broken]"]
    assert [child.tag for child in case if child.tag != "properties"] == ["failure"]
    text = case.find("failure").text
    assert "ended with status 3" in text
    assert "<&]]>" in text
    assert len([one for one in cases if one.find("failure") is not None]) == 1


def cases_of(path):
    """(classname, name) of every test case in the file's order."""
    return [(case.get("classname"), case.get("name")) for case in ElementTree.parse(path).iter("testcase")]


def read_metrics(root):
    """The benchmark's metrics in its order."""
    path = next(root.glob("campaigns/c/runs/*/*/cell-summary.json"))
    return list(json.loads(path.read_text())["metrics"])
