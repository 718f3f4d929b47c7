"""`capacity`: profiles of how much runs, over Compose files of the user's own."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, add_group, repeat, workspace_of

if TYPE_CHECKING:
    from pytest_staging.capacity.readiness import Matrix
    from pytest_staging.capacity.showing import Invocation
    from pytest_staging.capacity.validating import Description

EXAMPLE = "staging-manager capacity {} --env dev"
DETAIL_WIDTH = 44
MIN_LIST_WIDTH = 20
MAX_DRAIN_S = 86_400


def add_commands(commands: Any) -> None:
    text = "run a system of Compose services at a named capacity"
    inner = add_group(commands, "capacity", text, EXAMPLE.format("start scale-out"))
    listing = add_command(inner, "list", "list the profiles", "staging-manager capacity list", run_list)
    checking = add_command(
        inner,
        "validate",
        "check profiles against the compose files; no container runs, nothing is written",
        EXAMPLE.format("validate scale-out"),
        run_validate,
    )
    checking.add_argument("profile", nargs="?", metavar="PROFILE", help="default: every profile")
    checking.add_argument("--env", metavar="ENV", help="environment, such as dev or prod (default: every one)")
    showing = _add(inner, "show", "print the profile and its commands", run_show)
    starting = _add(inner, "start", "start the profile and wait until it is ready", run_start)
    starting.add_argument("--build", action="store_true", help="build the images first, with the build overlay")
    status = _add(inner, "status", "readiness; exit code 0 healthy, 3 degraded, 1 unhealthy", run_status)
    stopping = _add(inner, "stop", "stop the containers, and keep them", run_stop)
    cleaning = _add(inner, "clean", "remove the containers, networks and volumes", run_clean)
    evidence = _add(inner, "evidence", "readiness, queue drain and rollback in one folder, with hashes", run_evidence)
    evidence.add_argument("--campaign", metavar="ID", help="campaign whose comparison goes along")
    evidence.add_argument(
        "--drain-timeout", type=float, default=60.0, metavar="SECONDS", help="how long queues may take to empty (60)"
    )
    rollback = _add(inner, "rollback", "return from PROFILE to the profile that ran before it", run_rollback)
    for parser in (starting, stopping, cleaning, rollback):
        parser.add_argument("--dry-run", action="store_true", help="print the commands and run nothing")
    for parser in (listing, showing, checking, status):
        parser.add_argument("--json", action="store_true", help="as JSON")
    for parser in (listing, showing, checking, starting, status, stopping, cleaning, evidence, rollback):
        parser.add_argument("--file", metavar="FILE", help="capacity file (default: deploy/capacity.yaml)")


def _add(inner: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser = add_command(inner, name, text, EXAMPLE.format(f"{name} scale-out"), run)
    parser.add_argument("profile", metavar="PROFILE", help="see: staging-manager capacity list")
    parser.add_argument("--env", required=True, metavar="ENV", help="environment, such as dev or prod")
    return parser


def run_list(options: argparse.Namespace) -> int:
    from pytest_staging.capacity.showing import matrix_rows, row_lines

    rows = matrix_rows(_description(options).capacity)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    from tabulate import tabulate

    table = [[row["profile"], "\n".join(row_lines(row))] for row in rows]
    # One column beside the names, as wide as the terminal leaves it: a column for each fact does not fit into 80.
    longest = max(len(cell) for cell in ("profile", *(row["profile"] for row in rows)))
    width = max(MIN_LIST_WIDTH, shutil.get_terminal_size().columns - longest - 2)
    head = ["profile", "what it is"]
    print(tabulate(table, head, tablefmt="simple", disable_numparse=True, maxcolwidths=[None, width]))
    return 0


def run_show(options: argparse.Namespace) -> int:
    from pytest_staging.capacity.showing import describe, render

    description, invocation = _checked(options)
    told = (description.capacity, options.profile, invocation)
    print(json.dumps(describe(*told), indent=2) + "\n" if options.json else render(*told), end="")
    return 0


def run_validate(options: argparse.Namespace) -> int:
    from pytest_staging.operating.checking import check_profiles

    found = check_profiles(_description(options), options.profile, options.env, os.environ)
    if options.json:
        told = [
            {
                "profile": one.profile,
                "environment": one.environment,
                "missing_variables": list(one.missing),
                "mismatches": [{"file": m.file, "line": m.line, "message": m.message} for m in one.mismatches],
            }
            for one in found
        ]
        print(json.dumps(told, indent=2))
    else:
        for one in found:
            where = f"{one.profile} ({one.environment})"
            for mismatch in one.mismatches:
                print(f"{where}: {mismatch}")
            if not one.mismatches:
                print(f"{where}: ok")
            if one.missing:
                print(f"{where}: set before a start: {', '.join(one.missing)}")
    return 1 if any(one.mismatches for one in found) else 0


def run_start(options: argparse.Namespace) -> int:
    from pytest_staging.operating.running import start

    return _steered(options, lambda control: start(control, options.profile, options.build))


def run_status(options: argparse.Namespace) -> int:
    from pytest_staging.capacity.readiness import EXIT_CODES, matrix_data

    matrix = _control(options).matrix(options.profile)
    if options.json:
        print(json.dumps(matrix_data(matrix), indent=2))
    else:
        _print_matrix(matrix)
    return EXIT_CODES[matrix.state]


def run_stop(options: argparse.Namespace) -> int:
    from pytest_staging.operating.running import stop

    return _steered(options, lambda control: stop(control, options.profile))


def run_clean(options: argparse.Namespace) -> int:
    from pytest_staging.operating.running import clean

    return _steered(options, lambda control: clean(control, options.profile))


def run_rollback(options: argparse.Namespace) -> int:
    from pytest_staging.operating.running import rollback

    return _steered(options, lambda control: rollback(control, options.profile))


def run_evidence(options: argparse.Namespace) -> int:
    from pytest_staging.campaign.evidence import load_record
    from pytest_staging.capacity.readiness import EXIT_CODES
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.operating.evidence import gather

    if not 0 < options.drain_timeout <= MAX_DRAIN_S:
        raise UsageProblem(f"--drain-timeout needs more than 0 and at most {MAX_DRAIN_S} seconds.")
    control = _control(options)
    record = load_record(control.workspace, options.campaign) if options.campaign else None
    gathered = gather(control, options.profile, record, options.drain_timeout)
    _print_matrix(gathered.matrix)
    for line in gathered.notes:
        print(line)
    print(f"evidence: {gathered.folder}")
    return EXIT_CODES[gathered.matrix.state] or (1 if gathered.incomplete else 0)


def _steered(options: argparse.Namespace, act: Callable[[Any], Matrix | None]) -> int:
    """Runs an action, prints what it says, and its matrix where it ends with one."""
    from pytest_staging.capacity.readiness import EXIT_CODES

    control = _control(options, dry_run=options.dry_run)
    matrix = act(control)
    if matrix is None:
        return 0
    _print_matrix(matrix)
    return EXIT_CODES[matrix.state]


def _print_matrix(matrix: Matrix) -> None:
    from tabulate import tabulate

    rows = [
        [row.service, "core" if row.core else "", f"{row.ready}/{row.wanted}", row.state.value, row.detail]
        for row in matrix.rows
    ]
    head = ["service", "", "ready", "state", "detail"]
    widths = [None, None, None, None, DETAIL_WIDTH]
    print(tabulate(rows, head, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))
    print(f"{matrix.profile} ({matrix.environment}): {matrix.state.value}")
    print(f"next: {matrix.next}")
    sys.stdout.flush()


def _description(options: argparse.Namespace) -> Description:
    from pytest_staging.operating.describing import load_description

    return load_description(workspace_of(options), options.file)


def _checked(options: argparse.Namespace) -> tuple[Description, Invocation]:
    from pytest_staging.capacity.showing import Invocation
    from pytest_staging.operating.describing import require_environment, require_profile

    description = _description(options)
    require_profile(description, options.profile)
    require_environment(description, options.env)
    return description, Invocation(options.env, repeat(options, "root"), repeat(options, "file"))


def _control(options: argparse.Namespace, dry_run: bool = False) -> Any:
    from pytest_staging.wiring import make_control

    description, invocation = _checked(options)
    return make_control(workspace_of(options), description, invocation, print, dry_run)
