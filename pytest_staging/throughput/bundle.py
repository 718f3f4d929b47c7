"""The evidence of one campaign as a folder: comparison, queue drain, policy statuses, the policy's file, digests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import contract, durable
from pytest_staging.model.errors import ContractError, EvidenceMissing
from pytest_staging.model.record import CampaignRecord
from pytest_staging.model.throughput import Phase, ThroughputPolicy
from pytest_staging.throughput.judging import Finding, Gathered, judge_evidence
from pytest_staging.throughput.watching import POLICY_COPY, SNAPSHOTS, read_snapshots

FOLDER, MANIFEST = "evidence", "manifest.json"
COMPARISON, DRAIN, CAMPAIGN = "comparison.json", "queue-drain.json", "campaign.json"
SCHEMA_VERSION = 1
MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Bundle:
    """What a folder of evidence holds, read and checked."""

    campaign_id: str
    policy: ThroughputPolicy
    gathered: Gathered


def collect_evidence(
    record: CampaignRecord, policy: ThroughputPolicy, policy_text: str, output: Path, replace: bool = False
) -> list[str]:
    """Writes the folder, whole or not at all; what is missing is named, and left out. Raises StorageError.

    With `replace` in the place of what is there; that stays until the new one is whole.
    """
    snapshots = read_snapshots(record.folder / SNAPSHOTS)
    files: dict[str, Any] = {COMPARISON: dict(record.aggregate), DRAIN: {"cells": _drain(record, policy)}}
    files |= {_snapshot_file(phase): [one for one in snapshots if one["phase"] == phase.value] for phase in Phase}
    missing = [name for name in files if name.startswith("policy-") and not files[name]]
    with durable.new_folder(output, replace) as folder:
        with durable.storing(output):
            for name, content in files.items():
                (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (folder / POLICY_COPY).write_text(policy_text, encoding="utf-8")
            shutil.copyfile(record.folder / CAMPAIGN, folder / CAMPAIGN)
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "campaign_id": record.campaign.campaign_id,
                "collected_at": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "files": {one.name: durable.hash_file(one) for one in sorted(folder.iterdir())},
            }
        durable.write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return missing


def load_bundle(folder: Path, collecting: str) -> Bundle:
    """Raises EvidenceMissing for a folder that is not there, is not whole, or is not what was collected.

    `collecting` is the command that puts it right.
    """
    try:
        return _load_bundle(folder)
    except EvidenceMissing as error:
        raise EvidenceMissing(f"{error} Collect it again: {collecting}") from error


def _load_bundle(folder: Path) -> Bundle:
    manifest = _read_json(folder / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        raise EvidenceMissing(f"{folder / MANIFEST} is no manifest of this program.")
    wanted = {COMPARISON, DRAIN, CAMPAIGN, POLICY_COPY, *(_snapshot_file(phase) for phase in Phase)}
    if absent := sorted(wanted - set(files)):
        raise EvidenceMissing(f"{folder / MANIFEST} does not name {absent[0]}.")
    for name in sorted(wanted):
        path = folder / name
        if not path.is_file():
            raise EvidenceMissing(f"{path} is gone.")
        if durable.hash_file(path) != files[name]:
            raise EvidenceMissing(f"{path} is not what was collected: its SHA-256 is another.")
    return _read_bundle(folder, manifest)


def judge_bundle(bundle: Bundle, candidates: Sequence[str] = (), root: Sequence[str] = ()) -> Finding:
    """As `judge_evidence`. Raises EvidenceMissing for what only looks like evidence."""
    try:
        return judge_evidence(bundle.policy, bundle.gathered, candidates, root)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceMissing(f"the evidence of {bundle.campaign_id} cannot be read: {error!r}.") from error


def _read_bundle(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    try:
        policy = contract.parse_throughput(
            (folder / POLICY_COPY).read_text(encoding="utf-8"), str(folder / POLICY_COPY)
        )
    except (ContractError, UnicodeDecodeError) as error:
        raise EvidenceMissing(f"the policy in the evidence cannot be read: {error}") from error
    snapshots = [_read_json(folder / _snapshot_file(phase)) for phase in Phase]
    comparison, drain = _read_json(folder / COMPARISON), _read_json(folder / DRAIN)
    lists = all(isinstance(one, list) for one in snapshots)
    if not lists or not isinstance(comparison, dict) or not isinstance(drain, dict) or "cells" not in drain:
        raise EvidenceMissing(f"what {folder} holds is no evidence.")
    gathered = Gathered(comparison=comparison, drain=drain["cells"], snapshots=[x for one in snapshots for x in one])
    return Bundle(str(manifest.get("campaign_id")), policy, gathered)


def _drain(record: CampaignRecord, policy: ThroughputPolicy) -> list[dict[str, Any]]:
    """The declared queue metrics of every cell that counts, with the reason of each that is missing."""
    names = policy.evidence.queue_metrics
    return [
        {
            "cell": cell.cell.cell_id,
            "version": cell.version_slug,
            "mode": cell.platform_mode,
            "run_index": cell.run_index,
            "metrics": {name: cell.metrics.get(name) for name in names},
            "missing": {name: why for name, why in cell.missing.items() if name in names},
        }
        for cell in record.summaries
        if cell.passed
    ]


def _snapshot_file(phase: Phase) -> str:
    return f"policy-{phase.value}.json"


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise EvidenceMissing(f"{path} has more than {MAX_FILE_BYTES} bytes.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvidenceMissing(f"there is no {path}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise EvidenceMissing(f"{path} cannot be read: {error}.") from error
