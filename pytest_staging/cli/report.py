"""`report`: a finished campaign in the form that a person or a pipeline reads, made from its folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of, write

if TYPE_CHECKING:
    from pytest_staging.model.record import CampaignRecord

HTML = "html"
RENDERERS = {
    HTML: ("html", "render_html"),
    "md": ("markdown", "render_markdown"),
    "json": ("aggregate", "render_json"),
    "junit": ("junit", "render_junit"),
    "github": ("github", "render_github"),
    "bmf": ("tracking", "render_bmf"),
    "customSmallerIsBetter": ("tracking", "render_smaller_is_better"),
    "customBiggerIsBetter": ("tracking", "render_bigger_is_better"),
}
"""Format to the module below reports/ and its function, which takes a CampaignRecord and gives the text."""


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "report",
        "a campaign's report: HTML for people, other formats for pipelines",
        "staging-manager report 20260131-120000-1a2b --format junit --output campaign.xml",
        run_report,
    )
    parser.add_argument("campaign_id", metavar="ID", help="the campaign")
    parser.add_argument(
        "--format",
        choices=RENDERERS,
        default=HTML,
        metavar="FORMAT",
        help=f"{', '.join(RENDERERS)} (default: {HTML})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write (default: the campaign's folder for html, or here)",
    )
    parser.add_argument("--open", action="store_true", help="show the HTML report in a browser")


def run_report(options: argparse.Namespace) -> int:
    from pytest_staging.campaign.evidence import load_record
    from pytest_staging.model.errors import UsageProblem

    if options.open and options.format != HTML:
        raise UsageProblem(f"--open goes with --format {HTML}: a browser cannot show {options.format}.")
    workspace = workspace_of(options)
    record = load_record(workspace, options.campaign_id)
    text = renderer_of(options.format)(record)
    path = options.output or (record.folder / "report.html" if options.format == HTML else None)
    if path is None:
        _print(text)
        return 0
    write(path, text)
    print(f"wrote {workspace.shown(path)}")
    return show(path) if options.open else 0


def renderer_of(name: str) -> Callable[[CampaignRecord], str]:
    """Imports what the format needs, and nothing else."""
    module, function = RENDERERS[name]
    render: Callable[[CampaignRecord], str] = getattr(import_module(f"pytest_staging.reports.{module}"), function)
    return render


def show(path: Path) -> int:
    """1 when there is no browser: the report is there all the same."""
    import webbrowser

    if webbrowser.open(path.absolute().as_uri()):
        return 0
    print(f"staging-manager: no browser could be started. Open {path} yourself.", file=sys.stderr)
    return 1


def _print(text: str) -> None:
    """UTF-8 whatever the locale: a file made by `> FILE` is to be the same everywhere."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(text)
    else:
        buffer.write(text.encode())
        buffer.flush()
