"""`build-images`: builds what versions are run from, ahead of a campaign."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of

if TYPE_CHECKING:
    from pytest_staging.images import ArtifactCache
    from pytest_staging.model.version import Version


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "build-images",
        "build versions in their modes, where the cache has no match",
        "staging-manager build-images --slug baseline --slug nodelay --dry-run",
        build,
    )
    parser.add_argument("--slug", action="append", default=[], help="version to build (default: all but archived)")
    parser.add_argument("--mode", action="append", default=[], help="mode to build (default: every mode)")
    parser.add_argument("--force-rebuild-images", action="store_true", help="build even where the cache matches")
    parser.add_argument(
        "--force-rebuild-mode", action="append", default=[], metavar="MODE", help="the same, for one mode"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the exact build commands and build nothing")


def build(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    from pytest_staging import store, wiring
    from pytest_staging.model.errors import WorkspaceError

    workspace = workspace_of(options)
    cache = wiring.make_artifacts(workspace, wiring.make_target("local"))
    versions = [store.load_version(workspace, slug) for slug in options.slug or _living(workspace)]
    if not versions:
        raise WorkspaceError(f"no version to build in {workspace.versions_folder}. Make one with create-version.")
    pairs = [(version, mode) for version in versions for mode in _modes(version, options.mode)]
    forced = set(options.force_rebuild_mode)
    _require_modes([*options.mode, *forced], versions)
    rows = []
    for version, mode in pairs:
        force = options.force_rebuild_images or mode in forced
        rows.append(_dry_row(cache, version, mode, force) if options.dry_run else _row(cache, version, mode, force))
    if not options.dry_run:
        print(tabulate(rows, ["version", "mode", "cache", "reason", "seconds", "artifact"], tablefmt="github"))
    return 0


def _row(cache: ArtifactCache, version: Version, mode: str, force: bool) -> list[str]:
    log = cache.versions_folder / version.slug / "images" / f"{mode}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    made = cache.ensure(version, mode, log, force)
    return [version.slug, mode, "hit" if made.hit else "miss", made.reason, f"{made.seconds:.1f}", made.path.name]


def _dry_row(cache: ArtifactCache, version: Version, mode: str, force: bool) -> list[str]:
    found = None if force else cache.look_up(version, mode)
    print(f"# {version.slug} {mode}: {'hit, nothing to build' if found else 'miss, would run'}")
    if not found:
        folder = Path("versions") / version.slug / "images" / f"{mode}-{cache.fingerprint(version, mode)[:16]}"
        for argv in cache.build_commands(version, mode, str(folder)):
            print(shlex.join(argv))
    return []


def _living(workspace: Any) -> list[str]:
    from pytest_staging import store
    from pytest_staging.model.version import Status

    gone = (Status.REJECTED, Status.ARCHIVED_BASELINE)
    return [one.slug for one in store.load_all_metadata(workspace) if one.status not in gone]


def _modes(version: Version, wanted: list[str]) -> list[str]:
    return [mode for mode in version.service.modes if not wanted or mode in wanted]


def _require_modes(names: list[str], versions: list[Version]) -> None:
    from pytest_staging.model.errors import UsageProblem

    known = sorted({mode for version in versions for mode in version.service.modes})
    for name in names:
        if name not in known:
            raise UsageProblem(f"mode {name!r} is not known to these versions. Known: {', '.join(known) or 'none'}.")
