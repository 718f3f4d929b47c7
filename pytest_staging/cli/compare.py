"""`compare`: two campaigns side by side, when they measured by the same measure."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pytest_staging.cli.command import add_command, terminal_width, workspace_of


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "compare",
        "two campaigns side by side; exit code 1 and every reason when they cannot be compared",
        "staging-manager compare 20260131-120000-1a2b 20260207-120000-3c4d",
        run_compare,
    )
    parser.add_argument("first", metavar="A", help="a campaign")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="as JSON, also the refusal")


def run_compare(options: argparse.Namespace) -> int:
    from pytest_staging.campaign.evidence import load_record
    from pytest_staging.campaign.likeness import find_obstacles, put_beside
    from pytest_staging.model.errors import NotComparable
    from pytest_staging.reports.beside import render_beside

    workspace = workspace_of(options)
    first, second = load_record(workspace, options.first), load_record(workspace, options.second)
    obstacles = find_obstacles(first, second)
    if options.json:
        data = {"comparable": not obstacles, "reasons": obstacles}
        print(json.dumps(data if obstacles else {**data, **put_beside(first, second)}, indent=2, ensure_ascii=False))
        return 1 if obstacles else 0
    if obstacles:
        raise NotComparable(options.first, options.second, obstacles)
    for line in render_beside(put_beside(first, second), terminal_width()):
        print(line)
    return 0
