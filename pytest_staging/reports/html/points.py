"""Every run's point, paired by block, in run order: one small plot per metric and mode, and its numbers as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_staging.model.campaign import CellSummary
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.html.drawing import PAPER, TIP, axis, draw, rows_of
from pytest_staging.reports.html.scales import value_axis
from pytest_staging.reports.markdown import NOTHING, show_value
from pytest_staging.wording import number_of

if TYPE_CHECKING:
    import altair

MOST_RUNS = 150
"""Above it a point per run would be a smear on 300 px: runs are drawn in groups, and only the table has each."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
LOG_FROM = 12.0  # a largest value that many times the smallest needs a log axis for both to be seen
WIDTH, HEIGHT = 300, 132


@dataclass(frozen=True)
class Series:
    """How a version is drawn. The first is the baseline."""

    slug: str
    colour: str
    shape: str


@dataclass(frozen=True)
class RunPlot:
    """One metric in one mode. `table` has a row per run: its number, then a value or None per version."""

    metric: str
    mode: str
    unit: str
    drawing: str
    text: str
    note: str
    verdicts: Sequence[Mapping[str, Any]]
    table: Sequence[tuple[int, Sequence[str]]]


Cells = Mapping[tuple[int, str, str], CellSummary]


def series_of(record: CampaignRecord) -> list[Series]:
    """Each version's colour and shape, which are the same all over the report."""
    return [
        Series(slug, f"var(--version-{number % 6})", SHAPES[number % len(SHAPES)])
        for number, slug in enumerate(record.campaign.slugs)
    ]


def build_run_plots(record: CampaignRecord) -> Iterator[tuple[str, list[RunPlot]]]:
    """Each metric with its plots, a mode each; a mode in which the metric does not exist has none."""
    cells = {(one.run_index, one.platform_mode, one.version_slug): one for one in record.summaries}
    places = {(one.run_index, one.platform_mode, one.version_slug): one.position for one in record.campaign.cells}
    for metric in record.benchmark.metrics:
        rows = [row for row in record.aggregate["rows"] if row["metric"] == metric]
        plots = [
            _plot(record, metric, mode, [row for row in rows if row["platform_mode"] == mode], cells, places)
            for mode in record.campaign.platform_modes
            if any(row["platform_mode"] == mode and row["applicable"] for row in rows)
        ]
        yield metric, plots


