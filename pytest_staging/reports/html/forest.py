"""The forest plot: each metric's ratio with its interval against the tolerance, drawn for wide and narrow screens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_staging.reports.html.drawing import INK, MUTED, PAPER, TIP, axis, draw, rows_of
from pytest_staging.reports.markdown import show_estimate, show_interval, show_tolerance, show_value, show_verdict

if TYPE_CHECKING:
    import altair

ICONS = {"pass": "✓", "regression": "✕", "inconclusive": "?"}
COLOURS = {"pass": "var(--pass)", "regression": "var(--regression)", "inconclusive": "var(--open)"}
SHAPES = {"pass": "circle", "regression": "diamond", "inconclusive": "square"}
TICKS = (0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0)
WIDEST = 2.0  # ratios beyond that only get an arrow: a band of 5 % must stay visible beside a change of 5,000 %


@dataclass(frozen=True)
class Panel:
    """Rows that share an axis: all ratios, or all differences in one unit. Both drawings show the same."""

    title: str
    note: str
    rows: Sequence[Mapping[str, Any]]
    wide: str
    narrow: str
    text: str


def build_panels(rows: Sequence[Mapping[str, Any]], candidate: str) -> Iterator[Panel]:
    """The candidate's panels: ratios first, then differences, a unit each."""
    own = [row for row in rows if row["candidate_slug"] == candidate]
    groups: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in sorted(own, key=lambda one: one["absolute"]):
        groups.setdefault(row["unit"] if row["absolute"] else None, []).append(row)
    for unit, group in groups.items():
        if any(row["applicable"] for row in group):
            yield _panel(unit, group)


