"""The comparison as markdown: verdict, then medians, ratio and tolerance. The same data gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_staging.model.record import CampaignRecord
from pytest_staging.wording import number_of

NOTHING = "–"


COLUMNS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("candidate", "left", lambda row: str(row["candidate_slug"])),
    ("mode", "left", lambda row: str(row["platform_mode"])),
    ("metric", "left", lambda row: str(row["metric"])),
    ("baseline", "right", lambda row: show_value(row["baseline"]["median"], row["unit"])),
    ("candidate", "right", lambda row: show_value(row["candidate"]["median"], row["unit"])),
    ("ratio", "right", lambda row: show_estimate(row)),
    ("95 %", "right", lambda row: show_interval(row)),
    ("tol.", "right", lambda row: show_tolerance(row)),
    ("verdict", "left", lambda row: show_verdict(row)),
)
NARROW_WITHOUT = ("95 %", "tol.")


def render_table(aggregate: Mapping[str, Any], width: int | None = None) -> str:
    """One row per candidate, mode and metric: both medians, the ratio with its interval, the tolerance, the verdict.

    When that is wider than `width` characters, the interval and the tolerance are left out.
    """
    several = len(aggregate["candidate_slugs"]) > 1
    columns = COLUMNS if several else COLUMNS[1:]
    text = _tabulate(aggregate["rows"], columns)
    if width is not None and len(text.partition("\n")[0]) > width:
        return _tabulate(aggregate["rows"], [column for column in columns if column[0] not in NARROW_WITHOUT])
    return text


def _tabulate(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, Any]]) -> str:
    from tabulate import tabulate

    cells = [[show(row) for _, _, show in columns] for row in rows]
    titles = [title for title, _, _ in columns]
    alignment = [side for _, side, _ in columns]
    return str(tabulate(cells, titles, tablefmt="github", disable_numparse=True, colalign=alignment))


def render_markdown(record: CampaignRecord) -> str:
    """`aggregate-comparison.md` again, from the cells on disk."""
    return render_report(record.aggregate)


def render_report(aggregate: Mapping[str, Any]) -> str:
    """`aggregate-comparison.md`, whole."""
    against = ", ".join(aggregate["candidate_slugs"])
    lines = [f"# Campaign {aggregate['campaign_id']}: {against} against {aggregate['baseline_slug']}", ""]
    lines += [f"{escape(line)}\n" for line in render_headline(aggregate)]
    lines += ["Medians over runs; ratio is candidate to baseline (Hodges-Lehmann over blocks).", ""]
    lines += [render_table(aggregate), ""]
    lines += ["## Reasons", ""]
    lines += [
        f"- {row['candidate_slug']} {row['platform_mode']} {row['metric']}: {show_verdict(row)}: "
        + escape(row["reason"])
        for row in aggregate["rows"]
    ]
    missing = render_missing(aggregate["missing"])
    if missing:
        lines += ["", "## Missing", "", *[f"- {escape(line)}" for line in missing]]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """In one line, and nothing of it is markup: reasons quote what services said."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]|~#@])", r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def render_headline(aggregate: Mapping[str, Any]) -> list[str]:
    """What a reader wants first: the verdict and why, then how much it rests on."""
    runs = number_of(aggregate["runs"], "run")
    cells = f"{aggregate['cells_passed']} of {aggregate['cells_planned']} cells measured, {runs}"
    if aggregate["smoke"]:
        return ["Smoke campaign: it shows that the wiring works, nothing else. No verdict.", f"{cells}."]
    stopped = f", stopped by the rule: {aggregate['stopped']}" if aggregate["stopped"] else ""
    return [
        f"Verdict: {aggregate['verdict'].upper()} ({aggregate['verdict_reason']}).",
        *[f"Note: {note}." for note in [*aggregate["notes"], *_incomplete(aggregate)]],
        f"{cells}{stopped}.",
    ]


def _incomplete(aggregate: Mapping[str, Any]) -> list[str]:
    """A failed cell drops its block, so a version that crashes now and then could still read PASS: said beside it."""
    without = aggregate["cells_planned"] - aggregate["cells_passed"]
    cells = "cell has" if without == 1 else "cells have"
    return [f"{without} {cells} no passed result; a promotion needs every one"] if without else []


def render_missing(missing: Sequence[Mapping[str, Any]]) -> list[str]:
    """Missing cells one by one; a metric that is missing for one reason in many cells in one line."""
    lines = [f"{one['cell']}: {one['reason']}" for one in missing if one["metric"] is None]
    grouped: dict[tuple[str, str], int] = {}
    for one in missing:
        if one["metric"] is not None:
            key = (one["metric"], one["reason"])
            grouped[key] = grouped.get(key, 0) + 1
    return lines + [f"{metric} in {number_of(count, 'cell')}: {reason}" for (metric, reason), count in grouped.items()]


def show_value(value: float | None, unit: str) -> str:
    """A number with its unit: bytes in MiB, others with four significant digits; a dash for what is not there."""
    if value is None:
        return NOTHING
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if unit == "requests/s":
        unit = "/s"
    number = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return number if unit == "share" else f"{number}{unit}" if unit.startswith("/") else f"{number} {unit}"


def show_estimate(row: Mapping[str, Any]) -> str:
    """The ratio; for an absolute comparison the difference, with its sign."""
    if row["absolute"]:
        return NOTHING if row["difference"] is None else _signed(row["difference"], row["unit"])
    return NOTHING if row["ratio"] is None else _ratio(row["ratio"])


def show_interval(row: Mapping[str, Any]) -> str:
    """Both limits, or that there is none yet."""
    low, high = row["ci_low"], row["ci_high"]
    if not row["n"]:
        return NOTHING
    if low is None or high is None:
        return "unbounded"
    if row["absolute"]:
        return f"{_signed(low, row['unit'])} .. {_signed(high, row['unit'])}"
    return f"{_ratio(low)} .. {_ratio(high)}"


def show_tolerance(row: Mapping[str, Any]) -> str:
    """Per cent, or in the metric's own unit."""
    if row["absolute"]:
        return _signed(row["tolerance"], row["unit"]).lstrip("+")
    return f"{row['tolerance'] * 100:g} %"


def show_verdict(row: Mapping[str, Any]) -> str:
    """The verdict, marked when it is not counted."""
    if not row["applicable"]:
        return "n/a"
    return f"({row['verdict']})" if row["advisory"] else str(row["verdict"])


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _signed(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:+.1f} MiB"
    return f"{value:+.3g}" if value else "0"