def group_size(runs: int) -> int:
    """How many runs are drawn as one: 1 while there is room for each."""
    return 1 if runs <= MOST_RUNS else -(-runs // (MOST_RUNS // 2))


def _plot(
    record: CampaignRecord,
    metric: str,
    mode: str,
    rows: Sequence[Mapping[str, Any]],
    cells: Cells,
    places: Mapping[tuple[int, str, str], int],
) -> RunPlot:
    series = series_of(record)
    unit, runs = rows[0]["unit"], max((key[0] for key in cells), default=record.campaign.runs)
    values = {one.slug: [_value(cells, run, mode, one.slug, metric) for run in range(1, runs + 1)] for one in series}
    drawn: list[dict[str, Any]] = []
    if group_size(runs) > 1:
        drawing = _draw_groups(values, series, runs, group_size(runs), unit)
        gone = _gone(cells, series, mode, runs)
        note = f"{len(gone)} cells without a result are not drawn." if gone else ""
    else:
        drawn = _points(cells, places, values, series, mode, unit, len(series))
        gone = _gone(cells, series, mode, runs)
        drawing = _draw_points(drawn, gone, values, series, runs, unit)
        note = f"{len(gone)} cells without a result are crossed at the foot." if gone else ""
    if _log(values):
        note = f"{note} Log axis.".strip()
    return RunPlot(
        metric=metric,
        mode=mode,
        unit=unit,
        drawing=drawing,
        text=_text(metric, mode, unit, values, runs),
        note=note,
        verdicts=rows,
        table=[
            (run, [_shown(values[one.slug][run - 1], cells.get((run, mode, one.slug)), unit) for one in series])
            for run in range(1, runs + 1)
        ],
    )


def _value(cells: Cells, run: int, mode: str, slug: str, metric: str) -> float | None:
    cell = cells.get((run, mode, slug))
    return cell.metrics.get(metric) if cell is not None and cell.passed else None


def _shown(value: float | None, cell: CellSummary | None, unit: str) -> str:
    if value is not None:
        return show_value(value, unit)
    return "not run" if cell is None else NOTHING if cell.passed else cell.outcome


def _points(
    cells: Cells,
    places: Mapping[tuple[int, str, str], int],
    values: Mapping[str, Sequence[float | None]],
    series: Sequence[Series],
    mode: str,
    unit: str,
    versions: int,
) -> list[dict[str, Any]]:
    """Points in run order, within a run in the order of measurement: what ran first stands further left."""
    found = []
    for one in series:
        for run, value in enumerate(values[one.slug], 1):
            if value is None:
                continue
            place = places.get((run, mode, one.slug), 0)
            before = values[series[0].slug][run - 1]
            lines = [f"run {run}, {mode}: {one.slug}", show_value(value, unit)]
            if one is not series[0] and before:
                lines.append(f"ratio {value / before:.3f} to {show_value(before, unit)}")
            lines += [f"number {place + 1} of its block", cells[run, mode, one.slug].started_at]
            at = run + (place - (versions - 1) / 2) * 0.5 / max(versions - 1, 1)
            found.append({"x": at, "y": value, "run": run, "slug": one.slug, "colour": one.colour,
                          "shape": one.shape, "fill": PAPER if one is series[0] else one.colour,
                          "tip": TIP.join(lines)})  # fmt: skip
    return sorted(found, key=lambda point: (point["x"], point["slug"]))


def _gone(cells: Cells, series: Sequence[Series], mode: str, runs: int) -> list[dict[str, Any]]:
    """Cells that were tried and gave nothing."""
    return [
        {"x": run, "tip": f"run {run}, {mode}: {one.slug}{TIP}{cell.outcome}: {_short(cell.reason)}"}
        for run in range(1, runs + 1)
        for one in series
        if (cell := cells.get((run, mode, one.slug))) is not None and not cell.passed
    ]


def _short(text: str | None) -> str:
    return (text or "no reason given").strip().splitlines()[0][:160]


def _log(values: Mapping[str, Sequence[float | None]]) -> bool:
    known = [value for one in values.values() for value in one if value is not None]
    return bool(known) and min(known) > 0 and max(known) / min(known) > LOG_FROM


def _axes(values: Mapping[str, Sequence[float | None]], runs: int, unit: str) -> tuple[altair.X, altair.Y]:
    """The run axis, and a value axis with some air around all values."""
    import altair as alt

    log = _log(values)
    low, high, ticks = value_axis([value for one in values.values() for value in one if value is not None], log, unit)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if runs / step <= 10)
    marked = sorted({1, *range(step, runs + 1, step)})
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[0.4, runs + 0.6], nice=False, zero=False),
        axis=axis(values=marked, grid=False, format="d"),
    )
    up = alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False, zero=False)
    words = (
        "format(datum.value / 1048576, '~g') + ' MiB'"
        if unit == "bytes"
        else "format(datum.value, abs(datum.value) < 1 ? '~g' : '~s')"
    )
    return x, alt.Y("y:Q", scale=up, axis=axis(values=ticks, labelExpr=words, labelPadding=4))