def _panel(unit: str | None, rows: list[Mapping[str, Any]]) -> Panel:
    scale = _ratios(rows) if unit is None else _differences(rows)
    marks = [_mark(number, row, scale) for number, row in enumerate(rows)]
    off = sum(mark["off"] for mark in marks)
    note = f" {off} beyond the axis: an arrow, with the numbers beside it." if off else ""
    return Panel(
        title="Ratio of candidate to baseline" if unit is None else f"Difference, candidate minus baseline, in {unit}",
        note=("Left of 1: the candidate has less of it. " if unit is None else "") + note.strip(),
        rows=rows,
        wide=_draw_wide(marks, scale),
        narrow=_draw_narrow(marks, scale),
        text=_text(rows),
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    middle: float
    ticks: Sequence[float]
    log: bool
    unit: str

    def clamp(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def _ratios(rows: Sequence[Mapping[str, Any]]) -> _Scale:
    """Symmetric around 1 on a log axis: as wide as the tolerances need, and the intervals up to `WIDEST`."""
    needed = max(1.0 + row["tolerance"] for row in rows) ** 1.6
    ends = [abs(math.log(row[name])) for row in rows for name in ("ci_low", "ci_high") if row[name]]
    far = max([needed, min(math.exp(max(ends, default=0.0)) * 1.05, WIDEST), 1.15])
    ticks = [tick for tick in TICKS if 1 / far * 0.999 <= tick <= far * 1.001]
    return _Scale(1 / far, far, 1.0, _apart(ticks, far), True, "")


def _apart(ticks: list[float], far: float) -> list[float]:
    """Ticks at least a tenth of the axis apart, from 1 outwards."""
    least = 2 * math.log(far) / 10
    kept = [1.0]
    for side in (sorted((one for one in ticks if one < 1), reverse=True), sorted(one for one in ticks if one > 1)):
        last = 1.0
        for tick in side:
            if abs(math.log(tick / last)) >= least:
                kept.append(tick)
                last = tick
    return sorted(kept)


def _differences(rows: Sequence[Mapping[str, Any]]) -> _Scale:
    needed = max(row["tolerance"] for row in rows) * 1.6
    ends = [abs(row[name]) for row in rows for name in ("ci_low", "ci_high", "difference") if row[name] is not None]
    far = max(needed, min(max(ends, default=0.0) * 1.05, needed * 4)) or 1.0
    return _Scale(-far, far, 0.0, (-_nice(far), 0.0, _nice(far)), False, rows[0]["unit"])


def _nice(far: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that lies on the axis."""
    power = 10.0 ** math.floor(math.log10(far))
    return next(power * step for step in (5, 2, 1) if power * step <= far)


def _mark(number: int, row: Mapping[str, Any], scale: _Scale) -> dict[str, Any]:
    """A row's places on the axis, clamped to it, and everything that is written beside them."""
    worse = _worst(row, scale.log)
    shown: dict[str, Any] = {
        "row": number,
        "label": row["metric"],
        "mode": row["platform_mode"],
        "limit": scale.clamp(worse),
        "one": scale.middle,
        "end": scale.low if worse < scale.middle else scale.high,
        "word": f"{ICONS[row['verdict']]} {show_verdict(row)}" if row["applicable"] else "n/a",
        "numbers": show_estimate(row),
        "interval": show_interval(row),
        "colour": COLOURS.get(row["verdict"], MUTED),
        "shape": SHAPES.get(row["verdict"], "circle"),
        "fill": PAPER if row["advisory"] else COLOURS.get(row["verdict"], MUTED),
        "fade": 0.55 if row["advisory"] or not row["applicable"] else 1.0,
        "tip": tip_of(row),
        "drawn": bool(row["applicable"] and row["n"]),
        "off": 0,
    }
    if not shown["drawn"]:
        return shown if row["applicable"] else shown | {"numbers": "", "interval": ""}
    estimate = row["difference"] if row["absolute"] else row["ratio"]
    low, high = row["ci_low"], row["ci_high"]
    unbounded = low is None or high is None
    low = scale.low if low is None else low
    high = scale.high if high is None else high
    return shown | {
        "estimate": scale.clamp(estimate),
        "shape": _shape(estimate, scale, shown["shape"]),
        "low": scale.clamp(low),
        "high": scale.clamp(high),
        "open": unbounded,
        "left": unbounded or low < scale.low,
        "right": unbounded or high > scale.high,
        "off": int(not scale.low <= estimate <= scale.high),
    }


def _shape(estimate: float, scale: _Scale, inside: str) -> str:
    """An arrow for what lies beyond the axis."""
    return "triangle-left" if estimate < scale.low else "triangle-right" if estimate > scale.high else inside


def _worst(row: Mapping[str, Any], log: bool) -> float:
    """Where the tolerance ends, on the side that is worse."""
    tolerance = float(row["tolerance"])
    if log:
        return 1.0 / (1.0 + tolerance) if row["higher_is_better"] else 1.0 + tolerance
    return -tolerance if row["higher_is_better"] else tolerance


def tip_of(row: Mapping[str, Any]) -> str:
    """A row in full, for its tooltip."""
    kind = "difference" if row["absolute"] else "ratio"
    better = "higher" if row["higher_is_better"] else "lower"
    lines = [f"{row['metric']}, {row['platform_mode']}: {show_verdict(row)}"]
    if row["applicable"] and row["n"]:
        lines += [
            f"{kind} {show_estimate(row)}, 95 % {show_interval(row)}",
            f"median {_median(row, 'baseline')} → {_median(row, 'candidate')}",
            f"{row['n']} blocks; {better} is better; tolerance {show_tolerance(row)}",
        ]
    return TIP.join(lines)


def _median(row: Mapping[str, Any], side: str) -> str:
    return show_value(row[side]["median"], row["unit"])


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The plot in words."""
    said = [
        f"{row['metric']} in {row['platform_mode']} {show_estimate(row)}, interval {show_interval(row)}, "
        f"tolerance {show_tolerance(row)}, {show_verdict(row)}"
        for row in rows
        if row["applicable"]
    ]
    kind = "differences" if rows[0]["absolute"] else "ratios"
    return f"Forest plot of {len(said)} {kind} with 95 % intervals: {'; '.join(said)}."


def _draw_wide(marks: list[dict[str, Any]], scale: _Scale) -> str:
    import altair as alt

    data = rows_of(marks)
    width, step = 430, 30
    words = [
        alt.Chart(data).mark_text(aria=False, align="left", color=INK, fontSize=13, fontWeight=600, limit=110).encode(
            x=alt.value(-192), y=_row(), text="label:N"),
        alt.Chart(data).mark_text(aria=False, align="left", color=MUTED, fontSize=12, limit=74).encode(
            x=alt.value(-82), y=_row(), text="mode:N"),
        alt.Chart(data).mark_text(aria=False, align="right", color=INK, fontSize=13, fontWeight=600).encode(
            x=alt.value(width + 62), y=_row(), text="numbers:N"),
        alt.Chart(data).mark_text(aria=False, align="left", color=MUTED, fontSize=12, limit=130).encode(
            x=alt.value(width + 72), y=_row(), text="interval:N"),
        alt.Chart(data).mark_text(aria=False, align="left", fontSize=13, fontWeight=600).encode(
            x=alt.value(width + 206), y=_row(), text="word:N", color=alt.Color("colour:N", scale=None)),
    ]  # fmt: skip
    kind = "ratio" if scale.log else "difference"
    heads = (("metric", -192, "left"), ("mode", -82, "left"), (kind, width + 62, "right"),
             ("95 % interval", width + 72, "left"), ("verdict", width + 206, "left"))  # fmt: skip
    words += [
        alt.Chart(rows_of([{"head": head}])).mark_text(aria=False, align=align, color=MUTED, fontSize=11).encode(
            x=alt.value(x), y=alt.value(-10), text="head:N")
        for head, x, align in heads
    ]  # fmt: skip
    chart = alt.layer(*_body(marks, scale, 0), *words)
    return draw(chart, width, step * len(marks), (192, 22, 318, 26))


def _draw_narrow(marks: list[dict[str, Any]], scale: _Scale) -> str:
    import altair as alt

    named = [{**mark, "name": f"{mark['label']} · {mark['mode']}", "end_word": f"{mark['numbers']}  {mark['word']}"}
             for mark in marks]  # fmt: skip
    data = rows_of(named)
    words = [
        alt.Chart(data).mark_text(
            aria=False, align="left", color=INK, fontSize=13, fontWeight=600, dy=-14, limit=190).encode(
            x=alt.value(0), y=_row(), text="name:N"),
        alt.Chart(data).mark_text(aria=False, align="right", fontSize=13, fontWeight=600, dy=-14).encode(
            x=alt.value(316), y=_row(), text="end_word:N", color=alt.Color("colour:N", scale=None)),
    ]  # fmt: skip
    return draw(alt.layer(*_body(named, scale, 9), *words), 316, 52 * len(marks), (12, 4, 12, 26))


def _row(offset: int = 0) -> altair.Y:
    import altair as alt

    return alt.Y("row:O", axis=None, sort=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))


def _body(marks: list[dict[str, Any]], scale: _Scale, down: int) -> list[altair.Chart]:
    """Tolerance, what lies beyond it, the line of no change, intervals, estimates; `down` px below a row's middle."""
    import altair as alt

    drawn = [mark for mark in marks if mark["drawn"]]
    applicable = [mark for mark in marks if mark["numbers"]]
    kind = "log" if scale.log else "linear"
    domain = alt.Scale(type=kind, domain=[scale.low, scale.high], nice=False)
    words = "format(datum.value, '.2~f')" if scale.log else "datum.value ? format(datum.value, '+.2~g') : '0'"
    ruler = axis(values=list(scale.ticks), labelExpr=words, grid=False)
    bands, lines = rows_of(applicable), rows_of(drawn)
    colour = alt.Color("colour:N", scale=None)
    fade = alt.Opacity("fade:Q", scale=None)
    layers = [
        alt.Chart(bands).mark_bar(color="var(--beyond)", height=16, yOffset=down, aria=False).encode(
            x=alt.X("limit:Q", scale=domain, axis=ruler), x2="end:Q", y=_row()),
        alt.Chart(bands).mark_bar(color="var(--band)", height=16, yOffset=down, aria=False).encode(
            x=alt.X("one:Q", scale=domain), x2="limit:Q", y=_row()),
        alt.Chart(bands).mark_tick(color=MUTED, thickness=1.5, height=16, yOffset=down, aria=False).encode(
            x=alt.X("limit:Q", scale=domain), y=_row()),
        alt.Chart(rows_of([{"one": scale.middle}])).mark_rule(color=MUTED, strokeWidth=1, aria=False).encode(
            x=alt.X("one:Q", scale=domain)),
        alt.Chart(lines).mark_rule(strokeWidth=2.5, strokeCap="round", yOffset=down, aria=False).encode(
            x=alt.X("low:Q", scale=domain), x2="high:Q", y=_row(), color=colour, opacity=fade),
    ]  # fmt: skip
    for side, shape in (("left", "triangle-left"), ("right", "triangle-right")):
        ends = rows_of(
            [
                {**mark, "at": scale.low if side == "left" else scale.high}
                for mark in drawn
                if mark[side] and mark["shape"] != shape
            ]
        )
        layers.append(
            alt.Chart(ends).mark_point(shape=shape, filled=True, size=46, yOffset=down, aria=False).encode(
                x=alt.X("at:Q", scale=domain), y=_row(), color=colour, opacity=fade)
        )  # fmt: skip
    layers.append(
        alt.Chart(lines).mark_point(filled=True, size=92, yOffset=down, strokeWidth=1.5, opacity=1).encode(
            x=alt.X("estimate:Q", scale=domain), y=_row(), description="tip:N",
            shape=alt.Shape("shape:N", scale=None),
            fill=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("colour:N", scale=None))
    )  # fmt: skip
    return layers
