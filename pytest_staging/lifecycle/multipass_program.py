"""The multipass CLI: it launches, starts, describes and deletes VMs, and nothing else is asked of it.

Its daemon goes on with a launch whose client was ended (canonical/multipass#455), and lets other commands wait
meanwhile: so a deletion is repeated until the VM is gone, and stays gone for a moment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_staging.model.errors import ToolMissing, VmFailed
from pytest_staging.model.inventory import VmSpec

PROGRAM = "multipass"
ASK_DEADLINE_S = 60.0
LAUNCH_DEADLINE_S = 600.0
START_DEADLINE_S = 180.0
DELETE_DEADLINE_S = 180.0
END_S = 5.0
TICK_S = 0.05
POLL_S = 0.25
SETTLE_S = 5.0
"""So long the VM of a failed launch must stay away: the daemon may still be at it."""
TAIL_LETTERS = 2000


@dataclass(frozen=True)
class Vm:
    """What multipass says about one: its state in its own words (Running, Stopped, Deleted), and its first address."""

    state: str
    address: str


@dataclass(frozen=True)
class _Ended:
    status: int | None
    stdout: str
    said: str


def require_program(host: str) -> None:
    """Raises ToolMissing."""
    if shutil.which(PROGRAM) is None:
        raise ToolMissing(
            f"{host}: multipass is missing, which launches its VM (lifecycle: multipass). Install it with: sudo snap "
            "install multipass (see https://canonical.com/multipass), or give the host an address and no lifecycle."
        )


def describe(vm: str) -> Vm | None:
    """None when there is no such VM. Raises VmFailed when multipass does not answer."""
    ended = _call(["info", vm, "--format", "json"], ASK_DEADLINE_S)
    if ended.status == 0:
        with suppress(ValueError, KeyError, TypeError, IndexError):
            facts: Mapping[str, Any] = json.loads(ended.stdout)["info"][vm]
            return Vm(str(facts["state"]).capitalize(), str([*(facts.get("ipv4") or ()), ""][0]))
    elif "does not exist" in ended.said:
        return None
    raise VmFailed(f"multipass does not tell about the VM {vm}. Does its daemon run? It said: {ended.said}")


def launch(vm: str, spec: VmSpec, cloud_init: str, stop: threading.Event) -> None:
    """Raises VmFailed with the end of what multipass said; what there is of the VM then has to be removed."""
    given = {"name": vm, "cpus": spec.cpus, "memory": f"{spec.memory_gb}G", "disk": f"{spec.disk_gb}G"}
    options = [word for option, value in given.items() for word in (f"--{option}", str(value))]
    options += ["--timeout", f"{LAUNCH_DEADLINE_S:.0f}", "--cloud-init", "-"]
    # Its own limit comes first, because it says what it waited for.
    ended = _call(["launch", *options, spec.image], LAUNCH_DEADLINE_S + 30.0, cloud_init, stop)
    if ended.status != 0:
        raise VmFailed(f"multipass could not launch the VM {vm} ({spec.image}). It said: {ended.said}")


def start(vm: str, stop: threading.Event) -> None:
    """Raises VmFailed."""
    ended = _call(["start", vm], START_DEADLINE_S, stop=stop)
    if ended.status != 0:
        raise VmFailed(f"multipass could not start the VM {vm}. It said: {ended.said}")


def delete(vm: str, settle_s: float = 0.0) -> None:
    """Returns when there is no such VM, and there was none for `settle_s`. Raises VmFailed."""
    until = time.monotonic() + DELETE_DEADLINE_S
    absent_since, problem = None, "nothing"
    while True:
        # Asked once more when the time is over: what multipass was told last may have worked.
        late = time.monotonic() > until
        try:
            if describe(vm) is None:
                absent_since = absent_since or time.monotonic()
                if time.monotonic() - absent_since >= settle_s:
                    return
            else:
                absent_since = None
                problem = _call(["delete", "--purge", vm], ASK_DEADLINE_S).said
        except VmFailed as error:
            absent_since, problem = None, str(error)
        if late and absent_since is None:
            raise VmFailed(
                f"the VM {vm} could not be deleted within {DELETE_DEADLINE_S:g} s. Do it with: multipass delete "
                f"--purge {vm}. It said: {problem}"
            )
        time.sleep(POLL_S)


def _call(arguments: list[str], deadline_s: float, feed: str = "", stop: threading.Event | None = None) -> _Ended:
    """The program to its end; status None when its time was over, or it was told to stop.

    In a session of its own: Ctrl-C is for us, who delete what it began.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(feed.encode())
        given.seek(0)
        process = subprocess.Popen([PROGRAM, *arguments], stdin=given, stdout=out, stderr=err, start_new_session=True)
        try:
            status = _wait(process, time.monotonic() + deadline_s, stop)
        finally:
            _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
    said = (texts[1] or texts[0])[-TAIL_LETTERS:]
    if status is None:
        why = "it was told to stop" if stop and stop.is_set() else f"it was not done after {deadline_s:g} s"
        said = f"{said or 'nothing'} ({why})"
    return _Ended(status, texts[0], said or "nothing")


def _wait(process: subprocess.Popen[bytes], until: float, stop: threading.Event | None) -> int | None:
    while time.monotonic() < until and not (stop and stop.is_set()):
        with suppress(subprocess.TimeoutExpired):
            return process.wait(TICK_S)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
