"""Two campaigns side by side as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_staging.reports.markdown import NOTHING, show_estimate, show_interval, show_value, show_verdict
from pytest_staging.wording import number_of

AGREE = {True: "overlap", False: "apart", None: NOTHING}


def render_beside(data: Mapping[str, Any]) -> Iterator[str]:
    """Lines for `put_beside`'s data: both verdicts, what each says of the candidates, versions that are in both."""
    first, second = data["campaigns"]
    for name, one in (("A", first), ("B", second)):
        against = f"{', '.join(one['candidate_slugs'])} against {one['baseline_slug']}"
        verdict, runs = one["verdict"].upper(), f"{number_of(one['runs'], 'run')}, {one['created_at']}"
        yield f"{name} {one['campaign_id']}: {verdict}, {against}, {runs}"
    yield from (f"Note: {note}." for note in data["notes"])
    yield ""
    yield _table(
        ["candidate", "mode", "metric", "A", "95 %", "verdict", "B", "95 %", "verdict", "intervals"],
        [
            [row["candidate_slug"], row["platform_mode"], row["metric"], *_side(row["first"]), *_side(row["second"]),
             AGREE[row["agree"]]]
            for row in data["rows"]
        ],
        (3, 4, 6, 7),
    )  # fmt: skip
    if data["levels"]:
        yield from ("", "Medians of versions that are the same in both:", "")
        yield _table(
            ["version", "mode", "metric", "A", "B", "B / A"],
            [
                [row["version_slug"], row["platform_mode"], row["metric"], show_value(row["first"], row["unit"]),
                 show_value(row["second"], row["unit"]), NOTHING if row["ratio"] is None else f"{row['ratio']:.3f}"]
                for row in data["levels"]
            ],
            (3, 4, 5),
        )  # fmt: skip


def _side(row: Mapping[str, Any] | None) -> list[str]:
    return [NOTHING] * 3 if row is None else [show_estimate(row), show_interval(row), show_verdict(row)]


def _table(heads: list[str], rows: list[list[str]], right: tuple[int, ...]) -> str:
    from tabulate import tabulate

    sides = ["right" if place in right else "left" for place in range(len(heads))]
    return str(tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=sides))
