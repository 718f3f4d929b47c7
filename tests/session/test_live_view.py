"""The live view by itself: where it may draw, what it costs, and that it can be taken away from any place."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from _pytest._io import TerminalWriter
from rich.cells import cell_len
from terminals import Screen
from workspaces import wait_for

sys.path.append(str(Path(__file__).parents[1] / "campaign"))
from cells import make_benchmark, make_campaign, make_summary

from pytest_staging.session.board import Board
from pytest_staging.session.live import LiveView, can_draw
from pytest_staging.session.progress import (
    Busy,
    Estimate,
    Phase,
    Progress,
    Ratios,
    Standing,
    build_progress,
    read_phases,
    remove_phases,
    write_phase,
)

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONG = "a-rather-long-slug-of-a-version"
BENCHMARK = make_benchmark({"p50": "lower", "p95": "lower", "throughput": "higher"})


@pytest.fixture
def terminal():
    """A terminal writer on a pseudo-terminal of 10 rows and 30 columns, and a function that reads its screen."""
    controller, line = pty.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
    os.set_blocking(controller, False)
    screen = Screen(10, 30)

    def look():
        try:
            while chunk := os.read(controller, 1 << 16):
                screen.feed(chunk.decode())
        except BlockingIOError:
            pass
        return screen

    with os.fdopen(line, "w") as stream:
        yield TerminalWriter(stream), look
    os.close(controller)


@pytest.fixture
def still(monkeypatch):
    """No thread draws by itself: the tests below do, between two writes of their choice."""
    monkeypatch.setattr(LiveView, "_loop", lambda self: None)


@pytest.fixture
def crowded():
    """Two hosts and a candidate with long names, and more metrics than fit into a narrow terminal."""
    medians = (("p50", "3.706"), ("p95", "1.000"), ("throughput", "3.875"), ("heap_peak", "1.000"))
    return Progress(
        done=15, cells=24, blocks_done=5, blocks=8, left="~3 min left",
        busy=(
            Busy("build-host-with-a-long-name.example.org#2", "warm_up", 13, 5, f"run001-native-{LONG}"),
            Busy("日本語ホスト名の長い名前", "lease", 83, 0, "run002-jvm-fast"),
        ),
        ratios=(Ratios(LONG, "jvm", 3, medians), Ratios(LONG, "native", 2, (("p50", "3.631"), *medians[1:]))),
    )  # fmt: skip


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("lines", [["one"], ["one", "two", "three"]], ids=["one", "three"])
def test_what_is_written_stays_as_it_was_written(terminal, lines):
    """PT-01: whatever pytest writes, with the view drawn after every part of it, the screen ends up the same."""
    writer, look = terminal
    parts = ["whole line\n", "half ", "a line", "\n", "\rrewritten", "\rreplaced.", "\n", "x" * 29, "y" * 40, "\n",
             "ü", "é\n", *(f"line {number}\n" for number in range(12)), "the end\n"]
    plain = Screen(10, 30)
    live = LiveView(writer, lambda columns, rows: lines[:rows])
    drawn = 0
    for part in parts:
        writer.write(part)
        plain.feed(part.replace("\n", "\r\n"))
        live._draw()
        drawn += any(line in lines for line in look().visible)
        live._draw()
    assert drawn >= len(parts) - 2, "the view was not there"
    live.close()
    assert look().everything == plain.everything
    assert (look().row, look().column) == (plain.row, plain.column)


@pytest.mark.usefixtures("still")
def test_nothing_is_written_when_nothing_changed(terminal):
    """PT-01: the same lines are not drawn twice: a terminal over a slow line would show nothing else."""
    writer, look = terminal
    live = LiveView(writer, lambda columns, rows: ["same"])
    live._draw()
    assert "same" in look().visible[0]
    screen = look()
    screen.lines = [""]
    live._draw()
    assert look().visible == [""]
    live.close()


def test_the_writer_is_given_back(terminal):
    """PT-01: after the campaign pytest's terminal writer is as it was."""
    writer, look = terminal
    live = LiveView(writer, lambda columns, rows: ["drawn"])
    assert "write" in vars(writer)
    live.close()
    assert "write" not in vars(writer)
    writer.line("after")
    assert look().everything == ["after", ""]
    assert [thread for thread in threading.enumerate() if thread.name == "live view"] == []


