"""The page itself: a template filled with facts and drawings. Everything that came from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_staging import __version__
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports import markdown
from pytest_staging.reports.html import facts
from pytest_staging.reports.html.forest import ICONS, build_panels
from pytest_staging.reports.html.phases import build_phases
from pytest_staging.reports.html.points import build_run_plots, group_size, series_of

if TYPE_CHECKING:
    import jinja2


def render_page(record: CampaignRecord) -> str:
    """One campaign as HTML."""
    rows = record.aggregate["rows"]
    return fill(
        "report.html",
        {
            "title": f"{', '.join(record.campaign.candidate_slugs)} against {record.campaign.baseline_slug}",
            "campaign": record.campaign,
            "aggregate": record.aggregate,
            "verdict": facts.state_verdict(record),
            "candidates": [
                (slug, verdict, list(build_panels(rows, slug)), [row for row in rows if row["candidate_slug"] == slug])
                for slug, verdict in facts.state_candidates(record)
            ],
            "notes": facts.state_notes(record),
            "setting": facts.state_setting(record),
            "series": series_of(record),
            "metrics": [(metric, plots) for metric, plots in build_run_plots(record)],
            "group": group_size(record.campaign.runs),
            "phases": build_phases(record),
            "failures": facts.gather_failures(record),
            "inputs": facts.list_inputs(record),
            "hosts": facts.list_hosts(record),
            "commands": facts.list_commands(record),
        },
    )


def fill(template: str, values: Mapping[str, Any]) -> str:
    """A template of this package as a whole page, with its style and script and a policy that forbids anything else."""
    script = read_part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment().get_template(template).render(
        **values, style=read_part("page.css"), script=script, script_digest=digest, program=__version__, icons=ICONS
    )  # fmt: skip
    # JSON may hold half a surrogate pair, which no file can.
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def environment() -> jinja2.Environment:
    """Strict: a name that a template does not get is an error, not an empty place."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shows = ("show_value", "show_estimate", "show_interval", "show_tolerance", "show_verdict")
    made.filters.update({name: getattr(markdown, name) for name in shows})
    return made


@cache
def read_part(name: str) -> str:
    """A file of the folder `templates`, as text."""
    return (files("pytest_staging.reports.html") / "templates" / name).read_text(encoding="utf-8")
