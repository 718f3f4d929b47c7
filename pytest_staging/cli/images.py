"""Commands about what versions are run from: build-images, `images list` and `images prune`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, add_group, workspace_of

if TYPE_CHECKING:
    from pytest_staging.images.cache import BuiltImage, ImageCache
    from pytest_staging.images.manifest import Entry, Manifest
    from pytest_staging.model.version import Version
    from pytest_staging.store import Workspace

GONE = ("rejected", "archived-baseline")
COLUMNS = ("version", "mode", "cache", "reason", "seconds", "size", "id")
LIST_COLUMNS = ("version", "status", "mode", "builder", "built at", "size", "name")
ID_LETTERS = 12  # as the docker client shows it


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
    parser.add_argument(
        "--target", default="local", help="where it is to run: local (default), docker, ssh-docker, ..."
    )
    parser.add_argument("--force-rebuild-images", action="store_true", help="build even where the cache matches")
    parser.add_argument(
        "--force-rebuild-mode", action="append", default=[], metavar="MODE", help="the same, for one mode"
    )
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="builds at a time (default: 1)")
    parser.add_argument(
        "--live", action=argparse.BooleanOptionalAction, help="show the builds' output (default: on a terminal)"
    )
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--dry-run", action="store_true", help="print the exact build commands and build nothing")

    inner = add_group(
        commands, "images", "list or remove what was built", "staging-manager images list --slug baseline"
    )
    listing = add_command(
        inner, "list", "list what was built, from the manifests", "staging-manager images list", run_list
    )
    listing.add_argument("--slug", action="append", default=[], help="version to list (default: every version)")
    pruning = add_command(
        inner,
        "prune",
        "remove what archived and rejected versions were built into",
        "staging-manager images prune --dry-run",
        run_prune,
    )
    pruning.add_argument("--slug", action="append", default=[], help="only this version")
    pruning.add_argument("--dry-run", action="store_true", help="say what would be removed and remove nothing")


def build(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.cli.jobs import build_in_parallel
    from pytest_staging.model.errors import UsageProblem, WorkspaceError

    workspace = workspace_of(options)
    # Images for hosts are built by this machine's engine, and what fits into a container fits into one there.
    name = "docker" if options.target == "ssh-docker" else options.target
    cache = wiring.make_images(workspace, name, option="--target")
    target = wiring.make_target(workspace, name, option="--target")
    versions = [store.load_version(workspace, slug) for slug in options.slug or _living(workspace)]
    if not versions:
        raise WorkspaceError(f"no version to build in {workspace.versions_folder}. Make one with create-version.")
    _require_modes([*options.mode, *options.force_rebuild_mode], versions)
    if options.mode and (left_out := [one for one in options.force_rebuild_mode if one not in options.mode]):
        raise UsageProblem(f"--force-rebuild-mode {left_out[0]}: --mode leaves it out. Name it with --mode as well.")
    pairs = [
        (version, mode)
        for version in versions
        for mode, spec in version.service.modes.items()
        if mode in (options.mode or [mode]) and (mode in options.mode or not target.unfit_reason(spec))
    ]
    if not pairs:
        raise WorkspaceError(f"nothing to build: no mode of these versions can run on the target {options.target}.")
    if options.dry_run:
        for version, mode in pairs:
            _print_plan(cache, version, mode, _forced(options, mode))
        return 0
    if options.jobs > 1:
        rows, failures = build_in_parallel(options, [(version.slug, mode) for version, mode in pairs])
    else:
        rows, failures = _build_in_turn(cache, pairs, options)
    if rows or options.json:
        _print_rows(rows, options.json)
    _complain(failures)
    return min(failures.values(), default=0)


def run_list(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.cli.table import print_table

    workspace = workspace_of(options)
    cache = wiring.make_image_cache(workspace, "artifact")
    named = [store.load_metadata(workspace, slug) for slug in dict.fromkeys(options.slug)]
    rows, problems = [], []
    for one in named or store.load_all_metadata(workspace):
        manifest = cache.read_manifest(one.slug)
        if manifest.damage:
            problems.append(f"staging-manager: {_damage(cache, one.slug, manifest)}")
        for entry in manifest.entries:
            size = _size(entry.size_bytes)
            rows.append([one.slug, one.status.value, entry.mode, entry.builder, entry.built_at, size, entry.image_ref])
    print_table(rows, LIST_COLUMNS)
    _complain(problems)
    return 1 if problems else 0


def run_prune(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.model.errors import UsageProblem

    workspace = workspace_of(options)
    for slug in options.slug:
        if store.load_metadata(workspace, slug).status.value not in GONE:
            raise UsageProblem(f"{slug} is neither archived nor rejected; its images are still needed.")
    cache = wiring.make_image_cache(workspace, "artifact")
    needed = _needed(cache, _living(workspace))
    removed, damaged = 0, False
    for slug in dict.fromkeys(options.slug or _gone(workspace)):
        by_builder: dict[str, set[str]] = {}
        manifest = cache.read_manifest(slug)
        if manifest.damage:
            by_hand = f"Restore it; or remove it, and by hand what {slug} was built into."
            _complain([f"staging-manager: {_damage(cache, slug, manifest)} {by_hand}"])
            damaged = True
        for entry in manifest.entries:
            if host := entry.builder.partition("@")[2]:
                print(f"keeping {entry.image_ref} on host {host}: staging-manager hosts clean {host} removes it")
                continue
            if shared := next((name for name in _names_of(entry) if name in needed), None):
                print(f"keeping {entry.image_ref} ({slug}, {entry.mode}): {needed[shared]} needs it")
                continue
            by_builder.setdefault(entry.builder, set()).add(entry.image_ref)
            words = "would remove" if options.dry_run else "removing"
            print(f"{words} {entry.image_ref} ({slug}, {entry.mode}, {_size(entry.size_bytes)})", flush=True)
            removed += 1
        for builder, refs in by_builder.items() if not options.dry_run else ():
            wiring.make_image_cache(workspace, builder).forget(slug, refs)
    if not removed and not damaged:
        print("nothing to remove: no archived or rejected version has images that no other needs")
    return 1 if damaged else 0


def _needed(cache: ImageCache, slugs: list[str]) -> dict[str, str]:
    """What the versions in use need, and which of them. Raises WorkspaceError where that cannot be told."""
    from pytest_staging.model.errors import WorkspaceError

    needed: dict[str, str] = {}
    for slug in slugs:
        manifest = cache.read_manifest(slug)
        if manifest.damage:
            raise WorkspaceError(
                f"{_damage(cache, slug, manifest)} It names what {slug} needs, so nothing is removed. Restore it, or "
                "remove it: then that is built anew."
            )
        needed |= {name: slug for entry in manifest.entries for name in _names_of(entry)}
    return needed


def _damage(cache: ImageCache, slug: str, manifest: Manifest) -> str:
    return f"{cache.manifest_path(slug)} cannot be read: {manifest.damage}."


def _complain(problems: Iterable[str]) -> None:
    sys.stdout.flush()
    for problem in problems:
        print(problem, file=sys.stderr)


def _names_of(entry: Entry) -> tuple[str, ...]:
    """By which somebody else may have the same image. Equal files lie in a folder of each version's own."""
    return (entry.image_ref,) if entry.builder.startswith("artifact") else (entry.image_ref, entry.image_id)


