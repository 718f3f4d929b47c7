"""The history as a page: a plot per metric, promotions and changes of the measure marked, steps and drifts flagged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_staging.model.history import History, Trend
from pytest_staging.reports.html.drawing import INK, MUTED, PAPER, TIP, axis, draw, rows_of
from pytest_staging.reports.html.forest import COLOURS
from pytest_staging.reports.html.page import fill
from pytest_staging.reports.html.scales import value_axis
from pytest_staging.reports.markdown import show_value
from pytest_staging.reports.trends import describe_boundaries, describe_change
from pytest_staging.stats.changes import FEWEST

HEIGHT = 170


@dataclass(frozen=True)
class TrendPlot:
    """A trend as it is shown. `table` rows are (campaign, created, yardstick, baseline, its median, candidates)."""

    trend: Trend
    wide: str
    narrow: str
    text: str
    changes: Sequence[tuple[str, bool]]
    table: Sequence[tuple[str, str, str, str, str, str]]


def render_page(history: History) -> str:
    """The whole page."""
    plots = [_plot(trend, history) for trend in history.trends]
    groups: dict[tuple[str, str], list[TrendPlot]] = {}
    for plot in plots:
        groups.setdefault((plot.trend.target, plot.trend.metric), []).append(plot)
    return fill(
        "history.html",
        {
            "history": history,
            "groups": groups,
            "flagged": [(plot.trend, said, worse) for plot in plots for said, worse in plot.changes],
            "boundaries": list(describe_boundaries(history)),
            "searched": any(trend.searched >= FEWEST for trend in history.trends),
            "fewest": FEWEST,
        },
    )


def _plot(trend: Trend, history: History) -> TrendPlot:
    changes = [(describe_change(one, trend, history), one.worse) for one in trend.changes]
    known = [point.baseline for point in trend.points if point.baseline is not None]
    ends = f"from {show_value(known[0], trend.unit)} to {show_value(known[-1], trend.unit)}" if known else "no values"
    flagged = "; ".join(said for said, _ in changes) or "no step or drift flagged"
    return TrendPlot(
        trend=trend,
        wide=_draw(trend, history, 720),
        narrow=_draw(trend, history, 270),
        text=f"{trend.metric} in {trend.platform_mode} on {trend.target} over {len(trend.points)} campaigns: the "
        f"baseline's median went {ends}; {flagged}.",
        changes=changes,
        table=[
            (
                history.campaigns[point.place].campaign_id,
                history.campaigns[point.place].created_at,
                point.yardstick,
                point.baseline_slug,
                show_value(point.baseline, trend.unit),
                ", ".join(
                    f"{one.slug} {show_value(one.median, trend.unit)} ({one.verdict})" for one in point.candidates
                ),
            )
            for point in trend.points
        ],
    )


def _draw(trend: Trend, history: History, width: int) -> str:
    import altair as alt

    values = [one for one in _medians(trend) if one is not None]
    log = bool(values) and min(values) > 0 and max(values) / min(values) > 12
    low, high, ticks = value_axis(values, log, trend.unit)
    words = "format(datum.value / 1048576, '~g') + ' MiB'" if trend.unit == "bytes" else "format(datum.value, '~g')"
    count = len(history.campaigns)
    step = -(-count // (width // 36))
    across = alt.Scale(domain=[0.4, count + 0.6], nice=False, zero=False)
    x = alt.X("x:Q", scale=across, axis=axis(values=list(range(1, count + 1, step)), grid=False, format="d"))
    up = alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False, zero=False)
    y = alt.Y("y:Q", scale=up, axis=axis(values=ticks, labelExpr=words, labelPadding=4))
    layers = [
        *_marks(alt, x, history, trend),
        *_levels(alt, x, y, trend),
        alt.Chart(rows_of(_baselines(trend))).mark_line(color="var(--version-0)", strokeWidth=1.5, aria=False).encode(
            x=x, y=y, detail="part:N"),
        alt.Chart(rows_of(_candidates(trend, history))).mark_point(size=34, strokeWidth=1.5, opacity=1).encode(
            x=x, y=y, description="tip:N", fill=alt.value(PAPER), stroke=alt.Stroke("colour:N", scale=None)),
        alt.Chart(rows_of(_baselines(trend, history))).mark_point(
            filled=True, size=46, color=INK, opacity=1, shape="circle").encode(x=x, y=y, description="tip:N"),
    ]  # fmt: skip
    return draw(alt.layer(*layers), width, HEIGHT, (60, 22, 12, 22))


def _medians(trend: Trend) -> list[float | None]:
    return [value for point in trend.points for value in (point.baseline, *(one.median for one in point.candidates))]


def _baselines(trend: Trend, history: History | None = None) -> list[dict[str, Any]]:
    """The baseline's medians; `part` counts stretches of one yardstick, which a line may join."""
    found: list[dict[str, Any]] = []
    part, last = 0, None
    for point in trend.points:
        part += point.yardstick != last
        last = point.yardstick
        if point.baseline is not None:
            row: dict[str, Any] = {"x": point.place + 1, "y": point.baseline, "part": part}
            if history:
                mark = history.campaigns[point.place]
                row["tip"] = TIP.join((f"{mark.campaign_id}: baseline {point.baseline_slug}",
                                       show_value(point.baseline, trend.unit), mark.created_at))  # fmt: skip
            found.append(row)
    return found


