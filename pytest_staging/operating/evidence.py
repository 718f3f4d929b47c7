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
from pytest_staging.model.record import CampaignRecord
from pytest_staging.operating.control import Control
from pytest_staging.operating.draining import Drained, watch_queues
from pytest_staging.reports.markdown import render_report

SCHEMA_VERSION = 1
TARGET = "compose:"


@dataclass(frozen=True)
class Gathered:
    """Where it lies, and `notes` for people. `incomplete` says what that was to be in it could not be had."""

    folder: Path
    matrix: Matrix
    notes: tuple[str, ...]
    incomplete: tuple[str, ...]


def gather(control: Control, profile: str, record: CampaignRecord | None, drain_timeout_s: float) -> Gathered:
    """Writes the folder whole or not at all; what could not be had, and what was not asked for, is in its manifest.

    `record` is the campaign whose comparison goes along. Raises EngineMissing, EngineLost, StorageError, and
    WorkspaceError for a campaign that compares nothing under that profile.
    """
    if record is not None:
        _require_comparison(profile, record)
    matrix = control.matrix(profile)
    drained, problem = _drain(control, profile, drain_timeout_s)
    incomplete = [f"queues: {problem}"] if problem else []
    incomplete += [f"queue {one.queue}: {one.problem}" for one in drained if one.problem]
    way_back = _way_back(control, profile)
    absent = [] if record else ["comparison: no campaign was named (--campaign ID)"]
    if way_back["running"] is None:
        incomplete.append("rollback: nothing is recorded of what was started")
    elif way_back["command"] is None:
        absent.append(f"rollback: there is no other profile to go back to from {profile}")
    now = datetime.now(timezone.utc)
    final = control.folder / "evidence" / f"{profile}-{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}"
    with durable.new_folder(final) as folder:
        store.write_json(folder / "readiness.json", matrix_data(matrix))
        store.write_json(folder / "queue-drain.json", [asdict(one) for one in drained])
        told = (control.description.capacity, profile, control.invocation)
        store.write_json(folder / "profile.json", describe(*told))
        durable.write_text(folder / "commands.txt", render(*told))
        store.write_json(folder / "rollback.json", way_back)
        if record:
            _write_comparison(record, folder / "comparison")
        told_of = {
            "profile": profile,
            "state": matrix.state.value,
            "comparison": _summary(record) if record else None,
            "rollback": way_back["command"],
            "complete": not incomplete and not absent,
            "incomplete": incomplete,
            "absent": absent,
        }
        _write_manifest(control, folder, profile, now, told_of)
    notes = [_queue_note(one) for one in drained] + [f"incomplete: {one}" for one in incomplete]
    notes += [f"without {one}" for one in absent]
    return Gathered(final, matrix, tuple(notes), tuple(incomplete))


def _require_comparison(profile: str, record: CampaignRecord) -> None:
    """One that says nothing of this profile, or not all that it was to say, is no evidence."""
    campaign, aggregate = record.campaign, record.aggregate
    # The names alone: of the other side's profile capacity.yaml may know nothing any more.
    names = campaign.target.removeprefix(TARGET).partition("@")[0].split(",")
    problem = ""
    if not campaign.target.startswith(TARGET) or profile not in {one.rpartition("=")[2] for one in names}:
        problem = f"ran on {campaign.target}, and not under profile {profile}"
    elif campaign.smoke:
        problem = "only checked the wiring (--staging-smoke), and compares nothing"
    elif not aggregate["complete"]:
        problem = f"has results of {aggregate['cells_passed']} of {aggregate['cells_planned']} cells"
    if problem:
        advice = f"Name a finished campaign with --staging-target {TARGET}{profile}."
        raise WorkspaceError(f"--campaign {campaign.campaign_id}: it {problem}. {advice}")


def _summary(record: CampaignRecord) -> dict[str, Any]:
    campaign = record.campaign
    return {
        "campaign_id": campaign.campaign_id,
        "target": campaign.target,
        "verdict": record.aggregate["verdict"],
    }


def _write_comparison(record: CampaignRecord, folder: Path) -> None:
    """From the cells, whatever the campaign's own copies of it say."""
    with durable.storing(folder):
        folder.mkdir()
        shutil.copyfile(record.folder / "campaign.json", folder / "campaign.json")
    store.write_json(folder / "aggregate-comparison.json", record.aggregate)
    durable.write_text(folder / "aggregate-comparison.md", render_report(record.aggregate))


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
    current, before = control.history.current(), control.history.before()
    # Of a profile that does not run, nothing can be rolled back.
    possible = before and current and current.profile == profile
    return {
        "schema_version": SCHEMA_VERSION,
        "running": asdict(current) if current else None,
        "previous": asdict(before) if before else None,
        "command": control.invocation.argv("rollback", profile) if possible else None,
        "history": [asdict(one) for one in control.history.entries()],
    }


def _write_manifest(control: Control, folder: Path, profile: str, now: datetime, told_of: Mapping[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest: Mapping[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "environment": control.invocation.environment,
        "project": control.project,
        "created_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        **told_of,
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


def _queue_note(one: Drained) -> str:
    if not one.metrics or one.problem:
        return f"queue {one.queue}: {one.problem}"
    drain_s, peak = one.metrics["drain_time"], one.metrics["depth_peak"]
    return f"queue {one.queue}: at most {peak:g} messages, empty after {drain_s:g} s"
