"""Evidence of a running profile in one folder: readiness, queue drain, a comparison, the way back, and their hashes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import durable, store
from pytest_staging.capacity.readiness import Matrix, matrix_data
from pytest_staging.capacity.showing import describe, render
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.operating.control import Control
from pytest_staging.operating.draining import Drained, watch_queues

SCHEMA_VERSION = 1
COMPARISON = ("campaign.json", "aggregate-comparison.json", "aggregate-comparison.md")


@dataclass(frozen=True)
class Gathered:
    """Where it lies, and `notes` for people. `incomplete` says what of it could not be had."""

    folder: Path
    matrix: Matrix
    notes: tuple[str, ...]
    incomplete: tuple[str, ...]


def gather(control: Control, profile: str, campaign_id: str | None, drain_timeout_s: float) -> Gathered:
    """Writes the folder whole or not at all; what could not be had is named in its manifest.

    Raises EngineMissing, EngineLost, WorkspaceError for an unknown campaign, StorageError.
    """
    comparison = _comparison(control, campaign_id)
    matrix = control.matrix(profile)
    drained, problem = _drain(control, profile, drain_timeout_s)
    incomplete = [f"queues: {problem}"] if problem else []
    incomplete += [f"queue {one.queue}: {one.problem}" for one in drained if one.problem]
    if not control.history.current():
        incomplete.append("rollback: nothing is recorded of what was started")
    now = datetime.now(timezone.utc)
    final = control.folder / "evidence" / f"{profile}-{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}"
    with durable.new_folder(final) as folder:
        store.write_json(folder / "readiness.json", matrix_data(matrix))
        store.write_json(folder / "queue-drain.json", [asdict(one) for one in drained])
        told = (control.description.capacity, profile, control.invocation)
        store.write_json(folder / "profile.json", describe(*told))
        durable.write_text(folder / "commands.txt", render(*told))
        store.write_json(folder / "rollback.json", _way_back(control, profile))
        for path in comparison:
            _copy(path, folder / "comparison" / path.name)
        _write_manifest(control, folder, profile, now, incomplete)
    notes = [_queue_note(one) for one in drained] + [f"incomplete: {one}" for one in incomplete]
    return Gathered(final, matrix, tuple(notes), tuple(incomplete))


def _comparison(control: Control, campaign_id: str | None) -> list[Path]:
    if campaign_id is None:
        return []
    folder = control.workspace.campaign_folder(campaign_id)
    paths = [folder / name for name in COMPARISON]
    if missing := [path.name for path in paths if not path.is_file()]:
        shown = control.workspace.shown(folder)
        raise WorkspaceError(
            f"--campaign {campaign_id}: {shown} has no {', '.join(missing)}. Name a finished campaign."
        )
    return paths


def _drain(control: Control, profile: str, timeout_s: float) -> tuple[list[Drained], str]:
    """What the queues did, or why nothing is known of them."""
    broker, queues = control.description.capacity.broker, control.profile(profile).queues
    if broker is None or not queues:
        return [], ""
    ports = [one.ports.get(broker.port) for one in control.containers() if one.service == broker.service]
    if not ports or not ports[0]:
        return [], f"{broker.service} runs nowhere with its port {broker.port} published"
    variables = control.description.variables(profile, control.invocation.environment, control.ours)
    login = (variables.get(broker.user_env, ""), variables.get(broker.password_env, ""))
    if not all(login):
        return [], f"{broker.user_env} and {broker.password_env} have to be set"
    return watch_queues(broker, queues, f"http://127.0.0.1:{ports[0]}", login, timeout_s), ""


def _way_back(control: Control, profile: str) -> dict[str, Any]:
    before = control.history.before()
    return {
        "schema_version": SCHEMA_VERSION,
        "running": asdict(current) if (current := control.history.current()) else None,
        "previous": asdict(before) if before else None,
        "command": control.invocation.argv("rollback", profile) if before else None,
        "history": [asdict(one) for one in control.history.entries()],
    }


def _write_manifest(control: Control, folder: Path, profile: str, now: datetime, incomplete: list[str]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest: Mapping[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "profile": profile,
        "environment": control.invocation.environment,
        "project": control.project,
        "created_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "complete": not incomplete,
        "incomplete": incomplete,
        "files": {str(path.relative_to(folder)): durable.hash_file(path) for path in files},
        "inputs": _inputs(control, profile),
    }
    store.write_json(folder / "manifest.json", manifest)


def _inputs(control: Control, profile: str) -> dict[str, str]:
    """SHA-256 of capacity.yaml, the compose files and their files of variables, whose content is not for everybody."""
    description = control.description
    paths = {description.root / description.shown, *control.system(profile).paths}
    if description.capacity.build_overlay:
        paths.add(description.folder / description.capacity.build_overlay)
    return {description.show(path): durable.hash_file(path) for path in sorted(paths) if path.is_file()}


def _copy(source: Path, destination: Path) -> None:
    with durable.storing(destination):
        destination.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, destination)


def _queue_note(one: Drained) -> str:
    if not one.metrics or one.problem:
        return f"queue {one.queue}: {one.problem}"
    drain_s, peak = one.metrics["drain_time"], one.metrics["depth_peak"]
    return f"queue {one.queue}: at most {peak:g} messages, empty after {drain_s:g} s"
