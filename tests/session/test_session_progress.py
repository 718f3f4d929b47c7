"""Progress: live lines on a terminal, plain lines elsewhere, and no trouble with other ways to show output."""

from __future__ import annotations

import re

import pytest
from running import folder_of, make_bad, make_small, marked_processes, read_aggregate, read_summaries, run_campaign
from terminals import run_on_a_terminal

# A slow machine is drawn on less often: up to 2 s pass, in which a short cell may begin and end.
OFTEN = "from pytest_staging.session import live\nlive.LONGEST_PAUSE_S = live.REDRAW_S\n"
LIVE = re.compile(r"  (lease|build|start|warm_up|load|drain|stop) \d+ s  (run\d{3}-native-\w+)")
HEAD = re.compile(r"(\d)/(\d) cells, (\d)/(\d) blocks")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def make_watched(root, own="", **small):
    """A workspace for campaigns that are looked at: `own` is added to its conftest.py."""
    root = make_small(root, **{"duration_s": 1.0, **small})
    (root / "conftest.py").write_text(OFTEN + own)
    return root


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A campaign of two runs on a terminal."""
    root = make_watched(tmp_path_factory.mktemp("live") / "w", warm_up_s=0.5)
    return run_on_a_terminal(root, "--runs=2")


def seen_in(frames, pattern):
    """Everything that `pattern` finds on any state of the screen."""
    return {found.groups() for frame in frames for line in frame if (found := pattern.match(line))}


def test_live_lines_say_which_cell_is_in_which_phase(live):
    """PT-01: on a terminal live lines say what runs in which phase, how many cells and blocks are done."""
    assert live.code == 0, live.written
    cells = seen_in(live.frames, LIVE)
    assert {cell for _, cell in cells} == {f"run00{run}-native-{slug}" for run in (1, 2)
                                           for slug in ("baseline", "faster")}
    assert {"warm_up", "load"} <= {phase for phase, _ in cells}
    assert {("0", "4", "0", "2"), ("1", "4", "0", "2"), ("3", "4", "1", "2")} <= seen_in(live.frames, HEAD)
    # 110 columns have room for everything: the bar lies between the counts and the share.
    heads = seen_in(live.frames, re.compile(r"1/4 cells, 0/2 blocks  (━+)[╸╺]?(━+)  25 %  ~\d+ s left$"))
    assert heads, "no bar, no share, or no time left"
    # As the time left loses a digit the bar gets a column more.
    assert all(0.2 < len(done) / (len(done) + len(rest)) < 0.3 for done, rest in heads)


def test_a_running_estimate_is_shown_as_what_it_is(live):
    """PT-01: once a block is complete, the median ratio of the pairs so far, with their number, without a verdict."""
    shown = [frame for frame in live.frames if any(" 1 pair  p95 " in line for line in frame)]
    assert shown, live.written
    for frame in shown:
        (place,) = [number for number, line in enumerate(frame) if " 1 pair  p95 " in line]
        assert frame[place - 1] == "so far, no verdict: median of candidate/baseline"
        assert re.fullmatch(r"  faster native  1 pair  p95 \S+  throughput \S+  heap_peak \S+", frame[place])


def test_the_live_lines_are_gone_in_the_end(live):
    """PT-01: nothing of the live view stays on the screen, and it never spoils a line of the report."""
    assert [line for line in live.lines if LIVE.match(line) or HEAD.match(line) or "so far" in line] == []
    results = [line for line in live.lines if "  passed  " in line]
    assert [line.split()[0] for line in results] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(line.startswith("  ") for line in results)
    assert any(line.startswith("| native | p95") for line in live.lines)
    assert live.lines[-2].startswith("=====") or live.lines[-1].startswith("====="), live.lines[-3:]


def test_verbose_output_stays_whole(tmp_path):
    """PT-01: with -v pytest writes a test's name first and its result much later: the live view leaves both alone."""
    root = make_watched(tmp_path / "w")
    result = run_on_a_terminal(root, "-v", "--color=no")
    assert result.code == 0, result.written
    assert seen_in(result.frames, LIVE), "there is a live view"
    found = [line for line in result.lines if "::campaign[" in line]
    assert [re.sub(r" +", " ", line) for line in found] == [
        f"benchmark/benchmark.yaml::campaign[{cell}] PASSED [{share}%]"
        for cell, share in zip(read_summaries(root), (" 50", "100"), strict=True)
    ]
    verdicts = [line for line in result.lines if "::verdict[" in line]
    assert len(verdicts) == 5
    assert [line for line in result.lines if LIVE.match(line) or HEAD.match(line)] == []
    assert not COLOUR.search(result.written), "--color=no"


