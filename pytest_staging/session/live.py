"""On a terminal: some lines below pytest's own output, drawn anew as the campaign goes on, and gone in the end.

The cursor always rests where pytest left it; what is drawn stands below. So nothing has to be known about what pytest
writes, only that it is about to: its terminal writer is asked to clear the lines first.
"""

from __future__ import annotations

import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest

REDRAW_S = 0.2
ERASE_BELOW = "\x1b[J"
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHARE = 0.005
"""Of a CPU, that drawing may take."""
LONGEST_PAUSE_S = 2.0
Lines = Callable[[int, int], list[str]]
"""Gives what to show in so many columns and at most so many lines; none of them is wider."""


def can_draw(config: pytest.Config, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be drawn and taken away again: on a terminal that knows how, with nobody else writing to it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.get_verbosity() < 0:
        return False
    # A pipeline may give a job a terminal, which nobody looks at; pytest tells one by the same variables.
    in_pipeline = any(environment.get(name) for name in ("CI", "BUILD_NUMBER"))
    moves = environment.get("TERM", "dumb") != "dumb"
    return moves and not in_pipeline and config.option.capture in ("fd", "sys")


def encoding_of(terminal: Any) -> str:
    """In which pytest writes to its terminal."""
    return getattr(terminal._file, "encoding", None) or "utf-8"


class LiveView:
    """Draws from a thread of its own until it is closed."""

    def __init__(self, terminal: Any, lines: Lines) -> None:
        self._terminal = terminal
        self._lines = lines
        # A descriptor of our own: while a test runs, pytest's capture points the stream's to a file.
        self._screen = os.dup(terminal._file.fileno())
        self._encoding = encoding_of(terminal)
        self._column = terminal.width_of_current_line
        self._shown: tuple[Any, ...] | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._write = terminal.write
        terminal.write = self._write_above
        self._thread = threading.Thread(target=self._loop, name="live view", daemon=True)
        self._thread.start()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Nothing of it is on the screen while somebody else writes."""
        with self._lock:
            self._erase()
            yield

    def close(self) -> None:
        """Leaves the screen as pytest knows it."""
        self._stopped.set()
        self._thread.join(2)
        with self._lock:
            self._erase()
            del self._terminal.write
            if not self._thread.is_alive():
                os.close(self._screen)

    def _write_above(self, text: str, *, flush: bool = False, **markup: bool) -> None:
        with self._lock:
            self._erase()
            # What stays in a buffer would come out in the middle of our lines.
            self._write(text, flush=True, **markup)
            self._column = _column_after(text, self._column)

    def _loop(self) -> None:
        pause = REDRAW_S
        while not self._stopped.wait(pause):
            began = time.thread_time()
            with self._lock, suppress(OSError):
                self._draw()
            # What is measured here must not feel that somebody looks: a slow machine is drawn on less often.
            pause = min(LONGEST_PAUSE_S, max(REDRAW_S, (time.thread_time() - began) / SHARE))

    def _draw(self) -> None:
        columns, rows = os.get_terminal_size(self._screen)
        column = self._column % columns if columns else 0
        if columns < 2 or (self._column and not column):
            return  # The cursor waits behind the last column, a place to which nothing leads back.
        # Half of the screen at most is ours, and never all of it: the line with the cursor would scroll away.
        lines = self._lines(columns - 1, max(1, rows // 2))[: rows - bool(column)]
        if not lines or self._shown == (columns, rows, lines):
            return
        up = len(lines) - (not column)
        text = ERASE_BELOW + ("\r\n" if column else "") + "\r\n".join(lines)
        text += (f"\x1b[{up}A" if up else "") + "\r" + (f"\x1b[{column}C" if column else "")
        self._shown = (columns, rows, lines)
        os.write(self._screen, text.encode(self._encoding, "replace"))

    def _erase(self) -> None:
        if self._shown:
            self._shown = None
            with suppress(OSError):
                os.write(self._screen, ERASE_BELOW.encode())


def _column_after(text: str, before: int) -> int:
    """Where the cursor is after `text`, as if lines had no end."""
    *earlier, line = re.split(r"[\r\n]", _SEQUENCE.sub("", text))
    moved = sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in line)
    return moved if earlier else before + moved
