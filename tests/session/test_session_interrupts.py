"""Ctrl-C, and the SIGTERM of a pipeline that is cancelled, in every phase of a cell."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import (
    DEADLINE_S,
    await_phase,
    await_that,
    folder_of,
    make_bad,
    make_small,
    marked_processes,
    read_aggregate,
    read_summaries,
    run_campaign,
    started_campaign,
)
from workspaces import SERVICE

# What makes the candidate stay in each phase until it is interrupted; nothing for phases that are long enough.
DEAF = SERVICE.replace("lambda *_: os._exit(0)", "signal.SIG_IGN")
SLOW = {
    "build": (SERVICE, {"build": [["sh", "-c", "sleep 300 & wait"]]}),
    "start": (f"import time; time.sleep(300)\n{SERVICE}", {"ready_timeout_s": 60}),
    "warm_up": (SERVICE, {}),
    "load": (SERVICE, {}),
    "drain": (SERVICE.replace("DELAY_S = 0.0", "DELAY_S = 8.0"), {}),
    "stop": (DEAF, {"stop_timeout_s": 60}),
}


@dataclass(frozen=True)
class Case:
    """One interrupted campaign: in which phase, by which signal, with which options."""

    phase: str
    number: signal.Signals = signal.SIGINT
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.phase, self.number.name, *(option.strip("-") for option in self.options)])


CASES = [
    *[Case(phase) for phase in SLOW],
    Case("build", signal.SIGTERM),
    Case("load", signal.SIGTERM),
    Case("load", signal.SIGINT, ("-n2",)),
    Case("stop", signal.SIGTERM, ("-n2",)),
]


@dataclass(frozen=True)
class Interrupted:
    root: Path
    code: int
    output: str
    left: list[int]


def interrupt(root: Path, case: Case) -> Interrupted:
    """Runs a campaign whose second cell stays in the case's phase, and signals as a terminal or a pipeline does."""
    # A phase that nothing holds up is long enough to be hit, however late that is noticed here; and Locust is in it.
    long = case.phase in ("load", "warm_up")
    make_small(root, duration_s=4.0 if long else 0.2, warm_up_s=2.0 if case.phase == "warm_up" else 0.1, locust=long)
    service, changes = SLOW[case.phase]
    make_bad(root, "faster", service, **changes)
    with started_campaign(root, "--staging-order=fixed", *case.options) as process:
        await_phase(root, process, "faster", case.phase)
        if case.phase != "build":
            await_that(lambda: marked_processes(root), "a service that runs")
        # A terminal signals the whole group, a pipeline the one process that it knows.
        send = os.killpg if case.number is signal.SIGINT else os.kill
        send(process.pid, case.number)
        code = process.wait(DEADLINE_S)
        left = marked_processes(root)
    return Interrupted(root, code, (root / "output.txt").read_text(), left)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Every case, a few at a time: they mostly wait."""
    folder = tmp_path_factory.mktemp("interrupted")
    with ThreadPoolExecutor(3) as pool:
        results = pool.map(lambda case: interrupt(folder / str(case), case), CASES)
        return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_interrupt_ends_the_service_and_the_load_tool(interrupted, case):
    """SM-07: Ctrl-C in each phase: service, load tool and build are gone when the session ends, with exit code 2."""
    assert interrupted[case].left == []
    assert interrupted[case].code == 2, interrupted[case].output


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_interrupt_keeps_finished_cells_and_prints_the_summary(interrupted, case):
    """SM-07: the finished cell is on disk and in the comparison, the interrupted one is named as not run."""
    one = interrupted[case]
    summaries = read_summaries(one.root)
    assert {name: summary["outcome"] for name, summary in summaries.items()} == {"run001-native-baseline": "passed"}
    missing = [entry for entry in read_aggregate(one.root)["missing"] if entry["metric"] is None]
    assert [(entry["cell"], entry["reason"]) for entry in missing] == [("run001-native-faster", "not run")]
    section = one.output[one.output.index("staging campaign c ="):]
    assert "| p95" in section
    assert "run001-native-faster: not run" in section
    assert "wrote campaigns/c/aggregate-comparison.md" in section
    assert not (folder_of(one.root) / ".phase").exists()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_interrupt_is_no_crash(interrupted, case):
    """SM-07: no traceback of ours, no internal error."""
    output = interrupted[case].output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output


LINELESS = """
def interrupted():
    raise KeyboardInterrupt

interrupted.__code__ = interrupted.__code__.replace(co_linetable=b"")

def pytest_runtest_setup():
    interrupted()
"""


def test_an_interrupt_at_an_instruction_without_a_line(tmp_path):
    """SM-07: where a signal arrives between two lines, pytest has no place to show: the summary comes all the same."""
    root = make_small(tmp_path / "w")
    (root / "conftest.py").write_text(LINELESS)
    result = run_campaign(root)
    assert result.returncode == 2, result.stdout
    assert "Traceback" not in result.stdout
    assert "KeyboardInterrupt" in result.stdout
    assert "run001-native-baseline: not run" in result.stdout


def test_a_second_interrupt_leaves_no_process_either(tmp_path):
    """SM-07: an impatient user presses Ctrl-C again while the service is given its time to end: it is killed then."""
    root = make_small(tmp_path / "w", duration_s=4.0)
    make_bad(root, "faster", DEAF, stop_timeout_s=60)
    with started_campaign(root, "--staging-order=fixed") as process:
        await_phase(root, process, "faster", "load")
        os.killpg(process.pid, signal.SIGINT)
        await_phase(root, process, "faster", "stop")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        left = marked_processes(root)
    assert left == [], (root / "output.txt").read_text()
