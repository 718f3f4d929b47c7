"""Campaign facts as suite properties of JUnit XML. Test cases carry none: the strict Jenkins schema refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_staging.model.campaign import Campaign


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
    properties = {
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
    for slug, fingerprint in campaign.versions.items():
        properties[f"staging.version.{slug}"] = fingerprint
    for name, value in properties.items():
        xml.add_global_property(name, value)