def _candidates(trend: Trend, history: History) -> list[dict[str, Any]]:
    return [
        {
            "x": point.place + 1,
            "y": one.median,
            "colour": COLOURS.get(one.verdict or "", MUTED),
            "tip": TIP.join((f"{history.campaigns[point.place].campaign_id}: candidate {one.slug}",
                             f"{show_value(one.median, trend.unit)}, {one.verdict}")),
        }
        for point in trend.points
        for one in point.candidates
        if one.median is not None
    ]  # fmt: skip


def _marks(alt: Any, x: Any, history: History, trend: Trend) -> list[Any]:
    """Promotions and places where the yardstick changed, as lines between campaigns."""
    lines = [
        {"x": one.after + 0.5, "word": f"▲ {one.slug}", "tip": f"promoted: {one.slug}{TIP}{one.at}"}
        for one in history.promotions
    ]
    new = "measured differently from here on"
    borders = [
        {"x": later.place + 0.5, "tip": f"{new}{TIP}{history.campaigns[later.place].yardstick_text}"}
        for earlier, later in zip(trend.points, trend.points[1:], strict=False)
        if earlier.yardstick != later.yardstick
    ]
    top = alt.value(-8)
    return [
        alt.Chart(rows_of(borders)).mark_rule(color="var(--regression)", strokeDash=[2, 3], strokeWidth=1.5).encode(
            x=x, description="tip:N"),
        alt.Chart(rows_of(lines)).mark_rule(color="var(--pass)", strokeWidth=1.5).encode(x=x, description="tip:N"),
        alt.Chart(rows_of(lines)).mark_text(color="var(--pass)", fontSize=11, limit=110, aria=False).encode(
            x=x, y=top, text="word:N"),
    ]  # fmt: skip


def _levels(alt: Any, x: Any, y: Any, trend: Trend) -> list[Any]:
    """A pale bar at the level before and after each step, a pale line along each drift, and a mark where it is."""
    if not trend.changes:
        return []
    bars, flags = [], []
    for change in trend.changes:
        by = next(point.yardstick for point in trend.points if point.place == change.end)
        alike = [point for point in trend.points if point.yardstick == by]
        own = [(point.place, point.baseline) for point in alike if point.baseline is not None]
        if change.kind == "drift":
            inside = [(place, value) for place, value in own if change.start <= place <= change.end]
            bars.append({"x": change.start + 1, "y": inside[0][1], "x2": change.end + 1, "y2": inside[-1][1]})
        else:
            others = [one for one in trend.changes if one is not change]
            first = max((one.end for one in others if one.end <= change.start), default=own[0][0])
            last = min((one.start for one in others if one.start >= change.end), default=own[-1][0])
            for start, end in ((first, change.start), (change.end, last)):
                level = statistics.median(value for place, value in own if start <= place <= end)
                bars.append({"x": start + 0.7, "y": level, "x2": end + 1.3, "y2": level})
        flags.append({"x": (change.start + change.end) / 2 + 1, "word": "⚑",
                      "colour": "var(--regression)" if change.worse else "var(--pass)"})  # fmt: skip
    return [
        alt.Chart(rows_of(bars)).mark_rule(color="var(--flag)", strokeWidth=9, strokeCap="round", aria=False).encode(
            x=x, y=y, x2="x2:Q", y2="y2:Q"),
        alt.Chart(rows_of(flags)).mark_text(fontSize=15, aria=False).encode(
            x=x, y=alt.value(HEIGHT - 8), text="word:N", color=alt.Color("colour:N", scale=None)),
    ]  # fmt: skip
