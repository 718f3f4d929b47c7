"""JUnit XML of a run: campaign facts as properties of the suite, and texts that a pipeline can take.

Test cases carry no properties: the strict Jenkins schema refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_staging.model.campaign import Campaign
from pytest_staging.reports.cases import campaign_facts, shorten


def add_campaign_properties(config: pytest.Config, campaign: Campaign, aggregate: Mapping[str, Any]) -> None:
    """Does nothing without --junitxml."""
    try:
        # pytest offers no public way that works under xdist (pytest#7767), so a change of its inside only costs these.
        from _pytest.junitxml import xml_key

        xml = config.stash.get(xml_key, None)
    except (ImportError, AttributeError):
        return
    if xml is None:
        return
    for name, value in campaign_facts(campaign, aggregate).items():
        xml.add_global_property(name, value)


def shorten_report(report: pytest.TestReport, limit: int) -> None:
    """Cuts what a cell's test says to `limit` characters each, so that the file of many cells stays below 30 MB."""
    if isinstance(report.longrepr, str):
        report.longrepr = shorten(report.longrepr, limit)
    report.sections = [(title, shorten(text, limit)) for title, text in report.sections]
