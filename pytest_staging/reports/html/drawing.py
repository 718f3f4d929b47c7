"""One look for every plot, and a chart as a small SVG that lives inside the page and takes its colours from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair

FONT = "system-ui, sans-serif"
INK, MUTED, LINE, PAPER = "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)"
TIP = " | "
"""Between the lines of a tooltip: an attribute keeps no line breaks."""

# What vega writes for programs that animate or read the drawing; the page has a text and a table for each plot instead.
_NOISE = (
    re.compile(r'<path class="(?:background|foreground)"[^>]*/>'),
    re.compile(r' (?:aria-roledescription|aria-hidden|role|pointer-events|stroke-miterlimit|xmlns:xlink)="[^"]*"'),
    re.compile(r' class="mark-[^"]*"'),
    re.compile(r' opacity="1"'),
    re.compile(r'<rect[^>]* fill="transparent"/>'),
)
_EMPTY_GROUP = re.compile(r"<g(?: transform=\"translate\(0,0\)\")?></g>")
_LONG_NUMBER = re.compile(r"(\d+\.\d{2})\d+")
_DRAWN = re.compile(r' (?:d|transform|x2?|y2?|width|height)="[^"]*"')
_ROOT = re.compile(r'<svg[^>]*width="([\d.]+)" height="([\d.]+)"[^>]*>')


def rows_of(values: list[dict[str, Any]]) -> altair.Data:
    """Data for a chart, in the chart itself."""
    import altair

    return altair.Data(values=values)


def axis(**more: Any) -> altair.Axis:
    """An axis in the page's quiet colours, unnamed to screen readers: the plot's text says what it shows."""
    import altair

    look = {
        "aria": False,
        "domain": False,
        "gridColor": LINE,
        "labelColor": MUTED,
        "labelFontSize": 11,
        "labelPadding": 6,
        "ticks": False,
        "title": None,
    }
    return altair.Axis(**{**look, **more})


def draw(chart: altair.LayerChart, width: int, height: int, padding: tuple[int, int, int, int]) -> str:
    """The chart as SVG of a fixed size in px; `padding` is left, top, right, bottom.

    Nothing is laid out by the width of text, so that other fonts on another machine give the same drawing.
    """
    import altair
    import vl_convert

    left, top, right, bottom = padding
    sized = chart.properties(
        width=width, height=height, padding={"left": left, "top": top, "right": right, "bottom": bottom}
    )
    styled = sized.configure(
        background="transparent", font=FONT, autosize=altair.AutoSizeParams(type="none")
    ).configure_view(stroke=None)  # fmt: skip
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    svg: str = vl_convert.vegalite_to_svg(styled.to_dict(), vl_version=version)
    return embed(svg)


def embed(svg: str) -> str:
    """The drawing for use inside a page: marks with a text carry it as `data-tip`, and there are no ids to clash."""
    for pattern in _NOISE:
        svg = pattern.sub("", svg)
    svg = _DRAWN.sub(lambda found: _LONG_NUMBER.sub(r"\1", found[0]), svg)
    svg = svg.replace(' aria-label="', ' data-tip="')
    while (fewer := _EMPTY_GROUP.sub("", svg)) != svg:
        svg = fewer
    return _ROOT.sub(r'<svg class="drawing" viewBox="0 0 \1 \2" width="\1" height="\2" aria-hidden="true">', svg, 1)
