"""Two campaigns side by side as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_staging.reports.cases import subject
from pytest_staging.reports.markdown import NOTHING, show_estimate, show_interval, show_value, show_verdict
from pytest_staging.reports.terminal import table_or_list, wrap
from pytest_staging.wording import number_of

AGREE = {True: "overlap", False: "apart", None: NOTHING}


def render_beside(data: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """Lines for `put_beside`'s data: both verdicts, what each says of the candidates, versions that are in both.

    With the `width` of a terminal no line is longer: a table that is becomes a list. None: a pipe or a file.
    """
    first, second = data["campaigns"]
    for name, one in (("A", first), ("B", second)):
        against = f"{', '.join(one['candidate_slugs'])} against {one['baseline_slug']}"
        verdict, runs = one["verdict"].upper(), f"{number_of(one['runs'], 'run')}, {one['created_at']}"
        yield from wrap(f"{name} {one['campaign_id']}: {verdict}, {against}, {runs}", width)
    for note in data["notes"]:
        yield from wrap(f"Note: {note}.", width)
    yield ""
    table = _table(
        ["candidate", "mode", "metric", "A", "95 %", "verdict", "B", "95 %", "verdict", "intervals"],
        [
            [row["candidate_slug"], row["platform_mode"], row["metric"], *_side(row["first"]), *_side(row["second"]),
             AGREE[row["agree"]]]
            for row in data["rows"]
        ],
        (3, 4, 6, 7),
    )  # fmt: skip
    yield from table_or_list(table, _listed_rows(data["rows"], width), width)
    if data["levels"]:
        yield from ("", *wrap("Medians of versions that are the same in both:", width), "")
        table = _table(
            ["version", "mode", "metric", "A", "B", "B / A"],
            [
                [row["version_slug"], row["platform_mode"], row["metric"], show_value(row["first"], row["unit"]),
                 show_value(row["second"], row["unit"]), NOTHING if row["ratio"] is None else f"{row['ratio']:.3f}"]
                for row in data["levels"]
            ],
            (3, 4, 5),
        )  # fmt: skip
        yield from table_or_list(table, _listed_levels(data["levels"], width), width)


def _listed_rows(rows: Sequence[Mapping[str, Any]], width: int | None) -> Iterator[str]:
    for row in rows:
        agree = "" if row["agree"] is None else f": intervals {AGREE[row['agree']]}"
        yield from wrap(f"{subject(row)}{agree}", width)
        for name, side in (("A", row["first"]), ("B", row["second"])):
            estimate, interval, verdict = _side(side)
            yield from wrap(f"{name} {estimate} ({interval}): {verdict}" if side else f"{name} {NOTHING}", width, "  ")


def _listed_levels(levels: Sequence[Mapping[str, Any]], width: int | None) -> Iterator[str]:
    for row in levels:
        ratio = NOTHING if row["ratio"] is None else f"{row['ratio']:.3f}"
        yield from wrap(f"{row['version_slug']} {row['platform_mode']} {row['metric']}", width)
        first, second = (show_value(row[side], row["unit"]) for side in ("first", "second"))
        yield from wrap(f"A {first}, B {second}, B / A {ratio}", width, "  ")


def _side(row: Mapping[str, Any] | None) -> list[str]:
    return [NOTHING] * 3 if row is None else [show_estimate(row), show_interval(row), show_verdict(row)]


def _table(heads: list[str], rows: list[list[str]], right: tuple[int, ...]) -> str:
    from tabulate import tabulate

    sides = ["right" if place in right else "left" for place in range(len(heads))]
    return str(tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=sides))
