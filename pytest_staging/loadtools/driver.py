"""Runs a load tool that knows nothing of cells: says when it sends, keeps its times, and tells its endings apart.

A program of its own, beside the service: `python driver.py PLAN`. Only the standard library, nothing of pytest-staging,
so that a generator host needs no more than Python and the tool. The plan is what `driving.py` writes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any

API_TIMEOUT_S = 1.0
API_POLL_S = 0.005
CANNOT_START = 127
STOPPED = 143
INITIALISED = 4
"""k6's own number for "all users are made, and nothing is sent yet"."""


def main(plan_path: str) -> int:
    """Exit status of the tool, 0 where the plan accepts it, 127 when it cannot be started."""
    plan = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, _stop)
    record: dict[str, Any] = {"status": None, "started_at_s": None, "ended_at_s": None}
    children: list[subprocess.Popen[bytes]] = []
    try:
        status = run_phases(plan, record, children)
    except OSError as error:
        print(f"{plan['tool']}: {error}", file=sys.stderr, flush=True)
        return CANNOT_START
    finally:
        for child in children:
            end(child)
        if plan["output_file"]:
            show(Path(plan["output_file"]))
    record |= {"status": status, "ended_at_s": time.time()}
    put(Path(plan["exit_file"]), json.dumps(record) + "\n")
    if status in plan["accepted"]:
        return 0
    meaning = plan["meanings"].get(str(status)) or ending(status)
    print(f"{plan['tool']} ended with status {status}: {meaning}", file=sys.stderr, flush=True)
    return status if status > 0 else 128 - status


def run_phases(plan: dict[str, Any], record: dict[str, Any], children: list[subprocess.Popen[bytes]]) -> int:
    """One after the other, each at its instant counted from the first one's start; the last one's status."""
    started_s = time.time()
    for number, phase in enumerate(plan["phases"]):
        wait_until(started_s + phase["at_s"])
        child = start(phase["argv"], plan["output_file"])
        children.append(child)
        sending_s = resume(plan["api"], child) if plan["api"] else time.time()
        if number == 0:
            started_s = sending_s
            if plan["says_ready"]:
                put(Path(plan["ready_file"]), repr(started_s + plan["ready_after_s"]))
        record["started_at_s"] = sending_s
        status = finish(child, phase, started_s + phase["at_s"])
        if status is not None:
            return status
    return 0


def start(argv: list[str], output: str | None) -> subprocess.Popen[bytes]:
    """What is to be parsed goes straight to a file: the log is filled by somebody else, at their own pace."""
    if output is None:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    with Path(output).open("wb") as file:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file)


def finish(child: subprocess.Popen[bytes], phase: dict[str, Any], begun_s: float) -> int | None:
    """The status of a phase that ended by itself; None for one that was cut off in time, as the plan wants it."""
    if phase["signal"] is None:
        return child.wait()
    try:
        return child.wait(max(0.0, begun_s + phase["seconds"] - time.time()))
    except subprocess.TimeoutExpired:
        child.send_signal(phase["signal"])
        status = child.wait()
        return None if phase["signal"] == signal.SIGKILL else status


def resume(api: str, child: subprocess.Popen[bytes]) -> float:
    """Lets a paused k6 go as soon as all its users are made; the epoch instant at which it was told."""
    while child.poll() is None:
        try:
            state = call(f"{api}/v1/status")["data"]["attributes"]
            if state["paused"] and state["status"] >= INITIALISED:
                wanted = {"data": {"type": "status", "id": "default", "attributes": {"paused": False}}}
                told_s = time.time()
                call(f"{api}/v1/status", wanted)
                return told_s
        except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
            pass  # not there yet; the cell's own deadline ends this
        time.sleep(API_POLL_S)
    return time.time()


def call(url: str, change: dict[str, Any] | None = None) -> Any:
    """The API's answer; with `change`, after it."""
    body = None if change is None else json.dumps(change).encode()
    request = urllib.request.Request(url, data=body, method="PATCH" if body else "GET")
    request.add_header("Content-Type", "application/json")
    # No proxy of the environment stands between two programs of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=API_TIMEOUT_S) as answer:
        return json.loads(answer.read())


def wait_until(instant_s: float) -> None:
    """Returns at once when the epoch instant has passed."""
    if (left_s := instant_s - time.time()) > 0:
        time.sleep(left_s)


def end(child: subprocess.Popen[bytes]) -> None:
    """Leaves no tool behind."""
    if child.poll() is None:
        child.kill()
        child.wait()


def show(output: Path) -> None:
    """People look into the log."""
    if output.exists():
        print(output.read_text(encoding="utf-8", errors="replace"), flush=True)


def ending(status: int) -> str:
    """For a sentence, where the plan gives the status no meaning."""
    return f"killed by signal {-status}" if status < 0 else "it failed"


def put(path: Path, text: str) -> None:
    """Renamed into place, so that the reader never sees it half written."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    os.replace(draft, path)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)  # by way of main's clean-up, which ends the tool


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
