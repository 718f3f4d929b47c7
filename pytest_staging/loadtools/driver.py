"""Runs a load tool that knows nothing of cells: says when it sends, keeps its times, and tells its endings apart.

A program of its own, beside the service: `python driver.py PLAN`. Only the standard library, nothing of pytest-staging,
so that a generator host needs no more than Python and the tool. The plan is what `driving.py` writes.
"""

from __future__ import annotations

import contextlib
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
GROUP_POLL_S = 0.02
GO_POLL_S = 0.01
GO_TIMEOUT_S = 60.0
CANNOT_START = 127
STOPPED = 143
INITIALISED = 4
"""k6's own number for "all users are made, and nothing is sent yet"."""
NOT_THERE = (urllib.error.URLError, OSError, ValueError, KeyError, TypeError)
"""What asking an API comes to that does not answer yet."""


def main(plan_path: str) -> int:
    """Exit status of the tool, 0 where the plan accepts it, 127 when it cannot be started."""
    plan = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, _stop)
    record: dict[str, Any] = {"status": None, "started_at_s": None, "ended_at_s": None}
    children: list[subprocess.Popen[bytes]] = []
    try:
        status, number = run_phases(plan, record, children)
    except OSError as error:
        print(f"{plan['tool']}: {error}", file=sys.stderr, flush=True)
        return CANNOT_START
    finally:
        for child in children:
            end(child)
        if plan["output_file"]:
            show(Path(plan["output_file"]))
    record |= {"status": status, "process": number, "ended_at_s": time.time()}
    put(Path(plan["exit_file"]), json.dumps(record) + "\n")
    if status in plan["accepted"]:
        return 0
    meaning = plan["meanings"].get(str(status)) or ending(status)
    which = f" (process {number} of {len(plan['phases'][-1]['argvs'])})" if number else ""
    print(f"{plan['tool']}{which} ended with status {status}: {meaning}", file=sys.stderr, flush=True)
    return status if status > 0 else 128 - status


def run_phases(
    plan: dict[str, Any], record: dict[str, Any], children: list[subprocess.Popen[bytes]]
) -> tuple[int, int | None]:
    """One after the other, each at its instant counted from the first one's start. The last one's status, and which of
    several processes had it."""
    started_s = time.time()
    for number, phase in enumerate(plan["phases"]):
        wait_until(started_s + phase["at_s"])
        together: list[subprocess.Popen[bytes]] = []
        for argv in phase["argvs"]:
            together.append(start(argv, plan["output_file"]))
            children.append(together[-1])
        sending_s = resume(plan, together) if plan["apis"] else time.time()
        if number == 0:
            started_s = sending_s
            if plan["says_ready"]:
                put(Path(plan["ready_file"]), repr(started_s + plan["ready_after_s"]))
        record["started_at_s"] = sending_s
        if len(together) > 1:
            return finish_all(together, plan["accepted"])
        status = finish(together[0], phase, started_s + phase["at_s"])
        if status is not None:
            return status, None
    return 0, None


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


def finish_all(children: list[subprocess.Popen[bytes]], accepted: list[int]) -> tuple[int, int]:
    """Status and number (from 1) of the first that fails, at once: what the others send is another load then.

    When all ended well, of the first whose status is not 0, or 0.
    """
    while True:
        statuses = [child.poll() for child in children]
        ended = [(status, number) for number, status in enumerate(statuses, 1) if status is not None]
        for status, number in ended:
            if status not in accepted:
                return status, number
        if len(ended) == len(children):
            return next((one for one in ended if one[0] != 0), ended[0])
        time.sleep(GROUP_POLL_S)


def resume(plan: dict[str, Any], children: list[subprocess.Popen[bytes]]) -> float:
    """Lets paused k6 go as soon as all users of all of them are made; the epoch instant at which the last was told."""
    apis = plan["apis"]
    for api, child in zip(apis, children, strict=True):
        await_paused(api, child)
    if plan["go_file"]:
        put(Path(plan["prepared_file"]), repr(time.time()))
        wait_until(await_go(Path(plan["go_file"]), children))
    return max(unpause(api, child) for api, child in zip(apis, children, strict=True))


def await_go(path: Path, children: list[subprocess.Popen[bytes]]) -> float:
    """The instant at which the load is to begin on all generators. Raises OSError when nobody says it.

    At once when a tool has ended meanwhile.
    """
    deadline_s = time.monotonic() + GO_TIMEOUT_S
    while not path.exists():
        if any(child.poll() is not None for child in children):
            return 0.0
        if time.monotonic() > deadline_s:
            raise OSError(f"nobody said within {GO_TIMEOUT_S:g} s when the load begins")
        time.sleep(GO_POLL_S)
    return float(path.read_text())


def await_paused(api: str, child: subprocess.Popen[bytes]) -> None:
    """Returns when all its users are made, or when it has ended; the cell's own deadline ends this otherwise."""
    while child.poll() is None:
        with contextlib.suppress(*NOT_THERE):
            state = call(f"{api}/v1/status")["data"]["attributes"]
            if state["paused"] and state["status"] >= INITIALISED:
                return
        time.sleep(API_POLL_S)


def unpause(api: str, child: subprocess.Popen[bytes]) -> float:
    """The epoch instant at which it was told."""
    wanted = {"data": {"type": "status", "id": "default", "attributes": {"paused": False}}}
    while child.poll() is None:
        told_s = time.time()
        with contextlib.suppress(*NOT_THERE):
            call(f"{api}/v1/status", wanted)
            return told_s
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
