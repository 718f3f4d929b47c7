"""The HTML report at the end of a campaign: written when its extra is installed, else one line says how to get it."""

from __future__ import annotations

from pytest_staging import durable
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.html import PIP, missing_packages, render_html
from pytest_staging.session.summary import shown

PAGE = "report.html"
WANTED = ("auto", "never")


def write_page(record: CampaignRecord, wanted: str) -> str:
    """Writes report.html and gives its line for the summary; empty when `wanted` is never."""
    path = record.folder / PAGE
    if path.exists():
        durable.remove(path)  # an earlier session's would tell an earlier result
    if wanted == "never":
        return ""
    if missing_packages():
        return f"no {PAGE}: {' and '.join(missing_packages())} not installed here ({PIP})"
    try:
        text = render_html(record)
    except Exception as error:
        # Results and verdict are on disk and still have to be told: a drawing that fails must not cost them.
        return f"no {PAGE}: {type(error).__name__}: {error}. The results are complete; please report this."
    durable.write_text(path, text)
    return f"wrote {shown(path)}"
