"""The lines of the live view: `rich` measures, crops and colours them, for a terminal of any size."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_staging.session.progress import Busy, Progress, Ratios
from pytest_staging.wording import number_of

if TYPE_CHECKING:
    from rich.style import Style
    from rich.text import Text

NO_VERDICT = "so far, no verdict: median of candidate/baseline"
GAP = "  "
LEAST_BAR = 6
"""Columns. A shorter bar shows nothing."""
LEAST_NAME = 8
LEAST_CELL = 12
MORE = " …"
_PHASE_STYLES = {"lease": "dim", "warm_up": "yellow", "load": "green"}
_OTHER_PHASE = "cyan"


class Board:
    """Renders progress into lines that are never wider than they may be; kept while nothing changes.

    `encoding` is that of the terminal, which may not have the characters of a smooth bar.
    """

    def __init__(self, encoding: str, colours: bool) -> None:
        # Here, and not above: only a terminal that somebody looks at pays for it, and before the first cell runs.
        from rich.console import Console

        self._console = Console(
            file=io.TextIOWrapper(io.BytesIO(), encoding=encoding),
            force_terminal=True,
            force_jupyter=False,
            legacy_windows=False,
            color_system="standard" if colours else None,
            no_color=not colours,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._smooth = not self._console.options.ascii_only
        self._kept: tuple[tuple[int, int, Progress], list[str]] | None = None
        # The first time costs most, for what rich imports and computes then.
        self.render(80, 1, Progress(0, 1, 0, 1, "", (), ()))

    def render(self, columns: int, rows: int, progress: Progress) -> list[str]:
        """At most `rows` lines: how far it is, what runs on each host, and, where there is room, what it looks like."""
        asked = (columns, rows, progress)
        if self._kept is None or self._kept[0] != asked:
            self._kept = (asked, self._print(self._compose(*asked), columns))
        return self._kept[1]

    def _compose(self, columns: int, rows: int, progress: Progress) -> list[Text]:
        texts = [self._head(progress, columns)]
        busy = _busy(progress.busy, columns)
        if len(busy) > rows - 1 > 1:
            more = len(busy) - rows + 2
            busy = [*busy[: rows - 2], _text((f"and {more} more", "dim"))]
        texts += busy
        if progress.ratios and len(texts) + 1 < rows:
            texts += [_text((NO_VERDICT, "dim")), *_ratios(progress.ratios, columns)]
        return texts[:rows]

    def _print(self, texts: list[Text], columns: int) -> list[str]:
        self._console.size = (columns, len(texts))
        with self._console.capture() as capture:
            self._console.print(*texts, sep="\n", no_wrap=True, overflow="ellipsis")
        lines = capture.get().splitlines()
        return lines if self._smooth else [line.replace("…", "~") for line in lines]

    def _head(self, progress: Progress, columns: int) -> Text:
        """Counts come first and time left second; the share, and a bar, where there is room for them."""
        head = _text((progress.counts, "bold"))
        share = f"{100 * progress.done // max(1, progress.cells)} %"
        for ends in ([share, progress.left], [progress.left]):
            end = "".join(GAP + one for one in ends if one)
            room = columns - head.cell_len - len(end)
            if room >= len(GAP) + LEAST_BAR:
                head.append(GAP).append_text(self._bar(progress, room - len(GAP)))
            if room >= 0:
                return head.append(end)
        return head

    def _bar(self, progress: Progress, width: int) -> Text:
        from rich.progress_bar import ProgressBar

        bar = ProgressBar(
            total=max(1, progress.cells),
            completed=progress.done,
            width=width,
            style="bright_black",
            complete_style="green",
            finished_style="green",
        )
        drawn = _text(*((one.text, one.style or "") for one in self._console.render(bar)))
        drawn.truncate(width, pad=True)
        return drawn


def _busy(busy: tuple[Busy, ...], columns: int) -> list[Text]:
    """A row for each host slot or worker; its cell is last and may be cut, blocks are left out before that."""
    names = [_text((_plain(one.name), "bold")) for one in busy]
    times = [f"{one.seconds} s" for one in busy]
    blocks = [_counted(one.blocks, "block") for one in busy]
    cells = [_text(_plain(one.cell_id)) for one in busy]
    phases = _widest(one.phase for one in busy)
    fixed = len(GAP) + phases + 1 + _widest(times) + len(GAP)
    longest = max((one.cell_len for one in names), default=0)
    wanted = max((one.cell_len for one in cells), default=0)
    extra = _widest(blocks) + len(GAP) if any(blocks) else 0
    width = _name_width(longest, columns, fixed + len(GAP) + extra + wanted)
    if columns - fixed - len(GAP) - width - extra < min(wanted, LEAST_CELL):
        extra = 0
    rows = []
    for name, time, done, cell, one in zip(names, times, blocks, cells, busy, strict=True):
        name.truncate(width, overflow="ellipsis", pad=True)
        row = _text(GAP, name, GAP if width else "")
        row.append(_plain(one.phase).ljust(phases), _PHASE_STYLES.get(one.phase, _OTHER_PHASE))
        row.append(f" {time:>{_widest(times)}}{GAP}")
        row.append(done.ljust(extra) if extra else "", "dim")
        rows.append(row.append_text(cell))
    return rows


def _ratios(ratios: tuple[Ratios, ...], columns: int) -> list[Text]:
    """One row per candidate and mode, one column per metric; a metric that does not fit is left out, not cut."""
    names = [_text(_plain(one.slug)) for one in ratios]
    pairs = [_counted(one.pairs, "pair") for one in ratios]
    modes = _widest(one.mode for one in ratios)
    metrics = list(dict.fromkeys(metric for one in ratios for metric, _ in one.medians))
    spaces = {metric: _widest(dict(one.medians).get(metric, "-") for one in ratios) for metric in metrics}
    fixed = len(GAP) + 1 + modes + len(GAP) + _widest(pairs)
    all_metrics = sum(len(GAP) + len(metric) + 1 + space for metric, space in spaces.items())
    width = _name_width(max(one.cell_len for one in names), columns, fixed + all_metrics)
    shown = _fitting(spaces, columns - fixed - width)
    rows = []
    for name, count, one in zip(names, pairs, ratios, strict=True):
        name.truncate(width, overflow="ellipsis", pad=True)
        row = _text(GAP, name, f" {one.mode:<{modes}}{GAP}", (f"{count:>{_widest(pairs)}}", "dim"))
        medians = dict(one.medians)
        for metric in shown:
            row.append(f"{GAP}{_plain(metric)} ", "dim").append(f"{medians.get(metric, '-'):>{spaces[metric]}}", "bold")
        rows.append(row.append(MORE if len(shown) < len(metrics) else "", "dim"))
    return rows


def _fitting(spaces: Mapping[str, int], room: int) -> list[str]:
    """The first metrics that fit into `room` columns, and the sign for more where there are more."""
    shown: list[str] = []
    for number, (metric, space) in enumerate(spaces.items(), 1):
        room -= len(GAP) + len(metric) + 1 + space
        if room < (len(MORE) if number < len(spaces) else 0):
            break
        shown.append(metric)
    return shown


def _name_width(longest: int, columns: int, rest: int) -> int:
    """What a name may take beside `rest` columns that would be welcome: a fifth of the line in any case."""
    return min(longest, max(LEAST_NAME, columns // 5, columns - rest))


def _counted(number: int | None, noun: str) -> str:
    return "" if number is None else number_of(number, noun)


def _widest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _text(*parts: str | Text | tuple[str, str | Style]) -> Text:
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _plain(text: str) -> str:
    """Names come from files, and a terminal would obey an escape sequence in one."""
    return "".join(one if one.isprintable() else "?" for one in text)
