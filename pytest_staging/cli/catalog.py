"""Commands that only look: list, show, lineage."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of

if TYPE_CHECKING:
    from pytest_staging.model.version import VersionMetadata


def add_commands(commands: Any) -> None:
    listing = add_command(commands, "list", "list the versions", "staging-manager list --json", run_list)
    showing = add_command(commands, "show", "show one version", "staging-manager show nodelay", run_show)
    showing.add_argument("slug", help="version to show")
    add_command(commands, "lineage", "show which version came from which", "staging-manager lineage", run_lineage)
    for parser in (listing, showing):
        parser.add_argument("--json", action="store_true", help="as JSON")


def run_list(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    from pytest_staging import store

    versions = _load(options)
    if options.json:
        print(json.dumps([store.metadata_fields(one) for one in versions], indent=2, ensure_ascii=False))
        return 0
    rows = [[one.slug, one.status.value, one.parent or "-", one.created_at, one.campaign_id or "-"] for one in versions]
    print(tabulate(rows, ["version", "status", "parent", "created", "campaign"], tablefmt="github"))
    return 0


def run_show(options: argparse.Namespace) -> int:
    from pytest_staging import store
    from pytest_staging.campaign import transitions

    workspace = workspace_of(options)
    with transitions.settled(workspace, changing=False):
        version = store.load_version(workspace, options.slug)
    fields = {**store.metadata_fields(version.metadata), "snapshot_fingerprint": version.snapshot_fingerprint}
    if options.json:
        print(json.dumps(fields, indent=2, ensure_ascii=False))
        return 0
    for key, value in fields.items():
        print(f"{key:22} {'; '.join(value) if isinstance(value, list) else value}")
    print(f"{'modes':22} {', '.join(version.service.modes)}")
    print(f"{'functions':22} {', '.join(version.service.functions)}")
    return 0


def run_lineage(options: argparse.Namespace) -> int:
    versions = {one.slug: one for one in _load(options)}
    children: dict[str | None, list[str]] = {}
    for one in versions.values():
        parent = one.parent if one.parent in versions else None
        children.setdefault(parent, []).append(one.slug)
    shown: set[str] = set()
    for slug in [*children.get(None, []), *versions]:
        if slug not in shown:
            _print_tree(slug, versions, children, "", shown)
    return 0


def _print_tree(
    slug: str, versions: Mapping[str, VersionMetadata], children: Mapping[str | None, Sequence[str]], indent: str,
    shown: set[str],
) -> None:  # fmt: skip
    """One line per version; a version that is its own ancestor is shown once."""
    if slug in shown:
        return
    shown.add(slug)
    one = versions[slug]
    lost = f", parent {one.parent} is gone" if one.parent and one.parent not in versions else ""
    print(f"{indent}{slug} ({one.status.value}{lost})")
    for child in children.get(slug, []):
        _print_tree(child, versions, children, f"{indent}  ", shown)


def _load(options: argparse.Namespace) -> list[VersionMetadata]:
    from pytest_staging import store
    from pytest_staging.campaign import transitions

    workspace = workspace_of(options)
    if not workspace.versions_folder.is_dir():
        from pytest_staging.model.errors import WorkspaceError

        raise WorkspaceError(f"{workspace.root} has no versions folder. Name the workspace with --root.")
    with transitions.settled(workspace, changing=False):
        return store.load_all_metadata(workspace)
