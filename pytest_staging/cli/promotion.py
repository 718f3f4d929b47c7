"""Commands that change what a version is: nominate, promote, reject, rollback. Each has --dry-run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of

if TYPE_CHECKING:
    from pytest_staging.campaign.transitions import Change


def add_commands(commands: Any) -> None:
    nominating = add_command(
        commands, "nominate", "make a staging version a candidate", "staging-manager nominate pool-v2", run_nominate
    )
    nominating.add_argument("slug", help="version to nominate")

    promoting = add_command(
        commands,
        "promote",
        "make a candidate the baseline, on the evidence of a campaign",
        "staging-manager promote --candidate nodelay --campaign-id 20260131-120000-1a2b",
        run_promote,
    )
    promoting.add_argument("--candidate", required=True, metavar="SLUG", help="version to promote")
    promoting.add_argument("--campaign-id", required=True, metavar="ID", help="campaign that allows it")
    promoting.add_argument("--override", action="store_true", help="promote against the evidence; needs --why")
    promoting.add_argument("--why", metavar="TEXT", help="reason of the override; recorded in version.yaml for ever")

    rejecting = add_command(
        commands,
        "reject",
        "reject a staging version or a candidate",
        "staging-manager reject eager-buffers --campaign-id 20260131-120000-1a2b --why 'costs 24 MiB'",
        run_reject,
    )
    rejecting.add_argument("slug", help="version to reject")
    rejecting.add_argument("--campaign-id", metavar="ID", help="campaign that shows why")
    rejecting.add_argument("--why", metavar="TEXT", help="reason, kept in notes")

    rolling = add_command(
        commands,
        "rollback",
        "restore the baseline that the present one replaced",
        "staging-manager rollback --why 'p99 on the big hosts'",
        run_rollback,
    )
    rolling.add_argument("--why", metavar="TEXT", help="reason, kept in the notes of the version that goes")
    for parser in (nominating, promoting, rejecting, rolling):
        parser.add_argument("--dry-run", action="store_true", help="say what would be done and do nothing")


def run_nominate(options: argparse.Namespace) -> int:
    from pytest_staging.campaign import transitions

    changes = transitions.nominate(workspace_of(options), options.slug, options.dry_run)
    return _print(changes, options.dry_run, f"staging-manager run-campaign --candidate {options.slug} --runs 10")


def run_promote(options: argparse.Namespace) -> int:
    from pytest_staging import wiring
    from pytest_staging.campaign import transitions
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.promotion import Override

    if options.override != bool(options.why and options.why.strip()):
        raise UsageProblem("--override and --why TEXT go together.")
    workspace = workspace_of(options)
    override = Override(options.why.strip()) if options.override else None
    changes, evidence = transitions.promote(
        workspace,
        options.candidate,
        options.campaign_id,
        lambda target: wiring.images_here(workspace, target),
        override,
        options.dry_run,
    )
    print(f"campaign {evidence.campaign_id}: {evidence.verdict} ({evidence.reason})")
    return _print(changes, options.dry_run, "staging-manager rollback (if it does not hold)")


def run_reject(options: argparse.Namespace) -> int:
    from pytest_staging.campaign import transitions

    changes = transitions.reject(
        workspace_of(options), options.slug, options.campaign_id, options.why, options.dry_run
    )  # fmt: skip
    return _print(changes, options.dry_run, None)


def run_rollback(options: argparse.Namespace) -> int:
    from pytest_staging.campaign import transitions

    return _print(transitions.rollback(workspace_of(options), options.why, options.dry_run), options.dry_run, None)


def _print(changes: Sequence[Change], dry_run: bool, following: str | None) -> int:
    for change in changes:
        print(f"{'would change ' if dry_run else ''}{change}")
    if following and not dry_run:
        print(f"next: {following}")
    return 0
