"""`create-version`: a new version with its lineage."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_staging.cli.command import add_command, workspace_of


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "create-version",
        "make a new version from another, or an empty scaffold",
        "staging-manager create-version --slug pool-v2 --from baseline",
        create,
    )
    parser.add_argument("--slug", required=True, help="name of the new version: letters, digits, '.', '_', '-'")
    parser.add_argument(
        "--from", dest="source", required=True, metavar="SOURCE", help="baseline, version:SLUG, or none for a scaffold"
    )
    parser.add_argument("--notes", help="one line that says what the version is for")
    parser.add_argument("--source-commit", metavar="COMMIT", help="commit that the snapshot was taken from")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made and make nothing")


def create(options: argparse.Namespace) -> int:
    from pytest_staging import versioning
    from pytest_staging.campaign import transitions

    workspace = workspace_of(options)
    with transitions.settled(workspace, changing=not options.dry_run):
        made = versioning.create_version(
            workspace,
            options.slug,
            options.source,
            notes=options.notes,
            source_commit=options.source_commit,
            dry_run=options.dry_run,
        )
    shown = workspace.shown(made.folder)
    verb = "would create" if options.dry_run else "created"
    print(f"{verb} {shown} (status {made.metadata.status.value}, parent {made.metadata.parent or 'none'})")
    if options.dry_run:
        return 0
    print(f"next: edit {shown}/snapshot and {shown}/hypothesis.md, then")
    print(f"      staging-manager run-campaign --candidate {options.slug} --runs 10")
    return 0