def test_it_costs_less_than_one_per_cent_of_a_cpu(terminal, tmp_path):
    """PT-01: with eight hosts, two candidates and 200 finished blocks the live view takes below 1 % of a CPU."""
    campaign = make_campaign(runs=100, candidates=("fast", "small"))
    known = {cell.cell_id: make_summary(cell, p50=1.0 + cell.run_index, p95=2.0, throughput=3.0)
             for cell in campaign.cells}
    standing, estimate = Standing(campaign, BENCHMARK, known), Estimate(1000)
    for worker in range(8):
        write_phase(tmp_path, campaign.cells[worker].cell_id, "load", worker, f"vm{worker}")
    used = []

    board = Board("utf-8", colours=True)

    def lines(columns, rows):
        # Grows with every call, so that each one is rendered and drawn.
        estimate.done += 1
        used.append(time.thread_time())
        return board.render(119, 25, build_progress(read_phases(tmp_path), estimate, standing, time.time()))

    began = time.monotonic()
    writer, look = terminal
    live = LiveView(writer, lines)
    deadline = began + 60
    while len(used) < 12 and time.monotonic() < deadline:
        look()
        time.sleep(0.02)
    elapsed = time.monotonic() - began
    live.close()
    assert len(used) >= 12
    assert (used[-1] - used[0]) / elapsed < 0.01


