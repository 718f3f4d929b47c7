"""`history`: how each metric went over campaigns and promotions."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, terminal_width, workspace_of, write

if TYPE_CHECKING:
    from pytest_staging.model.history import History


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "history",
        "the trend of each metric over campaigns and promotions, with steps and drifts",
        "staging-manager history --format html --output history.html",
        run_history,
    )
    parser.add_argument("--format", choices=("table", "html"), default="table", help="default: table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (default for html: history.html)")
    parser.add_argument("--metric", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--mode", action="append", default=[], metavar="MODE", help="only this one; repeatable")
    parser.add_argument("--target", action="append", default=[], metavar="TARGET", help="only this one; repeatable")


def run_history(options: argparse.Namespace) -> int:
    from pytest_staging.campaign.history import load_history
    from pytest_staging.reports.html import PIP, missing_packages, render_history
    from pytest_staging.reports.trends import render_trends
    from pytest_staging.stats.changes import find_changes

    workspace = workspace_of(options)
    missing = missing_packages("ruptures")
    history = _chosen(load_history(workspace, None if missing else find_changes), options)
    if options.format == "html":
        text = render_history(history)
        path = options.output or workspace.root / "history.html"
    else:
        path = options.output
        text = "\n".join(render_trends(history, None if path else terminal_width())) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write(path, text)
        print(f"wrote {workspace.shown(path)}")
    if missing:
        print(f"staging-manager: steps and drifts are not looked for without ruptures: {PIP}", file=sys.stderr)
    return 0


def _chosen(history: History, options: argparse.Namespace) -> History:
    """Only the trends that the options name. Raises UsageProblem when that is none of those that there are."""
    from pytest_staging.model.errors import UsageProblem

    kept = history.trends
    for flag, wanted, name in (
        ("--metric", options.metric, "metric"),
        ("--mode", options.mode, "platform_mode"),
        ("--target", options.target, "target"),
    ):
        known = sorted({getattr(trend, name) for trend in history.trends})
        unknown = [one for one in wanted if one not in known]
        if unknown:
            raise UsageProblem(f"{flag} {unknown[0]}: no campaign has that. Known: {', '.join(known) or 'none'}.")
        kept = [trend for trend in kept if not wanted or getattr(trend, name) in wanted]
    return replace(history, trends=kept)
