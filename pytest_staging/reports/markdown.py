"""The comparison as a markdown table: medians first. The same data gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"


def render_table(aggregate: Mapping[str, Any]) -> str:
    """One row per candidate, mode and metric: median of the baseline, of the candidate, and the change."""
    from tabulate import tabulate

    several = len(aggregate["candidate_slugs"]) > 1
    headers = [*(["candidate"] if several else []), "mode", "metric", "unit", "baseline", "candidate", "change"]
    rows = [
        [
            *([row["candidate_slug"]] if several else []),
            row["platform_mode"],
            row["metric"],
            row["unit"],
            show_value(row["baseline"]["median"], row["unit"]),
            show_value(row["candidate"]["median"], row["unit"]),
            show_change(row),
        ]
        for row in aggregate["rows"]
    ]
    alignment = ["left"] * (len(headers) - 3) + ["right"] * 3
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=alignment))


def render_report(aggregate: Mapping[str, Any]) -> str:
    """`aggregate-comparison.md`, whole."""
    against = ", ".join(aggregate["candidate_slugs"])
    lines = [f"# Campaign {aggregate['campaign_id']}: {against} against {aggregate['baseline_slug']}", ""]
    if aggregate["smoke"]:
        lines += ["**Smoke campaign**: about a second of load per cell. It shows that the wiring works, nothing else.", ""]
    lines += [
        f"{aggregate['cells_passed']} of {aggregate['cells_planned']} cells measured, {aggregate['runs']} runs. "
        "Medians over runs.",
        "",
        render_table(aggregate),
        "",
    ]
    missing = render_missing(aggregate["missing"])
    if missing:
        lines += ["## Missing", "", *[f"- {line}" for line in missing], ""]
    return "\n".join(lines)


def render_missing(missing: Sequence[Mapping[str, Any]]) -> list[str]:
    """Missing cells one by one; a metric that is missing for one reason in many cells in one line."""
    lines = [f"{one['cell']}: {one['reason']}" for one in missing if one["metric"] is None]
    grouped: dict[tuple[str, str], int] = {}
    for one in missing:
        if one["metric"] is not None:
            key = (one["metric"], one["reason"])
            grouped[key] = grouped.get(key, 0) + 1
    return lines + [f"{metric} in {count} cells: {reason}" for (metric, reason), count in grouped.items()]


def show_value(value: float | None, unit: str) -> str:
    """A number for people: bytes in MiB, others with four significant digits; a dash for what is not there."""
    if value is None:
        return NOTHING
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if value and abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.0f}"


def show_change(row: Mapping[str, Any]) -> str:
    """Change of the median in per cent of the baseline; in the unit itself where the baseline is zero."""
    baseline, delta = row["baseline"]["median"], row["delta"]["median"]
    if delta is None:
        return NOTHING
    if baseline:
        return f"{delta / baseline * 100:+.1f} %"
    return f"{delta:+.4g}" if delta else "0"
