"""How far the campaign is: phases go from wherever a cell runs to the controller through one small file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pytest_staging.model.campaign import CellSummary

PHASE_FILE = ".phase"
REDRAW_S = 0.2
CLEAR = "\r\x1b[2K"


def write_phase(folder: Path, cell_id: str, phase: str) -> None:
    """One line, replaced at every phase. Progress is a courtesy: it never stops a campaign."""
    with suppress(OSError):
        (folder / PHASE_FILE).write_text(f"{cell_id} {phase} {time.time():.3f}\n")


def read_phase(folder: Path) -> tuple[str, str, float] | None:
    """(cell id, phase, since when in epoch seconds), or None."""
    with suppress(OSError, ValueError):
        cell_id, phase, since = (folder / PHASE_FILE).read_text().split()
        return cell_id, phase, float(since)
    return None


class Estimate:
    """Time left, from the mean duration of the cells that this session finished."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = time.monotonic()

    def count(self) -> None:
        self.done += 1

    def left(self) -> str:
        """In words; empty before the first cell is done."""
        if not self.done or self.done >= self.total:
            return ""
        seconds = (time.monotonic() - self._started) / self.done * (self.total - self.done)
        return f"~{seconds:.0f} s left" if seconds < 90 else f"~{seconds / 60:.0f} min left"


def render_cell(summary: CellSummary, estimate: Estimate) -> str:
    """One line for a finished cell."""
    width = len(str(estimate.total))
    seconds = sum(summary.phases.values())
    p95 = summary.metrics.get("p95")
    facts = [f"p95 {p95:.4g} ms"] if p95 is not None else []
    if summary.load_tool.get("steady") is False:
        facts.append(f"not steady after {summary.load_tool['warm_up_s']:g} s")
    facts += [estimate.left()] if estimate.left() else []
    reason = f": {summary.reason.splitlines()[0]}" if summary.reason else ""
    return (
        f"  {estimate.done:>{width}}/{estimate.total}  {summary.cell.cell_id}  {summary.outcome}{reason}"
        f"  {seconds:.1f} s" + "".join(f", {fact}" for fact in facts)
    )


class LiveLine:
    """On a terminal: one line that says which cell runs, in which phase, and how long it will still take."""

    def __init__(self, folder: Path, estimate: Estimate, stream: TextIO) -> None:
        self._folder = folder
        self._estimate = estimate
        # A descriptor of our own: while a test runs, pytest's capture points the stream's to a file.
        self._terminal = os.dup(stream.fileno())
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._shown = False
        self._thread = threading.Thread(target=self._loop, name="live line", daemon=True)
        self._thread.start()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Nothing of the line is on the screen while somebody else writes."""
        with self._lock:
            self._clear()
            yield

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(2)
        with self._lock:
            self._clear()
            if not self._thread.is_alive():
                os.close(self._terminal)

    def _loop(self) -> None:
        while not self._stopped.wait(REDRAW_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        phase = read_phase(self._folder)
        if phase is None:
            return
        cell_id, name, since = phase
        left = self._estimate.left()
        text = f"{self._estimate.done}/{self._estimate.total}  {cell_id}  {name} {time.time() - since:.0f} s"
        text = f"{text}  {left}" if left else text
        with suppress(OSError):
            columns = os.get_terminal_size(self._terminal).columns
            os.write(self._terminal, f"{CLEAR}{text[: columns - 1]}".encode())
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            with suppress(OSError):
                os.write(self._terminal, CLEAR.encode())
            self._shown = False
