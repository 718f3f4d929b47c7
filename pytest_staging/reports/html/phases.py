"""Where the time went: the median seconds of each phase, per version and mode."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.html.drawing import INK, MUTED, PAPER, TIP, axis, draw, rows_of

ORDER = ("lease", "build", "start", "warm_up", "load", "drain", "stop")


@dataclass(frozen=True)
class Phases:
    """`rows` are (version, mode, median seconds and largest per phase); `names` the phases that there are."""

    names: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[tuple[float, float] | None]]]
    wide: str
    narrow: str
    text: str


def build_phases(record: CampaignRecord) -> Phases | None:
    """None when no cell has a phase."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in record.summaries:
        of = found.setdefault((one.version_slug, one.platform_mode), {})
        for name, seconds in one.phases.items():
            of.setdefault(name, []).append(seconds)
    names = [*ORDER, *sorted({name for of in found.values() for name in of} - set(ORDER))]
    names = [name for name in names if any(name in of for of in found.values())]
    if not names:
        return None
    pairs = [(slug, mode) for mode in record.campaign.platform_modes for slug in record.campaign.slugs]
    rows = [
        (slug, mode, [_both(found[slug, mode].get(name)) for name in names])
        for slug, mode in pairs
        if (slug, mode) in found
    ]
    said = "; ".join(
        f"{slug} {mode} " + ", ".join(f"{name} {one[0]:.2f} s" for name, one in zip(names, of, strict=True) if one)
        for slug, mode, of in rows
    )
    text = f"Bars of the median seconds of each phase: {said}."
    return Phases(names, rows, _draw(names, rows, 610, 190), _draw(names, rows, 316, 0), text)


def _both(seconds: Sequence[float] | None) -> tuple[float, float] | None:
    return (statistics.median(seconds), max(seconds)) if seconds else None


def _draw(
    names: Sequence[str], rows: Sequence[tuple[str, str, Sequence[tuple[float, float] | None]]], width: int, left: int
) -> str:
    """Stacked bars; `left` px for the names, which stand above the bars when there is no room."""
    import altair as alt

    parts: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for number, (slug, mode, of) in enumerate(rows):
        start = 0.0
        labels.append({"row": number, "name": f"{slug} · {mode}", "total": sum(one[0] for one in of if one)})
        for place, (name, one) in enumerate(zip(names, of, strict=True)):
            if one:
                tip = TIP.join((f"{slug}, {mode}: {name}", f"median {one[0]:.3f} s, largest {one[1]:.3f} s"))
                parts.append({"row": number, "from": start, "to": start + one[0], "tip": tip,
                              "colour": f"var(--phase-{place % 7})"})  # fmt: skip
                start += one[0]
    longest = max(label["total"] for label in labels) or 1.0
    x = alt.X("from:Q", scale=alt.Scale(domain=[0, longest], nice=False), axis=axis(tickCount=5, format="~s"))
    y = alt.Y("row:O", axis=None, sort=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    down = 0 if left else 8
    bars = alt.Chart(rows_of(parts)).mark_bar(height=16, yOffset=down, stroke=PAPER, strokeWidth=1).encode(
        x=x, x2="to:Q", y=y, description="tip:N", color=alt.Color("colour:N", scale=None))  # fmt: skip
    side = alt.value(-left)
    names_ = alt.Chart(rows_of(labels)).mark_text(
        aria=False, align="left", color=INK, fontSize=13, limit=(left or width) - 10, dy=0 if left else -13
    ).encode(x=side, y=y, text="name:N")  # fmt: skip
    total = alt.Chart(rows_of(labels)).mark_text(
        aria=False, align="left" if left else "right", color=MUTED, fontSize=12, dy=0 if left else -13
    ).encode(
        x=alt.value(width + 8 if left else width), y=y, text=alt.Text("total:Q", format=".2f"))  # fmt: skip
    height = (28 if left else 46) * len(rows)
    return draw(alt.layer(bars, names_, total), width, height, (left or 12, 4, 60 if left else 12, 24))