def test_rich_is_imported_with_the_first_board_only():
    """PT-01: what a campaign without a terminal imports of the live view does not import rich."""
    program = (
        "import sys, pytest_staging.session.controller\n"
        "from pytest_staging.session.board import Board\n"
        "before = 'rich' in sys.modules\n"
        "Board('utf-8', True)\n"
        "print(before, 'rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_where_drawing_is_slow_it_draws_less_often(terminal):
    """PT-01: the pause grows with what drawing costs, so that a slow machine gives no more of its time to it."""
    writer, look = terminal
    used = []

    def lines(columns, rows):
        used.append((time.monotonic(), time.thread_time()))
        while time.thread_time() < used[-1][1] + 0.004:
            pass
        return [str(len(used))]

    live = LiveView(writer, lines)
    wait_for(lambda: look() and len(used) >= 4)
    live.close()
    (began, first), (ended, last) = used[0], used[-1]
    assert (last - first) / (ended - began) < 0.01


def test_what_the_terminal_cannot_write_is_replaced(terminal):
    """PT-01: a name that the terminal's encoding does not have is no reason to draw nothing."""
    writer, look = terminal
    writer._file.reconfigure(encoding="ascii")
    live = LiveView(writer, lambda columns, rows: ["na\u00efve"])
    wait_for(lambda: look().visible[-1] == "na?ve")
    live.close()


def test_the_samples_of_the_documentation():
    """PT-01: docs/pipelines.md shows the live view as it is."""
    pairs = {"jvm": (3, "0.529", "0.412", "1.875"), "native": (2, "0.542", "0.433", "1.830")}
    shown = Progress(
        done=15, cells=24, blocks_done=5, blocks=8, left="~3 min left",
        busy=(
            Busy("vm0", "load", 23, 3, "run003-jvm-nodelay"), Busy("vm1", "warm_up", 13, 2, "run004-native-baseline"),
        ),
        ratios=tuple(
            Ratios("nodelay", mode, number, tuple(zip(("p50", "p95", "throughput"), medians, strict=True)))
            for mode, (number, *medians) in pairs.items()
        ),
    )  # fmt: skip
    text = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()
    for columns in (79, 39):
        lines = COLOUR.sub("", "\n".join(Board("utf-8", colours=True).render(columns, 12, shown)))
        assert f"```text\n{lines}\n```" in text


@pytest.mark.parametrize(("changed", "environment", "expected"), [
    ({}, {"TERM": "xterm"}, True),
    ({}, {"TERM": "dumb"}, False),
    ({}, {}, False),
    ({}, {"TERM": "xterm", "CI": "true"}, False),
    ({}, {"TERM": "xterm", "BUILD_NUMBER": "7"}, False),
    ({"capture": "no"}, {"TERM": "xterm"}, False),
    ({"capture": "tee-sys"}, {"TERM": "xterm"}, False),
    ({"isatty": False}, {"TERM": "xterm"}, False),
    ({"verbosity": -1}, {"TERM": "xterm"}, False),
    ({"verbosity": 2}, {"TERM": "xterm"}, True),
])  # fmt: skip
def test_where_it_draws(changed, environment, expected):
    """PT-01: only on a terminal that can move its cursor, that somebody looks at, and to which nobody else writes."""
    given = {"isatty": True, "verbosity": 0, "capture": "fd", **changed}
    reporter = SimpleNamespace(isatty=given["isatty"])
    config = SimpleNamespace(
        pluginmanager=SimpleNamespace(get_plugin=lambda name: reporter),
        get_verbosity=lambda: given["verbosity"],
        option=SimpleNamespace(capture=given["capture"]),
    )
    assert can_draw(config, environment) is expected


def test_phases_of_several_workers(tmp_path):
    """PT-01: each worker's phase is a file of its own; half a file is nobody's, and a dead worker's can be removed."""
    write_phase(tmp_path, "run001-jvm-a", "load", 0, "vm2")
    write_phase(tmp_path, "run001-jvm-b", "start", 3, "vm1")
    (tmp_path / ".phase-7").write_text("run001")
    assert [(one.seat, one.worker, one.cell_id, one.name) for one in read_phases(tmp_path)] == [
        ("vm1", "-3", "run001-jvm-b", "start"), ("vm2", "", "run001-jvm-a", "load"),
    ]
    remove_phases(tmp_path, [3])
    assert [one.seat for one in read_phases(tmp_path)] == ["vm2"]
    remove_phases(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_room_is_counted(tmp_path):
    """PT-01: with more hosts than rows the rest is counted; estimates come only when every host has its row."""
    for worker in range(6):
        write_phase(tmp_path, f"run00{worker}-jvm-a", "load", worker, f"vm{worker}")
    campaign = make_campaign(runs=2)
    known = {cell.cell_id: replace(make_summary(cell, p50=2.0, p95=4.0, throughput=0.0), host={"name": "vm0"})
             for cell in campaign.cells[:4]}
    standing, phases = Standing(campaign, BENCHMARK, known), read_phases(tmp_path)
    progress = build_progress(phases, Estimate(8), standing, phases[0].since + 5)
    board = Board("utf-8", colours=False)
    few = board.render(79, 4, progress)
    assert [line.split()[0] for line in few] == ["0/8", "vm0", "vm1", "and"]
    assert few[1] == "  vm0  load 5 s  2 blocks  run000-jvm-a"
    assert "  0 blocks  " in few[2]
    assert few[-1] == "and 4 more"
    many = board.render(79, 20, progress)
    assert many[0].startswith("0/8 cells, 2/4 blocks  ")
    assert many[0].endswith("  0 %")
    assert many[7] == "so far, no verdict: median of candidate/baseline"
    assert many[8:] == [
        "  fast jvm     1 pair  p50 1.000  p95 1.000",
        "  fast native  1 pair  p50 1.000  p95 1.000",
    ]
    (only,) = board.render(22, 1, progress)
    assert only == "0/8 cells, 2/4 blocks"


def test_forty_columns_and_five_rows_with_long_names(crowded):
    """PT-01: in 40 columns a host's name is cut before its phase and time; what does not fit is marked, not wrapped."""
    board = Board("utf-8", colours=False)
    # Of 5 rows half is ours, and the last column stays free.
    assert board.render(39, 2, crowded) == [
        "15/24 cells, 5/8 blocks  ~3 min left",
        "  build-h…  warm_up 13 s  run001-nativ…",
    ]
    assert board.render(39, 6, crowded)[1:] == [
        "  build-h…  warm_up 13 s  run001-nativ…",
        "  日本語 …  lease   83 s  run002-jvm-f…",
        "so far, no verdict: median of candidat…",
        "  a-rathe… jvm     3 pairs  p50 3.706 …",
        "  a-rathe… native  2 pairs  p50 3.631 …",
    ]
    wide = board.render(119, 6, crowded)
    assert wide[1].split() == [
        "build-host-with-a-long-name.example.org#2", "warm_up", "13", "s", "5", "blocks", f"run001-native-{LONG}",
    ]
    assert wide[4].split()[:3] == [LONG, "jvm", "3"]
    assert wide[4].endswith("heap_peak 1.000")


@pytest.mark.parametrize("colours", [True, False])
def test_no_line_is_wider_than_the_terminal(crowded, colours):
    """PT-01: at any size no line is wrapped or too wide, as a terminal counts columns, and there are not too many."""
    board = Board("utf-8", colours)
    for columns in range(1, 130):
        for rows in (1, 2, 3, 12):
            lines = board.render(columns, rows, crowded)
            assert len(lines) <= rows
            assert all(cell_len(COLOUR.sub("", line)) <= columns for line in lines), (columns, lines)
            assert lines[0], "progress comes first"


def test_colours_change_nothing_else(crowded):
    """PT-01: with colours the characters are the same but for the bar's empty part; without there is no sequence."""
    coloured, plain = (Board("utf-8", colours).render(79, 12, crowded) for colours in (True, False))
    assert "\x1b" not in "".join(plain)
    assert all(COLOUR.search(line) for line in coloured)
    assert "\x1b" not in "".join(COLOUR.sub("", line) for line in coloured)
    assert [COLOUR.sub("", line) for line in coloured[1:]] == plain[1:]
    assert COLOUR.sub("", coloured[0]).replace("━", "").replace("╺", "").split() == plain[0].replace("━", "").split()


def test_a_terminal_with_few_characters(crowded):
    """PT-01: where the terminal's encoding has no line characters the bar and the marks are of plain ones."""
    lines = Board("ascii", colours=True).render(79, 1, crowded)
    assert "----" in lines[0]
    assert "".join(lines).isascii()
    assert Board("ascii", colours=False).render(39, 2, crowded)[1] == "  build-h~  warm_up 13 s  run001-nativ~"


def test_a_name_is_no_command_to_the_terminal(crowded):
    """PT-01: an escape sequence, or markup, in a name is shown and not obeyed."""
    bad = replace(crowded.busy[0], name="\x1b[2Jvm", cell_id="[red]run001[/red]\r")
    (_, line) = Board("utf-8", colours=False).render(79, 2, replace(crowded, busy=(bad,)))
    assert line.startswith("  ?[2Jvm  ")
    assert line.endswith("  [red]run001[/red]?")


def test_the_same_progress_is_rendered_once(crowded, monkeypatch):
    """PT-01: rich works only when something changed, or the terminal's size."""
    calls = []
    board = Board("utf-8", colours=True)
    render = board._print
    monkeypatch.setattr(board, "_print", lambda *given: calls.append(given) or render(*given))
    first = board.render(79, 12, crowded)
    assert board.render(79, 12, replace(crowded)) == first
    assert len(calls) == 1
    board.render(39, 12, crowded)
    board.render(39, 12, replace(crowded, done=16))
    assert len(calls) == 3


def test_seconds_change_all_at_once():
    """PT-01: the rows of all hosts change at the same time, so that the screen changes once per second."""
    standing = Standing(make_campaign(runs=1), BENCHMARK, {})
    phases = [Phase(f"vm{number}", "", "run001-jvm-a", "load", 100 + number / 8) for number in range(8)]
    seen = [build_progress(phases, Estimate(8), standing, 110 + tick / 5) for tick in range(10)]
    seconds = [tuple(one.seconds for one in progress.busy) for progress in seen]
    assert list(dict.fromkeys(seconds)) == [(10,) * 8, (11,) * 8]


def test_the_time_left_counts_down(monkeypatch):
    """PT-01: from the mean of the finished cells; a cell that takes longer than they did stops the count."""
    now = [100.0]
    monkeypatch.setattr("pytest_staging.session.progress.time.monotonic", lambda: now[0])
    estimate = Estimate(4)
    assert estimate.left() == ""
    now[0] += 20
    estimate.count()
    left = []
    for now[0] in (120.0, 125.0, 139.0, 200.0):
        left.append(estimate.left())
    assert left == ["~60 s left", "~55 s left", "~41 s left", "~40 s left"]


def test_the_estimate_is_the_median_of_complete_pairs():
    """PT-01: pairs of passed cells only; the baseline's value divides; a later result replaces an earlier one."""
    campaign = make_campaign(runs=3, modes=("jvm",))
    ratios = {1: 2.0, 2: 4.0, 3: 9.0}
    standing = Standing(campaign, BENCHMARK, {})
    for cell in campaign.cells:
        value = 10.0 * (ratios[cell.run_index] if cell.version_slug == "fast" else 1.0)
        standing.add(make_summary(cell, p95=value))
    assert standing.ratios() == [Ratios("fast", "jvm", 3, (("p95", "4.000"),))]
    last = next(cell for cell in campaign.cells if cell.run_index == 3 and cell.version_slug == "fast")
    standing.add(make_summary(last, "failed", p95=999.0))
    assert standing.ratios() == [Ratios("fast", "jvm", 2, (("p95", "3.000"),))]
    assert (standing.blocks_done, standing.blocks) == (3, 3)
