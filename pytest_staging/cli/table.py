"""Tables that a terminal shows without breaking their lines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

NARROWEST = 16
GAP = 2  # between the columns of a plain table


def print_table(rows: Sequence[Sequence[str]], columns: Sequence[str], wrapped: str | None = None) -> None:
    """Whole, and as markdown, where no terminal is; else within its width.

    The column `wrapped` takes several lines there if need be; what is too wide even so is told row by row, the last
    column on a line of its own.
    """
    from tabulate import tabulate

    from pytest_staging.reports.terminal import wrap

    if not sys.stdout.isatty():
        print(tabulate(rows, columns, tablefmt="github", disable_numparse=True))
        return
    width = shutil.get_terminal_size().columns
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    if excess > 0 and wrapped:
        place = columns.index(wrapped)
        kept = max(widths[place] - excess, NARROWEST)
        excess -= widths[place] - kept
        widths[place] = kept
    if excess <= 0:
        # As rows, for tabulate makes columns two letters wider than their heads.
        lines = [columns, ["-" * one for one in widths], *rows]
        print(tabulate(lines, tablefmt="plain", disable_numparse=True, maxcolwidths=widths))
        return
    for *cells, last in rows:
        print("\n".join([*wrap(" ".join(cells), width), *wrap(last, width, "  ")]))