def _build_in_turn(
    cache: ImageCache, pairs: list[tuple[Version, str]], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """As build_in_parallel: a build that fails leaves the others their turn and their row."""
    from pytest_staging.model.errors import StagingError

    rows, failures = [], {}
    for version, mode in pairs:
        try:
            rows.append(_row(cache, version, mode, options))
        except StagingError as failure:
            failures[f"staging-manager: {failure}"] = failure.exit_code
    return rows, failures


def _row(cache: ImageCache, version: Version, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    from pytest_staging.model.errors import BuildFailed

    log = cache.folder(version.slug) / f"{mode}.log"
    live = sys.stderr.isatty() if options.live is None else options.live
    try:
        built = cache.ensure(version, mode, log, _forced(options, mode), _echo if live else None)
    except BuildFailed as failure:
        if live or not failure.log_tail:
            raise
        raise BuildFailed(f"{failure.reason}\n{failure.log_tail}") from failure
    return _described(version.slug, mode, built)


def _described(slug: str, mode: str, built: BuiltImage) -> dict[str, Any]:
    image = built.image
    return {
        "version": slug,
        "mode": mode,
        "cache": "hit" if built.hit else "miss",
        "reason": built.reason,
        "seconds": round(built.seconds, 3),
        "size": image.size_bytes,
        "id": image.id,
        "name": image.ref,
    }


def _echo(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    from pytest_staging.cli.table import print_table

    if as_json:
        print(json.dumps(rows, indent=2))
        return
    shown = [
        {
            **row,
            "seconds": f"{row['seconds']:.1f}",
            "size": _size(row["size"]),
            "id": row["id"].removeprefix("sha256:")[:ID_LETTERS],
        }
        for row in rows
    ]
    print_table([[row[column] for column in COLUMNS] for row in shown], COLUMNS, wrapped="reason")


def _print_plan(cache: ImageCache, version: Version, mode: str, force: bool) -> None:
    found = cache.foresee(version, mode, force)
    verdict = f"hit ({found.reason}), nothing to build" if found.hit else f"miss ({found.reason}), would run"
    print(f"# {version.slug} {mode}: {verdict}")
    if not found.hit:
        snapshot, here = cache.snapshot(version.slug), Path.cwd()
        where = shlex.quote(str(snapshot.relative_to(here) if snapshot.is_relative_to(here) else snapshot))
        for argv in cache.builder.commands(replace(cache.plan(version, mode), fresh=force)):
            print(f"(cd {where} && {shlex.join(argv)})")


def _forced(options: argparse.Namespace, mode: str) -> bool:
    return bool(options.force_rebuild_images or mode in options.force_rebuild_mode)


def _gone(workspace: Workspace) -> list[str]:
    from pytest_staging import store

    return [one.slug for one in store.load_all_metadata(workspace) if one.status.value in GONE]


def _living(workspace: Workspace) -> list[str]:
    from pytest_staging import store

    return [one.slug for one in store.load_all_metadata(workspace) if one.status.value not in GONE]


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs; write for example 2")
    return int(text)


def _require_modes(names: list[str], versions: list[Version]) -> None:
    from pytest_staging.model.errors import UsageProblem

    known = sorted({mode for version in versions for mode in version.service.modes})
    for name in names:
        if name not in known:
            raise UsageProblem(f"mode {name!r} is not known to these versions. Known: {', '.join(known) or 'none'}.")
