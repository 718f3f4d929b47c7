"""The live view by itself: where it may draw, what it costs, and that it can be taken away from any place."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from _pytest._io import TerminalWriter
from terminals import Screen

sys.path.append(str(Path(__file__).parents[1] / "campaign"))
from cells import make_benchmark, make_campaign, make_summary

from pytest_staging.session.live import LiveView, can_draw
from pytest_staging.session.progress import (
    Estimate,
    Standing,
    read_phases,
    remove_phases,
    render_live,
    write_phase,
)

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


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("lines", [["one"], ["one", "two", "three"]], ids=["one", "three"])
def test_what_is_written_stays_as_it_was_written(terminal, lines):
    """PT-01: whatever pytest writes, with the view drawn after every part of it, the screen ends up the same."""
    writer, look = terminal
    parts = ["whole line\n", "half ", "a line", "\n", "\rrewritten", "\rreplaced.", "\n", "x" * 29, "y" * 40, "\n",
             "ü", "é\n", *(f"line {number}\n" for number in range(12)), "the end\n"]
    plain = Screen(10, 30)
    live = LiveView(writer, lambda rows: lines[:rows])
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
    live = LiveView(writer, lambda rows: ["same"])
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
    live = LiveView(writer, lambda rows: ["drawn"])
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

    def lines(rows):
        # Grows with every call, so that each one is drawn.
        estimate.done += 1
        used.append(time.thread_time())
        return render_live(read_phases(tmp_path), estimate, standing, 25, time.time())

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
    now = phases[0].since + 5
    few = render_live(phases, Estimate(8), standing, 4, now)
    assert [line.split()[0] for line in few] == ["0/8", "vm0", "vm1", "and"]
    assert few[1] == "  vm0  run000-jvm-a  load 5 s, 2 blocks done"
    assert few[2].endswith(", 0 blocks done")
    assert few[-1] == "and 4 more"
    many = render_live(phases, Estimate(8), standing, 20, now)
    assert many[0] == "0/8 cells, 2/4 blocks"
    assert many[7] == "so far, no verdict: median of candidate/baseline"
    assert many[8:] == ["  fast jvm, 1 pair: p50 1.000  p95 1.000", "  fast native, 1 pair: p50 1.000  p95 1.000"]
    assert render_live(phases, Estimate(8), standing, 1, now) == ["0/8 cells, 2/4 blocks"]


def test_the_estimate_is_the_median_of_complete_pairs():
    """PT-01: pairs of passed cells only; the baseline's value divides; a later result replaces an earlier one."""
    campaign = make_campaign(runs=3, modes=("jvm",))
    ratios = {1: 2.0, 2: 4.0, 3: 9.0}
    standing = Standing(campaign, BENCHMARK, {})
    for cell in campaign.cells:
        value = 10.0 * (ratios[cell.run_index] if cell.version_slug == "fast" else 1.0)
        standing.add(make_summary(cell, p95=value))
    assert standing.render() == ["fast jvm, 3 pairs: p95 4.000"]
    last = next(cell for cell in campaign.cells if cell.run_index == 3 and cell.version_slug == "fast")
    standing.add(make_summary(last, "failed", p95=999.0))
    assert standing.render() == ["fast jvm, 2 pairs: p95 3.000"]
    assert (standing.blocks_done, standing.blocks) == (3, 3)
