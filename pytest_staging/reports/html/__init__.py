"""The HTML report: one file that holds everything it shows. Needs the extra `report`."""

from __future__ import annotations

from pytest_staging.model.errors import ToolMissing
from pytest_staging.model.record import CampaignRecord

PIP = "pip install 'pytest-staging[report]'"


def render_html(record: CampaignRecord) -> str:
    """The report as text of one HTML file; the same record gives the same bytes. Raises ToolMissing."""
    require_report_extra()
    from pytest_staging.reports.html.page import render_page

    return render_page(record)


def require_report_extra() -> None:
    """Raises ToolMissing, with the line that installs what is missing."""
    missing = missing_packages()
    if missing:
        raise ToolMissing(f"the HTML report needs {' and '.join(missing)}, not installed here. Install it: {PIP}")


def missing_packages() -> list[str]:
    """Names of the packages that the report draws with and that are not there. Imports nothing."""
    from importlib.util import find_spec

    return [name for name in ("jinja2", "altair", "vl_convert") if find_spec(name) is None]
