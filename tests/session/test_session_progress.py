"""Progress: one live line on a terminal, plain lines elsewhere, and no trouble with other ways to show output."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pytest
from running import (
    DEADLINE_S,
    QUIET,
    campaign_arguments,
    environment,
    make_small,
    read_aggregate,
    read_summaries,
    run_campaign,
)

LIVE = re.compile(r"(\d)/2  (run001-native-\w+)  (lease|build|start|warm_up|load|drain|stop) \d+ s")
COLUMNS = 110


def run_on_a_terminal(root, *arguments, campaign_id="c"):
    """The campaign with a pseudo-terminal as its output; everything that was written to it, and the exit code."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    env = {**environment(root), "TERM": "xterm", "NO_COLOR": "1"}
    del env["COLUMNS"]
    command = [sys.executable, "-m", "pytest", *QUIET, *campaign_arguments(arguments, campaign_id)]
    process = subprocess.Popen(command, cwd=root, env=env, stdin=terminal, stdout=terminal, stderr=terminal,
                               start_new_session=True)
    os.close(terminal)
    written, deadline = b"", time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline:
            try:
                chunk = os.read(controller, 1 << 16)
            except OSError:
                # Linux says EIO when the last writer has closed the terminal.
                break
            if not chunk:
                break
            written += chunk
        return written.decode(), process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def screen_of(written: str) -> list[str]:
    """What a terminal shows in the end: carriage returns, erased lines and line feeds applied."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            lines.append("")
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif not part.startswith("\x1b"):
            lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + len(part):]
            column += len(part)
    return lines


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """What a campaign wrote on a terminal."""
    root = make_small(tmp_path_factory.mktemp("live") / "w", duration_s=0.6)
    return run_on_a_terminal(root)


def test_a_live_line_says_which_cell_is_in_which_phase(live):
    """PT-01: with a terminal one live line says which cell runs, in which phase, and how many are done."""
    written, code = live
    assert code == 0, written
    seen = LIVE.findall(written)
    assert {cell for _, cell, _ in seen} == {"run001-native-baseline", "run001-native-faster"}
    assert {"warm_up", "load"} <= {phase for _, _, phase in seen}
    assert {done for done, _, _ in seen} == {"0", "1"}
    assert re.search(r"1/2  run001-native-\w+  \w+ \d+ s  ~\d+ s left", written), "no estimate"


def test_the_live_line_is_gone_in_the_end(live):
    """PT-01: nothing of the live line stays on the screen, and it never spoils a line of the report."""
    written, _ = live
    screen = screen_of(written)
    assert [line for line in screen if LIVE.search(line)] == []
    results = [line for line in screen if "  passed  " in line]
    assert [line.split()[0] for line in results] == ["1/2", "2/2"]
    assert all(line.startswith("  ") for line in results)
    assert any(line.startswith("| native | p95") for line in screen)


def test_the_live_line_never_wraps(live):
    """PT-01: the live line is cut to the terminal's width: a wrapped one could not be erased."""
    written, _ = live
    drawn = re.findall(r"\r\x1b\[2K([^\r\n\x1b]+)", written)
    assert any(LIVE.search(one) for one in drawn)
    assert all(len(one) < COLUMNS for one in drawn if LIVE.search(one))


@pytest.mark.parametrize("arguments", [["-s"], ["-q"]], ids=["s", "q"])
def test_there_is_no_live_line_where_it_would_mix_with_other_output(tmp_path, arguments):
    """PT-01: with -s the tests write to the terminal themselves, and -q asks for less: no live line."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    written, code = run_on_a_terminal(root, "-k", "baseline", *arguments)
    assert code == 0, written
    assert not LIVE.search(written)
    assert "Traceback" not in written


def test_without_a_terminal_there_are_plain_lines_only(serial):
    """PT-01: in a pipeline's log there is a plain line per cell: no control character, no live line."""
    assert "\x1b" not in serial.result.stdout
    assert "\r" not in serial.result.stdout
    assert "warm_up" not in serial.result.stdout
    assert len([line for line in serial.result.stdout.splitlines() if "  passed  " in line]) == 8


@pytest.mark.parametrize(
    "arguments",
    [["-p", "no:terminal"], ["-p", "no:junitxml"], ["-p", "no:cacheprovider"], ["-p", "no:xdist"],
     ["-s", "--no-header", "--no-summary"]],
    ids=lambda arguments: arguments[-1].strip("-").replace(":", "-"),
)
def test_a_campaign_needs_no_other_plugin_of_pytest(tmp_path, arguments):
    """PT-01: without terminal, header, capture, junitxml, cache or xdist nothing crashes and the files are there."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    result = run_campaign(root, "-k", "baseline", *arguments)
    assert result.returncode == 0, result.stdout
    assert "Traceback" not in result.stdout
    assert "INTERNALERROR" not in result.stdout
    assert list(read_summaries(root)) == ["run001-native-baseline"]
    assert read_aggregate(root)["cells_passed"] == 1
