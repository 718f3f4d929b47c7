"""The plan of `driver.py`, which runs a tool beside the service, and the record that it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from pytest_staging import durable
from pytest_staging.loadtools.reading import count, load_json, mapping, number
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import Command, LoadCommand, LoadRequest

DRIVER = Path(__file__).parent / "driver.py"
STARTUP_DEADLINE_S = 60.0
DRAIN_MARGIN_S = 10.0
READY = "load-ready"
EXIT = "load-exit.json"
PLAN = "load-plan.json"
LOG = "load.log"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One run of the tool, `at_s` seconds after the first began; a `signal` ends it after `seconds`.

    A phase that SIGKILL ends is a warm-up: nothing is read from it. `beside` are further processes that start and end
    with it; only the last phase may have them, and no signal ends it then.
    """

    argv: Sequence[str]
    beside: Sequence[Sequence[str]] = ()
    at_s: float = 0.0
    seconds: float | None = None
    signal: Signals | None = None


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What the driver is to do. `accepted` statuses are no failures, `meanings` are said beside the others.

    `apis` are the addresses of paused k6, one per process; `total_s` is how long the tool runs; a tool that writes its
    ready file itself has `says_ready` false. `ready_after_s` is how much longer than asked for the tool warms up: its
    least may be more.
    `output` is the file for what the tool prints, where that is parsed; `notes` are for whoever parses.
    """

    tool: str
    phases: Sequence[Phase]
    total_s: float
    env: Mapping[str, str] = field(default_factory=dict)
    accepted: Sequence[int] = (0,)
    meanings: Mapping[int, str] = field(default_factory=dict)
    apis: Sequence[str] = ()
    says_ready: bool = True
    ready_after_s: float = 0.0
    output: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How the tool ended: its own exit status (negative: that signal), and when its measured run began and ended.

    `rows` is how many requests it says that it recorded. `process` is which of several (from 1) it is about.
    """

    status: int
    started_at_s: float
    ended_at_s: float
    rows: int | None = None
    process: int | None = None


def build_driven(
    request: LoadRequest, drive: Drive, stale: Sequence[str] = (), cpus: float | None = None
) -> LoadCommand:
    """The command that runs the plan. `stale` files of an earlier attempt are removed, so that none is read again.

    `cpus` is how many the tool can use at most.
    """
    folder = request.folder
    for name in (READY, EXIT, *stale):
        (folder / name).unlink(missing_ok=True)
    plan = {
        "tool": drive.tool,
        "phases": [_planned(phase) for phase in drive.phases],
        "ready_file": str(folder / READY),
        "exit_file": str(folder / EXIT),
        "accepted": list(drive.accepted),
        "meanings": {str(status): text for status, text in drive.meanings.items()},
        "apis": list(drive.apis),
        "says_ready": drive.says_ready,
        "ready_after_s": drive.ready_after_s,
        "output_file": str(folder / drive.output) if drive.output else None,
        "notes": dict(drive.notes),
    }
    (folder / PLAN).write_text(json.dumps(plan, indent=2))
    # -I and -S: neither the user's folders nor their packages change how the driver runs, and it starts faster.
    argv = [sys.executable, "-I", "-S", str(DRIVER), str(folder / PLAN)]
    command = Command(argv=argv, cwd=folder, log=folder / LOG, env=drive.env)
    deadline_s = STARTUP_DEADLINE_S + drive.total_s + request.load.request_timeout_s + DRAIN_MARGIN_S
    return LoadCommand(command=command, ready_file=folder / READY, deadline_s=deadline_s, cpus=cpus)


def _planned(phase: Phase) -> dict[str, Any]:
    argvs = [[*map(str, argv)] for argv in (phase.argv, *phase.beside)]
    return {"argvs": argvs, "at_s": phase.at_s, "seconds": phase.seconds, "signal": phase.signal}


def read_notes(request: LoadRequest, tool: str) -> Mapping[str, Any]:
    """What build_driven noted for this request. Raises LoadFailed."""
    try:
        return mapping(mapping(load_json(request.folder / PLAN, tool), "the plan").get("notes"), "notes")
    except ValueError as error:
        raise LoadFailed(f"{PLAN} of {tool} is broken: {error}") from error


def read_ending(request: LoadRequest, tool: str, accepted: Sequence[int] = (0,), name: str = EXIT) -> Ending:
    """Raises LoadFailed when the tool was killed, failed, or never came to an end: what it wrote is not whole then."""
    path = request.folder / name
    tail = durable.read_tail(request.folder / LOG)
    if not path.exists():
        raise LoadFailed(f"{tool} never came to its end", tail)
    try:
        raw = mapping(load_json(path, tool), "the record")
        ending = Ending(
            status=int(number(raw.get("status"), "status")),
            started_at_s=number(raw.get("started_at_s"), "started_at_s"),
            ended_at_s=number(raw.get("ended_at_s"), "ended_at_s"),
            rows=None if raw.get("rows") is None else count(raw["rows"], "rows"),
            process=None if raw.get("process") is None else count(raw["process"], "process"),
        )
    except ValueError as error:
        raise LoadFailed(f"{path.name} of {tool} is broken: {error}", tail) from error
    tool += f" (process {ending.process})" if ending.process else ""
    if ending.status < 0:
        raise LoadFailed(f"{tool} was killed by signal {-ending.status}", tail)
    if ending.status not in accepted:
        raise LoadFailed(f"{tool} ended with status {ending.status}", tail)
    return ending
