"""HTML reports: each one file that holds everything it shows. They need the extra `report`."""

from __future__ import annotations

from pytest_staging.model.errors import ToolMissing
from pytest_staging.model.history import History
from pytest_staging.model.record import CampaignRecord

PIP = "pip install 'pytest-staging[report]'"
DRAWING = ("jinja2", "altair", "vl_convert")


def render_html(record: CampaignRecord) -> str:
    """A campaign's report as text of one HTML file; the same record gives the same bytes. Raises ToolMissing."""
    require_report_extra()
    from pytest_staging.reports.html.page import render_page

    return render_page(record)


def render_history(history: History) -> str:
    """The trends over campaigns as text of one HTML file. Raises ToolMissing."""
    require_report_extra()
    from pytest_staging.reports.html.trends import render_page

    return render_page(history)


def require_report_extra() -> None:
    """Raises ToolMissing, with the line that installs what is missing."""
    missing = missing_packages()
    if missing:
        raise ToolMissing(f"the HTML report needs {' and '.join(missing)}, not installed here. Install it: {PIP}")


def missing_packages(*names: str) -> list[str]:
    """Which of these packages, by default those that reports are drawn with, are not there. Imports nothing."""
    from importlib.util import find_spec

    return [name for name in names or DRAWING if find_spec(name) is None]