def _draw_points(
    points: list[dict[str, Any]],
    gone: list[dict[str, Any]],
    values: Mapping[str, Sequence[float | None]],
    series: Sequence[Series],
    runs: int,
    unit: str,
) -> str:
    import altair as alt

    x, y = _axes(values, runs, unit)
    layers: list[Any] = []
    for one in series:
        known = [value for value in values[one.slug] if value is not None]
        if known:
            median = rows_of([{"y": statistics.median(known)}])
            layers.append(alt.Chart(median).mark_rule(color=one.colour, strokeWidth=1, strokeDash=[4, 3],
                                                      opacity=0.7, aria=False).encode(y=y))  # fmt: skip
    layers.append(
        alt.Chart(rows_of(_pairs(points, series[0].slug)))
        .mark_rule(color="var(--join)", strokeWidth=1.25, aria=False)
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q")
    )
    size = 42 if runs <= 40 else 22
    layers.append(
        alt.Chart(rows_of(points)).mark_point(filled=True, size=size, strokeWidth=1.5, opacity=1).encode(
            x=x, y=y, description="tip:N", shape=alt.Shape("shape:N", scale=None),
            fill=alt.Fill("fill:N", scale=None), stroke=alt.Stroke("colour:N", scale=None))
    )  # fmt: skip
    if gone:
        layers.append(
            alt.Chart(rows_of(gone)).mark_text(text="✕", color="var(--regression)", fontSize=11, fontWeight=700).encode(
                x=x, y=alt.value(HEIGHT - 5), description="tip:N")
        )  # fmt: skip
    return draw(alt.layer(*layers), WIDTH, HEIGHT, (54, 8, 6, 22))


def _pairs(points: Sequence[Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """A line from a block's baseline to each of its candidates."""
    before = {point["run"]: point for point in points if point["slug"] == baseline}
    return [
        {"x": before[one["run"]]["x"], "y": before[one["run"]]["y"], "x2": one["x"], "y2": one["y"]}
        for one in points
        if one["slug"] != baseline and one["run"] in before
    ]


def _draw_groups(
    values: Mapping[str, Sequence[float | None]], series: Sequence[Series], runs: int, size: int, unit: str
) -> str:
    import altair as alt

    x, y = _axes(values, runs, unit)
    layers: list[Any] = []
    for one in series:
        groups = rows_of(_groups(one.slug, values[one.slug], size, unit))
        base = alt.Chart(groups)
        layers.append(base.mark_line(color=one.colour, strokeWidth=1.5, aria=False).encode(x=x, y=y))
        layers.append(base.mark_rule(color=one.colour, opacity=0.3, strokeWidth=2, aria=False).encode(
            x=x, y=alt.Y("low:Q"), y2="high:Q"))  # fmt: skip
        layers.append(base.mark_point(filled=True, size=9, color=one.colour, opacity=1).encode(
            x=x, y=y, description="tip:N"))  # fmt: skip
    return draw(alt.layer(*layers), WIDTH, HEIGHT, (54, 8, 6, 22))


def _groups(slug: str, values: Sequence[float | None], size: int, unit: str) -> list[dict[str, Any]]:
    found = []
    for start in range(0, len(values), size):
        known = [value for value in values[start : start + size] if value is not None]
        if known:
            middle, low, high = statistics.median(known), min(known), max(known)
            last = min(start + size, len(values))
            lines = [f"runs {start + 1} to {last}: {slug}", f"median {show_value(middle, unit)}",
                     f"from {show_value(low, unit)} to {show_value(high, unit)}"]  # fmt: skip
            found.append({"x": (start + 1 + last) / 2, "y": middle, "low": low, "high": high, "tip": TIP.join(lines)})
    return found


def _text(metric: str, mode: str, unit: str, values: Mapping[str, Sequence[float | None]], runs: int) -> str:
    """The plot in words."""
    said = []
    for slug, one in values.items():
        known = [value for value in one if value is not None]
        if known:
            ends = f"from {show_value(min(known), unit)} to {show_value(max(known), unit)}"
            said.append(
                f"{slug} median {show_value(statistics.median(known), unit)}, {ends}, {number_of(len(known), 'run')}"
            )
        else:
            said.append(f"{slug} no values")
    return f"{metric} in {mode} over {number_of(runs, 'run')}: {'; '.join(said)}."
