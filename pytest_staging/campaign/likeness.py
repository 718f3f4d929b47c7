"""What makes two campaigns comparable: the same measure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_staging.model.record import CampaignRecord

COMPARISON_SCHEMA_VERSION = 1


CPUS = "hosts' CPUs"


def cpus_of(record: CampaignRecord) -> str:
    """Number and model of the CPUs of each host that measured something, sorted; empty when none did."""
    return ", ".join(sorted({_cpus(one.host) for one in record.summaries if one.passed}))


def _cpus(host: Mapping[str, Any]) -> str:
    model, count = host.get("cpu") or "unknown", host.get("cpus")
    return f"{count} x {model}" if count else str(model)


def measure_of(record: CampaignRecord) -> dict[str, str]:
    """What a campaign was measured by: only campaigns that are equal in all of it can be compared.

    Memory is no part of it: the kernel of one and the same machine reports another size after an update.
    """
    one = record.campaign
    files = {"benchmark's benchmark.yaml": one.benchmark_sha256}
    files |= {f"benchmark's {name}": digest for name, digest in sorted(one.benchmark_files.items())}
    files |= {f"target's {name}": digest for name, digest in sorted(one.target_files.items())}
    return {
        **{name: f"sha256 {digest}" for name, digest in files.items()},
        "load tool": _tool(one.load_tool),
        "target": one.target,
        "throughput presets": presets_of(record),
        CPUS: cpus_of(record),
    }


def presets_of(record: CampaignRecord) -> str:
    """That of the baseline and those of the candidates; the candidates' names are no part of the measure."""
    presets = record.campaign.policy_presets
    candidates = sorted({presets.get(slug, "none") for slug in record.campaign.candidate_slugs})
    return (
        f"{presets.get(record.campaign.baseline_slug, 'none')} against {', '.join(candidates)}" if presets else "none"
    )


def find_obstacles(first: CampaignRecord, second: CampaignRecord) -> list[str]:
    """Every reason why the two cannot be compared; empty when they can."""
    one, other = first.campaign, second.campaign
    found = []
    if one.campaign_id == other.campaign_id:
        found.append(f"both are {one.campaign_id}")
    found += [
        f"{record.campaign.campaign_id} is a smoke campaign" for record in (first, second) if record.campaign.smoke
    ]
    found += [
        f"{record.campaign.campaign_id} has no passed cell"
        for record in (first, second)
        if not any(cell.passed for cell in record.summaries)
    ]
    mine, yours = (
        {**measure_of(record), "modes": ", ".join(sorted(record.campaign.platform_modes))} for record in (first, second)
    )
    if not mine[CPUS] or not yours[CPUS]:  # nothing was measured there, which is said already
        del mine[CPUS], yours[CPUS]
    differing = [name for name in {**mine, **yours} if mine.get(name) != yours.get(name)]
    found += [f"{name}: {_short(mine.get(name))} and {_short(yours.get(name))}" for name in differing]
    return found + [
        f"preset of {slug}: {preset} and {other.policy_presets[slug]}"
        for slug, preset in one.policy_presets.items()
        if other.policy_presets.get(slug, preset) != preset
    ]


def _short(value: str | None) -> str:
    if value is None:
        return "not there"
    return value[: len("sha256 ") + 12] if value.startswith("sha256 ") else value


def _tool(tool: Mapping[str, str]) -> str:
    return f"{tool.get('name')} {tool.get('version')}"


def put_beside(first: CampaignRecord, second: CampaignRecord) -> dict[str, Any]:
    """Two comparable campaigns as data: what each says of its candidates, and how versions in both were measured."""
    rows = [_by_key(first), _by_key(second)]
    levels = [_levels(first), _levels(second)]
    return {
        "schema_version": COMPARISON_SCHEMA_VERSION,
        "campaigns": [_head(first), _head(second)],
        "notes": list(_notes(first, second)),
        "rows": [
            {
                "candidate_slug": key[0], "platform_mode": key[1], "metric": key[2],
                "unit": (rows[0].get(key) or rows[1][key])["unit"],
                "first": _side(rows[0].get(key)), "second": _side(rows[1].get(key)),
                "agree": _agree(rows[0].get(key), rows[1].get(key)),
            }
            for key in {**rows[0], **rows[1]}
        ],
        "levels": [
            {"version_slug": key[0], "platform_mode": key[1], "metric": key[2], "unit": levels[0][key][1],
             "first": levels[0][key][0], "second": levels[1][key][0],
             "ratio": _ratio(levels[0][key][0], levels[1][key][0])}
            for key in levels[0] if key in levels[1] and _same_snapshot(first, second, key[0])
        ],
    }  # fmt: skip


def _head(record: CampaignRecord) -> dict[str, Any]:
    found, one = record.aggregate, record.campaign
    names = ("verdict", "verdict_reason", "runs", "cells_planned", "cells_passed", "complete", "stopped")
    return {"campaign_id": one.campaign_id, "created_at": one.created_at, "baseline_slug": one.baseline_slug,
            "candidate_slugs": list(one.candidate_slugs), **{name: found[name] for name in names}}  # fmt: skip


def _notes(first: CampaignRecord, second: CampaignRecord) -> list[str]:
    notes = []
    if first.campaign.baseline_slug != second.campaign.baseline_slug:
        notes.append("the baselines differ, so the candidates' ratios have different denominators")
    for slug in first.campaign.slugs:
        if slug in second.campaign.slugs and not _same_snapshot(first, second, slug):
            notes.append(f"the snapshot of {slug} changed in between")
    return notes


def _same_snapshot(first: CampaignRecord, second: CampaignRecord, slug: str) -> bool:
    return first.campaign.versions.get(slug) == second.campaign.versions.get(slug)


def _by_key(record: CampaignRecord) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    rows = record.aggregate["rows"]
    return {(row["candidate_slug"], row["platform_mode"], row["metric"]): row for row in rows}


def _levels(record: CampaignRecord) -> dict[tuple[str, str, str], tuple[float, str]]:
    """Median and unit of each version, mode and metric that has one."""
    found = {}
    for row in record.aggregate["rows"]:
        for slug, side in ((record.campaign.baseline_slug, "baseline"), (row["candidate_slug"], "candidate")):
            if row[side]["median"] is not None:
                found[slug, row["platform_mode"], row["metric"]] = (row[side]["median"], row["unit"])
    return found


def _side(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names = ("ratio", "difference", "ci_low", "ci_high", "n", "absolute", "advisory", "applicable", "verdict", "unit")
    return None if row is None else {name: row[name] for name in names}


def _agree(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> bool | None:
    """Whether the 95 % intervals overlap; None when there are no two intervals of one kind."""
    if first is None or second is None or first["absolute"] != second["absolute"]:
        return None
    if not first["n"] or not second["n"]:
        return None
    lows = [one for one in (first["ci_low"], second["ci_low"]) if one is not None]
    highs = [one for one in (first["ci_high"], second["ci_high"]) if one is not None]
    return not lows or not highs or max(lows) <= min(highs)


def _ratio(first: float, second: float) -> float | None:
    return second / first if first > 0 else None
