"""`evidence`: gather what a campaign proves about a change of the throughput policy, and judge it."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, add_group, repeat, workspace_of

if TYPE_CHECKING:
    from pytest_staging.throughput.judging import Finding

EXIT_INCOMPLETE = 3


def add_commands(commands: Any) -> None:
    evidence = add_group(
        commands,
        "evidence",
        "the evidence of a change of the throughput policy",
        "staging-manager evidence check --campaign-id 20260131-120000-1a2b",
    )
    collecting = add_command(
        evidence,
        "collect",
        "comparison, queue drain and policy statuses of a campaign in one folder",
        "staging-manager evidence collect --campaign-id 20260131-120000-1a2b",
        run_collect,
    )
    collecting.add_argument("--replace", action="store_true", help="take the place of what was collected before")
    checking = add_command(
        evidence,
        "check",
        "accept or roll back; exit 0, 1, or 3 when something is missing",
        "staging-manager evidence check --campaign-id 20260131-120000-1a2b",
        run_check,
    )
    checking.add_argument("--json", action="store_true", help="the finding as JSON")
    for parser in (collecting, checking):
        parser.add_argument("--campaign-id", required=True, metavar="ID", help="campaign that measured the change")
        parser.add_argument("--folder", type=Path, metavar="FOLDER", help="default: campaigns/ID/evidence")


def run_collect(options: argparse.Namespace) -> int:
    from pytest_staging.campaign.evidence import load_record
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.store import load_throughput
    from pytest_staging.throughput.bundle import MANIFEST, collect_evidence
    from pytest_staging.throughput.watching import POLICY_COPY

    workspace = workspace_of(options)
    record = load_record(workspace, options.campaign_id)
    # The campaign's own copy: what is demanded was decided before it was measured.
    pinned = record.folder / POLICY_COPY
    path = pinned if pinned.is_file() else workspace.root / "deploy" / "throughput.yaml"
    policy = load_throughput(workspace, path)
    output = _folder(options)
    if output.exists():
        if not options.replace:
            raise UsageProblem(f"{output} is there already. To take its place: --replace.")
        if not (output / MANIFEST).is_file():
            raise UsageProblem(f"{output} holds no evidence, so it is not replaced. Name another --folder.")
    missing = collect_evidence(record, policy, path.read_text(encoding="utf-8"), output, options.replace)
    for name in missing:
        print(f"missing: {name} is empty; run the campaign with --staging-policy-api URL")
    print(f"evidence is in {workspace.shown(output)}")
    print(f"next: {_command(options, 'check')}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    from pytest_staging.model.errors import EvidenceMissing
    from pytest_staging.throughput.bundle import judge_bundle, load_bundle
    from pytest_staging.throughput.judging import Answer

    bundle = load_bundle(_folder(options), _command(options, "collect", "--replace"))
    if bundle.campaign_id != options.campaign_id:
        raise EvidenceMissing(f"this is the evidence of campaign {bundle.campaign_id}, not {options.campaign_id}.")
    finding = judge_bundle(bundle, root=repeat(options, "root"))
    print(json.dumps(asdict(finding), indent=2) if options.json else _render(finding))
    return {Answer.ACCEPT: 0, Answer.ROLL_BACK: 1, Answer.INCOMPLETE: EXIT_INCOMPLETE}[finding.answer]


def _command(options: argparse.Namespace, name: str, *words: str) -> str:
    """The other command of the group about the same evidence."""
    place = repeat(options, "campaign_id", "folder")
    return shlex.join(["staging-manager", *repeat(options, "root"), "evidence", name, *place, *words])


def _folder(options: argparse.Namespace) -> Path:
    from pytest_staging.campaign.evidence import require_campaign
    from pytest_staging.throughput.bundle import FOLDER

    named: Path | None = options.folder
    return named.absolute() if named else require_campaign(workspace_of(options), options.campaign_id) / FOLDER


def _render(finding: Finding) -> str:
    """The answer first, then why, then what to do."""
    from pytest_staging.throughput.judging import Answer

    lines = [finding.answer.value]
    for what, found in (
        ("trigger", finding.breaches),
        ("regression", finding.regressions),
        ("missing", finding.missing),
        ("improved", finding.improved),
        ("not improved", finding.not_improved),
    ):
        lines += [f"  {what}: {one}" for one in found]
    if finding.answer is Answer.ROLL_BACK:
        if not finding.breaches and not finding.regressions:
            lines.append("  no declared KPI is improved")
        lines += ["to go back:", *(f"  {command}" for command in finding.revert)]
    return "\n".join(lines)
