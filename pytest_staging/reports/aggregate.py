"""`aggregate-comparison.json` again, from the cells on disk."""

from __future__ import annotations

import json
from typing import Any

from pytest_staging.model.record import CampaignRecord


def render_json(record: CampaignRecord) -> str:
    """The bytes that the campaign itself wrote, as long as its cells are the same."""
    return dump(record.aggregate)


def dump(data: Any) -> str:
    """Strict JSON in the order of the data, with a newline at the end."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