def test_colours_where_pytest_has_some(live):
    """PT-01: the live view is coloured on a terminal that has colours, and each line ends its own."""
    # Each time: what is below is erased, the lines are written, and the cursor goes up again.
    parts = [re.split(r"\x1b\[\d*A", part)[0] for part in live.written.split("\x1b[J")]
    drawn = [part for part in parts if HEAD.match(COLOUR.sub("", part).lstrip())]
    assert [one for one in drawn if "\x1b[32m━" in one], "the bar is green"
    assert [one for one in drawn if re.search(r"\x1b\[32mload *\x1b\[0m \d+ s", one)], "load is green"
    lines = [COLOUR.findall(line) for line in "\n".join(drawn).split("\n")]
    assert {sequences[-1] for sequences in lines if sequences} == {"\x1b[0m"}


def test_no_colours_where_the_user_wants_none(tmp_path):
    """PT-01: with NO_COLOR the live view is drawn in plain characters."""
    root = make_watched(tmp_path / "w")
    result = run_on_a_terminal(root, "-k", "baseline", env={"NO_COLOR": "1"})
    assert result.code == 0, result.written
    assert seen_in(result.frames, LIVE)
    assert seen_in(result.frames, HEAD)
    assert not COLOUR.search(result.written)


@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (5, 30)])
def test_a_narrow_or_tiny_terminal(tmp_path, rows, columns):
    """PT-01: the live view is cut to the terminal, takes half of it at most, and leaves it clean."""
    root = make_watched(tmp_path / "w")
    result = run_on_a_terminal(root, rows=rows, columns=columns)
    assert result.code == 0, result.written
    heads = seen_in(result.frames, re.compile(r"(\d/2 cells)"))
    # Between the last cell and the end there may be time to draw once more.
    assert {("0/2 cells",), ("1/2 cells",)} <= heads
    drawn = re.findall(r"\x1b\[J((?:\r\n)?\d/2 cells[^\x1b]*)", COLOUR.sub("", result.written))
    assert drawn
    for one in drawn:
        # The terminal itself puts another carriage return before a line feed.
        lines = [line.strip("\r") for line in one.strip("\r\n").split("\n")]
        assert len(lines) <= max(1, rows // 2)
        assert all(len(line) < columns for line in lines), one
    assert [line for line in result.lines if "/2 cells" in line and "blocks" in line] == []
    results = [line for line in result.lines if re.match(r"  \d/2  run001-native", line)]
    assert [line.split()[0] for line in results] == ["1/2", "2/2"]


def test_ctrl_c_leaves_the_terminal_clean(tmp_path):
    """PT-01: Ctrl-C, as the terminal sends it, takes the live view away, ends service and load tool, and says so."""
    root = make_small(tmp_path / "w", duration_s=60.0)
    sent = []

    def interrupt(screen, press):
        if not sent and any("  load " in line for line in screen.visible):
            sent.append(press(b"\x03"))

    result = run_on_a_terminal(root, during=interrupt)
    assert sent
    assert result.code == 2, result.written
    assert any("KeyboardInterrupt" in line for line in result.lines)
    assert [line for line in result.lines if LIVE.match(line) or HEAD.match(line)] == []
    assert marked_processes(root) == []
    assert list(folder_of(root).glob(".phase*")) == []


def test_a_debugger_has_the_terminal_to_itself(tmp_path):
    """PT-01: from breakpoint() in a test of the user's on, nothing is drawn any more."""
    root = make_watched(tmp_path / "w")
    (root / "test_own.py").write_text(
        "import time\n"
        "def test_own(staging_cell):\n"
        "    staging_cell.run()\n"
        "    if staging_cell.version_slug == 'baseline':\n"
        "        breakpoint()\n"
    )
    prompts = []

    def answer(screen, press):
        if not prompts and screen.visible[screen.row - screen.top] == "(Pdb)":
            # Time for a view that is still there to draw, and what it would draw changes meanwhile.
            prompts.append(press(b"time.sleep(1.5)\nc\n"))

    result = run_on_a_terminal(root, "test_own.py", "--staging-order=fixed", during=answer)
    assert prompts, result.written
    assert result.code == 0, result.written
    before, after = result.written.split("(Pdb)", 1)
    assert "\x1b[J" in before
    assert "\x1b[J" not in after
    assert seen_in(result.frames, LIVE)


def test_a_row_for_each_worker(tmp_path):
    """PT-01: with several workers the live view has a row for each, and a file of phases for each."""
    # As many workers as were asked for, on one host: one of them waits for its lease.
    slots = "from pytest_staging.session.controller import Controller\nController.slots = 2\n"
    root = make_watched(tmp_path / "w", slots, duration_s=2.0)
    row = re.compile(r"  worker (\d)  (\w+) +\d+ s  (run\d{3}-native-\w+)")
    result = run_on_a_terminal(root, "-n", "2", "--runs=2")
    assert result.code == 0, result.written
    both = [found for frame in result.frames
            if len(found := [one for line in frame if (one := row.match(line))]) == 2]
    assert both, result.written
    assert {"0", "1"} == {one[1] for one in both[0]}
    assert any({one[2] for one in found} == {"lease", "load"} for found in both)
    assert [line for line in result.lines if row.match(line) or HEAD.match(line)] == []
    assert list(folder_of(root).glob(".phase*")) == []


@pytest.mark.parametrize("arguments", [["-s"], ["-q"]], ids=["s", "q"])
def test_there_is_no_live_view_where_it_would_mix_with_other_output(tmp_path, arguments):
    """PT-01: with -s the tests write to the terminal themselves, and -q asks for less: no live view."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    result = run_on_a_terminal(root, "-k", "baseline", *arguments)
    assert result.code == 0, result.written
    assert not seen_in(result.frames, LIVE)
    assert "\x1b[J" not in result.written
    assert "Traceback" not in result.written


def test_without_a_terminal_there_are_plain_lines_only(serial):
    """PT-01: in a pipeline's log there is a plain line per cell: no control character, no live view."""
    assert "\x1b" not in serial.result.stdout
    assert "\r" not in serial.result.stdout
    assert "warm_up" not in serial.result.stdout
    assert "so far" not in serial.result.stdout
    assert len([line for line in serial.result.stdout.splitlines() if "  passed  " in line]) == 8


def test_a_failed_cell_is_told_above_the_live_view(tmp_path):
    """PT-01: a failure's line stands whole, and the failure's section comes after the live view is gone."""
    root = make_small(tmp_path / "w", candidates=(), duration_s=0.4)
    make_bad(root, "broken", "import sys\nprint('no luck')\nsys.exit(3)\n")
    result = run_on_a_terminal(root)
    assert result.code == 1
    (line,) = [line for line in result.lines if line.startswith("  ") and "  failed: " in line]
    assert "ended with status 3" in line
    assert "no luck" in result.lines
    assert [line for line in result.lines if LIVE.match(line) or HEAD.match(line)] == []


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
