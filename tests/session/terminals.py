"""Running a campaign on a pseudo-terminal, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from running import DEADLINE_S, QUIET, campaign_arguments, environment

PART = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n])")
# What makes pytest think that nobody looks at the terminal.
# The pseudo-terminal becomes the one from which the process takes Ctrl-C, as a shell arranges it.
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
PIPELINES = ("CI", "BUILD_NUMBER", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS")


@dataclass
class Screen:
    """A terminal of so many rows and columns, with what has scrolled out of it. Knows what the live view may use."""

    rows: int
    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    top: int = 0

    def feed(self, text: str) -> None:
        for number, command, control, character in PART.findall(text):
            if command:
                self._obey(command, int(number) if number.isdigit() else 0)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self._down()
            elif character:
                self._put(character)

    def _obey(self, command: str, number: int) -> None:
        if command == "A":
            self.row = max(self.top, self.row - (number or 1))
        elif command == "C":
            self.column = min(self.columns - 1, self.column + (number or 1))
        elif command == "J":
            assert number == 0, "only what is below the cursor may be erased"
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        elif command == "K":
            self.lines[self.row] = "" if number == 2 else self.lines[self.row][: self.column]
        else:
            assert command == "m", f"an escape sequence that this test does not know: {command}"

    def _down(self) -> None:
        self.row += 1
        while len(self.lines) <= self.row:
            self.lines.append("")
        self.top = max(self.top, self.row - self.rows + 1)

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._down()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    @property
    def visible(self) -> list[str]:
        return [line.rstrip() for line in self.lines[self.top : self.top + self.rows]]

    @property
    def everything(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


@dataclass
class OnTerminal:
    """What came of it: the exit code, every byte, the screen in the end, and each state of it on the way."""

    code: int
    written: str
    screen: Screen
    frames: list[list[str]]

    @property
    def lines(self) -> list[str]:
        return self.screen.everything


def run_on_a_terminal(root, *arguments, campaign_id="c", rows=50, columns=110, env=None, campaign=True,
                      during: Callable[[Screen, Callable[[bytes], object]], None] | None = None) -> OnTerminal:
    """pytest in the workspace with a pseudo-terminal for its input and output.

    `during` is called as the screen changes; what it is given besides the screen types keys.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {name: value for name, value in environment(root).items() if name not in PIPELINES}
    given = campaign_arguments(arguments, campaign_id) if campaign else list(arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, "-m", "pytest", *QUIET, *given], cwd=root,
        env={**variables, "TERM": "xterm", **(env or {})}, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    screen, frames, written = Screen(rows, columns), [], b""
    deadline = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline:
            if not select.select([controller], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(controller, 1 << 16)
            except OSError:
                # Linux says EIO when the last writer has closed the terminal.
                break
            if not chunk:
                break
            # A character may lie across two chunks; pytest and we write whole ones, and the rest is joined below.
            screen.feed(chunk.decode(errors="replace"))
            written += chunk
            frames.append(screen.visible)
            if during:
                during(screen, lambda keys: os.write(controller, keys))
        return OnTerminal(process.wait(DEADLINE_S), written.decode(), screen, frames)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(controller)
