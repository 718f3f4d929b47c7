"""The program that runs a load tool: statuses, times, signals, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loading import Loaded, first_good
from test_contract import alive, wait_for, worker_of
from toolcases import full_request

from pytest_staging.loadtools.driving import DRIVER, Drive, Phase, build_driven, read_ending, read_notes
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import LoadCommand
from pytest_staging.targets.local import LocalTarget


def drive(tmp_path: Path, *phases: Phase, **what: Any) -> tuple[Loaded, LoadCommand]:
    request = full_request(tmp_path, "http://127.0.0.1:1")
    command = build_driven(request, Drive(tool="tool", phases=phases, total_s=1.0, **what))
    began_s = time.monotonic()
    status = LocalTarget(tmp_path).run(command.command, command.deadline_s)
    lasted_s = time.monotonic() - began_s
    ready_s = float(command.ready_file.read_text()) if command.ready_file.exists() else None
    return Loaded(request, status, command.command.log.read_text(), ready_s, lasted_s), command


def shell(text: str, **phase: Any) -> Phase:
    return Phase(argv=["sh", "-c", text], **phase)


@pytest.mark.parametrize(
    ("text", "accepted", "status", "said"),
    [
        ("true", (0,), 0, ""),
        ("exit 3", (0, 3), 0, ""),
        ("exit 3", (0,), 3, "tool ended with status 3: it is tired"),
        ("exit 4", (0,), 4, "tool ended with status 4: it failed"),
        ("kill -9 $$", (0,), 137, "tool ended with status -9: killed by signal 9"),
    ],
)
def test_statuses(tmp_path: Path, text: str, accepted: tuple[int, ...], status: int, said: str) -> None:
    """SM-08: an accepted status is no failure; every other one is passed on and named."""
    before = time.time()
    run, _ = drive(tmp_path, shell(text), accepted=accepted, meanings={3: "it is tired"})
    assert run.status == status, run.log
    assert said in run.log
    assert run.ready_s
    assert before <= run.ready_s <= time.time()
    if status:
        with pytest.raises(LoadFailed, match=r"tool (ended with status|was killed by signal) \d+"):
            read_ending(run.request, "tool", accepted)
    else:
        ending = read_ending(run.request, "tool", accepted)
        assert before <= ending.started_at_s <= ending.ended_at_s <= time.time()


def test_a_program_that_cannot_start(tmp_path: Path) -> None:
    """XP-06: told from one that failed, and no end is recorded."""
    run, _ = drive(tmp_path, Phase(argv=["/no/such/tool"]))
    assert run.status == 127
    assert "/no/such/tool" in run.log
    with pytest.raises(LoadFailed, match="never came to its end"):
        read_ending(run.request, "tool")


def test_phases(tmp_path: Path) -> None:
    """SM-08: the warm-up is cut off when the measured run is due, which an interrupt ends in time; only that counts."""

    def once(folder: Path) -> tuple[Loaded, list[float]]:
        note = f"date +%s.%N >> {folder / 'times'}"
        trap = f"trap '{note}; exit 0' INT; {note}; while :; do sleep 0.01; done"
        warm_up = shell(f"{note}; exec sleep 60", seconds=0.3, signal=signal.SIGKILL)
        run, _ = drive(folder, warm_up, shell(trap, at_s=0.3, seconds=0.4, signal=signal.SIGINT))
        return run, [float(line) for line in (folder / "times").read_text().split()]

    # On a busy machine a shell may be ended before it could say that it began.
    run, times = first_good(once, tmp_path, lambda ran: len(ran[1]) == 3)
    assert run.status == 0, run.log
    assert run.ready_s
    begun, measured, ended = times
    assert begun < measured < ended
    assert run.ready_s + 0.3 <= measured
    assert run.ready_s + 0.7 <= ended
    assert run.lasted_s < 60, "somebody waited for the warm-up's own end"


def test_a_warm_up_that_fails(tmp_path: Path) -> None:
    """XP-06: then nothing is measured."""
    run, _ = drive(tmp_path, shell("exit 5", seconds=5, signal=signal.SIGKILL), shell(f"touch {tmp_path}/x", at_s=5))
    assert run.status == 5
    assert not (tmp_path / "x").exists()


def test_a_longer_warm_up_than_asked_for(tmp_path: Path) -> None:
    """SM-08: the window begins that much later."""
    before = time.time()
    run, _ = drive(tmp_path, shell("true"), ready_after_s=0.7)
    assert run.ready_s
    assert before + 0.7 <= run.ready_s <= time.time() + 0.7


def test_a_tool_that_says_itself_when_it_sends(tmp_path: Path) -> None:
    """SM-08: then nobody else does."""
    run, command = drive(tmp_path, shell(f"printf 5.5 > {tmp_path / 'load-ready'}"), says_ready=False)
    assert run.ready_s == 5.5
    assert command.ready_file == tmp_path / "load-ready"


def test_output_and_notes(tmp_path: Path) -> None:
    """SM-08: what is parsed is whole when the tool has ended, and people find it in the log too."""
    run, _ = drive(tmp_path, shell("echo figures; echo trouble >&2"), output="out.txt", notes={"a": 1})
    assert (tmp_path / "out.txt").read_text() == "figures\n"
    assert "figures" in run.log
    assert "trouble" in run.log
    assert read_notes(run.request, "tool") == {"a": 1}
    (tmp_path / "load-plan.json").write_text("{}")
    with pytest.raises(LoadFailed, match=r"load-plan\.json of tool is broken: notes is no object"):
        read_notes(run.request, "tool")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_stopping(tmp_path: Path, sent: signal.Signals) -> None:
    """XP-06: the tool ends with its driver when that is asked to stop; a driver that is killed records no end."""
    request = full_request(tmp_path, "http://127.0.0.1:1")
    command = build_driven(request, Drive(tool="tool", phases=[shell("exec sleep 60")], total_s=1.0))
    driver = subprocess.Popen(command.command.argv)
    try:
        wait_for(command.ready_file.exists)
        worker = worker_of(driver.pid)
        driver.send_signal(sent)
        assert driver.wait(10) in (143, -9)
    finally:
        driver.kill()
        driver.wait()
    if sent is signal.SIGTERM:
        assert not alive(worker)
    else:
        subprocess.run(["kill", str(worker)], check=True)
    with pytest.raises(LoadFailed, match="never came to its end"):
        read_ending(request, "tool")


def test_it_needs_nothing_but_python() -> None:
    """SM-08: a generator host has no pytest-staging."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print([m for m in sys.modules if 'staging' in m])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(DRIVER)], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() == "[]"


def test_stale_files_are_removed(tmp_path: Path) -> None:
    """XP-06: before the tool runs again."""
    request = full_request(tmp_path, "http://127.0.0.1:1")
    for name in ("load-ready", "load-exit.json", "old.json"):
        (tmp_path / name).write_text("{}")
    build_driven(request, Drive(tool="tool", phases=[], total_s=1.0), stale=("old.json",))
    assert {path.name for path in tmp_path.iterdir()} == {"body.json", "load-plan.json"}
    assert json.loads((tmp_path / "load-plan.json").read_text())["tool"] == "tool"
