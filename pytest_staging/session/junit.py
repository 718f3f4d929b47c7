"""Campaign facts as suite properties of JUnit XML. Test cases carry none: the strict Jenkins schema refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_staging.model.campaign import Campaign
from pytest_staging.reports.cases import campaign_facts


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
