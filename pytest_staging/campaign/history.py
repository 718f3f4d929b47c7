"""All campaigns of a workspace in the order of time, and where their metrics changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_staging import store
from pytest_staging.campaign.evidence import load_record
from pytest_staging.campaign.likeness import cpus_of, measure_of, presets_of
from pytest_staging.model.errors import StagingError
from pytest_staging.model.history import CampaignMark, Change, History, Judged, Promotion, Trend, TrendPoint
from pytest_staging.model.record import CampaignRecord
from pytest_staging.store import Workspace

Find = Callable[[Sequence[float]], list[Change]]


def load_history(workspace: Workspace, find: Find | None) -> History:
    """Every campaign that measured something; `find` looks for changes in a series of medians, None looks for none.

    A campaign that cannot be read is left out with the reason, so that one damaged folder does not hide the others.
    """
    records, left_out = [], []
    for path in sorted(workspace.campaigns_folder.glob("*/campaign.json")):
        name = path.parent.name
        try:
            record = load_record(workspace, name)
        except StagingError as error:
            left_out.append((name, str(error)))
            continue
        if record.campaign.smoke:
            left_out.append((name, "a smoke campaign"))
        elif not any(one.passed for one in record.summaries):
            left_out.append((name, "no cell of it passed"))
        else:
            records.append(record)
    records.sort(key=lambda one: (one.campaign.created_at, one.campaign.campaign_id))
    return build_history(records, _promotions(workspace, records), left_out, find)


def build_history(
    records: Sequence[CampaignRecord],
    promotions: Sequence[Promotion],
    left_out: Sequence[tuple[str, str]],
    find: Find | None,
) -> History:
    """The same of records in the order of time."""
    marks = [_mark(record) for record in records]
    points: dict[tuple[str, str, str], list[TrendPoint]] = {}
    about: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for place, record in enumerate(records):
        for key, rows in _rows(record).items():
            about[key] = rows[0]
            points.setdefault(key, []).append(_point(place, marks[place].yardstick, record, rows))
    trends = [
        Trend(
            target=key[0], platform_mode=key[1], metric=key[2], unit=about[key]["unit"],
            higher_is_better=about[key]["higher_is_better"], points=of,
        )
        for key, of in sorted(points.items(), key=lambda item: item[0][:2])
    ]  # fmt: skip
    if find:
        trends = [_searched(trend, find, promotions) for trend in trends]
    return History(campaigns=marks, promotions=promotions, trends=trends, left_out=left_out)


def _mark(record: CampaignRecord) -> CampaignMark:
    one = record.campaign
    tool = f"{one.load_tool.get('name')} {one.load_tool.get('version')}"
    text = f"benchmark {one.benchmark_sha256[:12]}, {tool}, target {one.target}"
    if one.target_files:
        text += f" (files {_digest(sorted(one.target_files.items()), 12)})"
    text += f", {cpus_of(record)}" + (f", presets {presets_of(record)}" if one.policy_presets else "")
    return CampaignMark(
        campaign_id=one.campaign_id,
        created_at=one.created_at,
        target=one.target,
        yardstick=_digest(measure_of(record), 8),
        yardstick_text=text,
        verdict=record.aggregate["verdict"],
    )


def _digest(data: object, length: int) -> str:
    return hashlib.sha256(repr(data).encode()).hexdigest()[:length]


def _rows(record: CampaignRecord) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in record.aggregate["rows"]:
        if row["applicable"]:
            found.setdefault((record.campaign.target, row["platform_mode"], row["metric"]), []).append(row)
    return found


def _point(place: int, yardstick: str, record: CampaignRecord, rows: Sequence[Mapping[str, Any]]) -> TrendPoint:
    return TrendPoint(
        place=place,
        yardstick=yardstick,
        baseline_slug=record.campaign.baseline_slug,
        baseline=rows[0]["baseline"]["median"],
        candidates=[
            Judged(slug=row["candidate_slug"], median=row["candidate"]["median"], verdict=row["verdict"])
            for row in rows
        ],
    )


def _searched(trend: Trend, find: Find, promotions: Sequence[Promotion]) -> Trend:
    """With the changes of the baseline's medians, yardstick by yardstick."""
    by_yardstick: dict[str, list[TrendPoint]] = {}
    for point in trend.points:
        if point.baseline is not None:
            by_yardstick.setdefault(point.yardstick, []).append(point)
    changes: list[Change] = []
    for of in by_yardstick.values():
        for change in find([point.baseline for point in of if point.baseline is not None]):
            start, end = of[change.start].place, of[change.end].place
            grown = change.amount > (1.0 if change.relative else 0.0)
            promoted = next((one.slug for one in promotions if start < one.after <= end), None)
            changes.append(
                replace(change, start=start, end=end, worse=grown != trend.higher_is_better,
                        promoted=promoted if change.kind == "step" else None)
            )  # fmt: skip
    searched = max((len(of) for of in by_yardstick.values()), default=0)
    return replace(trend, changes=sorted(changes, key=lambda one: one.end), searched=searched)


def _promotions(workspace: Workspace, records: Sequence[CampaignRecord]) -> list[Promotion]:
    """When versions became the baseline, as version.yaml has it, also of those that are archived or rejected since."""
    found = [
        Promotion(
            slug=one.slug,
            at=one.promoted_at,
            campaign_id=one.campaign_id,
            replaced=one.replaced,
            after=sum(record.campaign.created_at <= one.promoted_at for record in records),
        )
        for one in store.load_all_metadata(workspace)
        if one.promoted_at
    ]
    return sorted(found, key=lambda one: (one.at, one.slug))
