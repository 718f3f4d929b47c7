"""The plan of `driver.py`, which runs a tool beside the service, and the record that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from pytest_staging import durable
from pytest_staging.loadtools.placing import own_name, places_of
from pytest_staging.loadtools.reading import count, load_json, mapping, number
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.placing import LoadPart, Place
from pytest_staging.model.ports import Command, LoadCommand, LoadRequest

DRIVER = Path(__file__).parent / "driver.py"
STARTUP_DEADLINE_S = 60.0
DRAIN_MARGIN_S = 10.0
READY = "load-ready"
PREPARED = "load-prepared"
GO = "load-go"
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
    least may be more. With `awaits_go` it begins together with the drivers of other generators.
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
    awaits_go: bool = False
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
    request: LoadRequest,
    drive: Drive,
    stale: Sequence[str] = (),
    cpus: float | None = None,
    inputs: Sequence[Path] = (),
) -> LoadCommand:
    """The command that runs the plan in one place. `stale` files of an earlier attempt are removed, so that none is
    read again.

    `cpus` is how many the tool can use at most, `inputs` are the files that it reads.
    """
    (place,) = places_of(request)
    return build_spread(request, [(place, drive, cpus)], stale, inputs)


def build_spread(
    request: LoadRequest,
    drives: Sequence[tuple[Place, Drive, float | None]],
    stale: Sequence[str] = (),
    inputs: Sequence[Path] = (),
) -> LoadCommand:
    """As `build_driven`, for one drive on each of several places."""
    folder, places = request.folder, [place for place, _, _ in drives]
    older = [path.name for name in ("load-exit@*.json", "load-ready@*") for path in sorted(folder.glob(name))]
    for name in (READY, EXIT, *older, *stale):
        (folder / name).unlink(missing_ok=True)
    parts, plans = [], []
    for place, drive, cpus in drives:
        plan, ready = folder / own_name(PLAN, place, places), own_name(READY, place, places)
        plan.write_text(json.dumps(_plan_of(request, drive, place, places), indent=2))
        plans.append(plan)
        parts.append(
            LoadPart(
                place=place,
                # -I and -S: neither the user's folders nor their packages change how the driver runs, and it starts
                # faster.
                argv=[place.python, "-I", "-S", place.there(DRIVER), place.there(plan)],
                env=drive.env,
                log=folder / own_name(LOG, place, places),
                ready=ready if drive.says_ready or place is places[0] else None,
                prepared=own_name(PREPARED, place, places) if drive.awaits_go else None,
                go=own_name(GO, place, places) if drive.awaits_go else None,
                cpus=cpus,
            )
        )
    total_s = max(drive.total_s for _, drive, _ in drives)
    return LoadCommand(
        command=Command(argv=parts[0].argv, cwd=folder, log=parts[0].log, env=parts[0].env),
        ready_file=folder / READY,
        deadline_s=STARTUP_DEADLINE_S + total_s + request.load.request_timeout_s + DRAIN_MARGIN_S,
        cpus=parts[0].cpus,
        parts=parts if request.places else (),
        inputs=(DRIVER, *plans, *inputs) if request.places else (),
    )


def _plan_of(request: LoadRequest, drive: Drive, place: Place, places: Sequence[Place]) -> dict[str, Any]:
    def there(name: str) -> str:
        return place.there(request.folder / own_name(name, place, places))

    return {
        "tool": drive.tool,
        "phases": [_planned(phase) for phase in drive.phases],
        "ready_file": there(READY),
        "prepared_file": there(PREPARED),
        "go_file": there(GO) if drive.awaits_go else None,
        "exit_file": there(EXIT),
        "accepted": list(drive.accepted),
        "meanings": {str(status): text for status, text in drive.meanings.items()},
        "apis": list(drive.apis),
        "says_ready": drive.says_ready,
        "ready_after_s": drive.ready_after_s,
        "output_file": place.there(request.folder / drive.output) if drive.output else None,
        "notes": dict(drive.notes),
    }


def _planned(phase: Phase) -> dict[str, Any]:
    argvs = [[*map(str, argv)] for argv in (phase.argv, *phase.beside)]
    return {"argvs": argvs, "at_s": phase.at_s, "seconds": phase.seconds, "signal": phase.signal}


def read_notes(request: LoadRequest, tool: str) -> Mapping[str, Any]:
    """What build_driven noted for this request. Raises LoadFailed."""
    name = own_name(PLAN, request.places[0], request.places) if request.places else PLAN
    try:
        return mapping(mapping(load_json(request.folder / name, tool), "the plan").get("notes"), "notes")
    except ValueError as error:
        raise LoadFailed(f"{name} of {tool} is broken: {error}") from error


def read_endings(request: LoadRequest, tool: str, accepted: Sequence[int] = (0,)) -> list[Ending]:
    """As `read_ending`, of every generator's driver, or of the only one."""
    if len(request.places) < 2:
        return [read_ending(request, tool, accepted)]
    return [
        read_ending(request, f"{tool} on {place.name}", accepted, own_name(EXIT, place, request.places))
        for place in request.places
    ]


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
