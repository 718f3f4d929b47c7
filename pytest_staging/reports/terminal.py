"""The comparison and its words within a terminal's width; nothing is cut off, it is told in more lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_staging.reports.cases import subject
from pytest_staging.reports.markdown import (
    render_table,
    show_estimate,
    show_interval,
    show_tolerance,
    show_value,
    show_verdict,
)

Paint = Callable[..., str]
"""As a terminal does it: (text, green=True) gives the text in that colour, or as it is where there is none."""
COLOURS = {"pass": "green", "regression": "red", "inconclusive": "yellow"}
_HEADLINE = re.compile(r"(?<=^Verdict: )(?:PASS|REGRESSION|INCONCLUSIVE)\b")
_IN_TABLE = re.compile(r"\(?\b(?:pass|regression|inconclusive)\b\)?(?= *\|$)")
_IN_LIST = re.compile(r"(?<=: )\(?(?:pass|regression|inconclusive)\)?$")
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")


def render_fitted(aggregate: Mapping[str, Any], width: int | None) -> list[str]:
    """The table in at most `width` columns: whole, without limits, one per candidate, or as a list. None: whole."""
    whole = render_table(aggregate).splitlines()
    if width is None or _fits(whole, width):
        return whole
    narrow = render_table(aggregate, width).splitlines()
    if _fits(narrow, width):
        return narrow
    apart = [*_by_candidate(aggregate, width)]
    return apart if _fits(apart, width) else [line for row in aggregate["rows"] for line in _listed(row, width)]


def table_or_list(table: str, listed: Iterator[str], width: int | None) -> list[str]:
    """The table where it has room, and else the list. None: the table."""
    lines = table.splitlines()
    return lines if width is None or _fits(lines, width) else [*listed]


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """One paragraph in lines of at most `width`; a word that is longer is broken."""
    flat = " ".join(text.split())
    if width is None:
        return [f"{indent}{flat}"]
    return textwrap.wrap(
        flat, width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    ) or [""]


def wrap_command(prefix: str, command: str, width: int | None) -> list[str]:
    """A command that can be copied as it stands: lines end as the shell wants it, also within a word that is long."""
    if width is None or len(prefix) + len(command) <= width:
        return [f"{prefix}{command}"]
    lines = [prefix]
    for number, word in enumerate(_WORD.findall(command)):
        between = " " if number else ""
        if len(lines[-1]) + len(between) + len(word) > width - 2 and lines[-1].strip():
            lines[-1] += " \\" if number else ""
            lines.append("  ")
            between = ""
        pieces = _broken(word, width - len(lines[-1]) - len(between) - 2, width - 2)
        lines[-1] += f"{between}{pieces[0]}"
        lines += pieces[1:]
    return lines


def paint(line: str, colour: Paint) -> str:
    """The verdicts of one line in their colours."""

    def coloured(found: re.Match[str]) -> str:
        return colour(found[0], bold=True, **{COLOURS[found[0].strip("()").lower()]: True})

    for pattern in (_HEADLINE, _IN_TABLE, _IN_LIST):
        line = pattern.sub(coloured, line)
    return line


def _fits(lines: list[str], width: int) -> bool:
    return all(len(line) <= width for line in lines)


def _by_candidate(aggregate: Mapping[str, Any], width: int) -> Iterator[str]:
    for number, slug in enumerate(aggregate["candidate_slugs"]):
        yield from ("",) * bool(number)
        rows = [row for row in aggregate["rows"] if row["candidate_slug"] == slug]
        yield from wrap(f"{slug}:", width)
        yield from render_table({**aggregate, "candidate_slugs": [slug], "rows": rows}, width).splitlines()


def _listed(row: Mapping[str, Any], width: int) -> Iterator[str]:
    baseline, candidate = (show_value(row[side]["median"], row["unit"]) for side in ("baseline", "candidate"))
    change = "difference" if row["absolute"] else "ratio"
    yield from wrap(f"{subject(row)}: {show_verdict(row)}", width)
    yield from wrap(
        f"{baseline} to {candidate}, {change} {show_estimate(row)} ({show_interval(row)}), "
        f"tolerance {show_tolerance(row)}",
        width,
        "  ",
    )


def _broken(word: str, first: int, width: int) -> list[str]:
    """A long word in pieces that the shell joins again; one in quotes stays whole."""
    if len(word) <= first or "'" in word or '"' in word:
        return [word]
    starts = [0, *range(first, len(word), width)]
    ends = [*starts[1:], len(word)]
    pieces = [word[start:end] for start, end in zip(starts, ends, strict=True)]
    return [*(f"{piece}\\" for piece in pieces[:-1]), pieces[-1]]
