"""The history as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_staging.model.history import Change, History, Trend
from pytest_staging.reports.markdown import NOTHING, show_value
from pytest_staging.reports.terminal import table_or_list, wrap


def render_trends(history: History, width: int | None = None) -> Iterator[str]:
    """Lines: promotions, a row per metric with its first and latest median and what changed, what was left out.

    With the `width` of a terminal no line is longer; steps and drifts stand below the table. None: a pipe or a file.
    """
    yield f"campaigns: {len(history.campaigns)}, promotions: {len(history.promotions)}"
    for one in history.promotions:
        by = f" by campaign {one.campaign_id}" if one.campaign_id else ""
        yield from wrap(f"promoted {one.at}: {one.slug} in place of {one.replaced or 'none'}{by}", width)
    if history.trends:
        yield ""
        yield from table_or_list(_table(history, beside=width is None), _list(history, width), width)
        if width is not None and any(trend.changes for trend in history.trends):
            yield ""
            yield from _changes(history, width)
    boundaries = list(describe_boundaries(history))
    if boundaries:
        yield ""
        for line in boundaries:
            yield from wrap(f"Note: {line}", width)
    if history.left_out:
        yield ""
        yield "Left out:"
        for name, reason in history.left_out:
            yield from wrap(f"{name}: {reason}", width, "  ")


def describe_boundaries(history: History) -> Iterator[str]:
    """Where the measure itself changed, per target: medians before and after such a place cannot be compared."""
    last: dict[str, tuple[str, str]] = {}
    for one in history.campaigns:
        before = last.get(one.target)
        if before and before[0] != one.yardstick:
            yield f"from {one.campaign_id} on measured by {one.yardstick_text}; before by {before[1]}."
        last[one.target] = (one.yardstick, one.yardstick_text)


def describe_change(change: Change, trend: Trend, history: History) -> str:
    """`step ×1.25 (worse) at ID`, with the promotion that lies there."""
    size = f"×{change.amount:.3g}" if change.relative else f"{change.amount:+.3g} {trend.unit}"
    word = "worse" if change.worse else "better"
    end = history.campaigns[change.end].campaign_id
    if change.kind == "drift":
        return f"drift {size} ({word}) from {history.campaigns[change.start].campaign_id} to {end}"
    promoted = f", after the promotion of {change.promoted}" if change.promoted else ""
    return f"step {size} ({word}) at {end}{promoted}"


def _table(history: History, beside: bool) -> str:
    """`beside`: with steps and drifts in a last column."""
    from tabulate import tabulate

    count = 8 if beside else 7
    heads = ["target", "mode", "metric", "n", "first", "latest", "change", "steps and drifts"][:count]
    rows = [_row(trend, history)[:count] for trend in history.trends]
    sides = ["left", "left", "left", "right", "right", "right", "right", "left"][:count]
    return str(tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=sides))


def _list(history: History, width: int | None) -> Iterator[str]:
    for trend in history.trends:
        target, mode, metric, count, first, latest, change, _ = _row(trend, history)
        yield from wrap(f"{target} {mode} {metric}: {change}", width)
        yield from wrap(f"{first} to {latest}, n {count}", width, "  ")


def _changes(history: History, width: int) -> Iterator[str]:
    for trend in history.trends:
        for one in trend.changes:
            where = f"{trend.target} {trend.platform_mode} {trend.metric}"
            yield from wrap(f"{where}: {describe_change(one, trend, history)}", width)


def _row(trend: Trend, history: History) -> list[str]:
    """First and latest of the newest yardstick: others are no comparison."""
    newest = trend.points[-1].yardstick
    known = [point.baseline for point in trend.points if point.yardstick == newest and point.baseline is not None]
    first, latest = (known[0], known[-1]) if known else (None, None)
    change = f"{(latest / first - 1) * 100:+.1f} %" if first and latest is not None and len(known) > 1 else NOTHING
    flagged = "; ".join(describe_change(one, trend, history) for one in trend.changes)
    return [trend.target, trend.platform_mode, trend.metric, str(len(known)), show_value(first, trend.unit),
            show_value(latest, trend.unit), change, flagged]  # fmt: skip
