"""One load out of several Locust processes: Locust's own master, and workers that record each for themselves.

Workers may run on several generators; the master runs on the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_staging.loadtools.addresses import free_addresses
from pytest_staging.loadtools.driving import EXIT, READY, STARTUP_DEADLINE_S, Drive, Phase, build_spread
from pytest_staging.loadtools.placing import clock_of, numbered, own_name
from pytest_staging.model.placing import Place
from pytest_staging.model.ports import LoadCommand, LoadRequest

RECORDING = "requests.csv"
PLAN = "locust-plan.json"
MEANINGS = {74: "what it recorded could not be written", 75: "a worker or some of its users were lost"}
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"


@dataclass(frozen=True, kw_only=True)
class Share:
    """The files of one process: what it recorded, and how it ended, by a clock that is `ahead_s` ahead of this one.

    `title` is for messages.
    """

    title: str
    recording: str = RECORDING
    ending: str = EXIT
    ahead_s: float = 0.0


def shares_of(processes: int, places: Sequence[Place] = ()) -> list[Share]:
    """Of the one process; or of each worker and, last, the master."""
    clocks = [place.clock.ahead_s for place, numbers in numbered(places) for _ in numbers] or [0.0] * processes
    if processes == 1:
        return [Share(title="locust", ahead_s=clocks[0])]
    names = [(f"locust worker {number}", str(number)) for number in range(1, processes + 1)]
    return [
        Share(title=title, recording=f"requests-{name}.csv", ending=f"load-exit-{name}.json", ahead_s=ahead_s)
        for (title, name), ahead_s in zip([*names, ("locust master", "master")], [*clocks, clocks[0]], strict=True)
    ]


def build_shared(
    request: LoadRequest,
    places: Sequence[Place],
    plans: Sequence[Mapping[str, object]],
    common: Sequence[Sequence[str]],
    leading: Sequence[str],
    inputs: Sequence[Path],
) -> LoadCommand:
    """Of each place there is a plan, and `common` arguments for its processes; `leading` ones are for the master."""
    folder, processes = request.folder, request.load.processes
    master = places[0]
    port = str(master.ports[0]) if request.places else free_addresses(1)[0].rpartition(":")[2]
    drives, written = [], []
    for (place, numbers), plan, shared in zip(numbered(places), plans, common, strict=True):
        path = folder / own_name(PLAN, place, places)
        path.write_text(json.dumps(_shared_plan(request, places, place, plan), indent=2))
        written.append(path)
        meets = LOOPBACK if place is master else master.address
        argvs = [
            ["env", f"STAGING_LOAD_WORKER={number}", *shared, "--worker", "--master-host", meets, "--master-port", port]
            for number in numbers
        ]
        if place is master:
            binding = ["--master-bind-host", LOOPBACK if len(places) == 1 else EVERYWHERE, "--master-bind-port", port]
            binding += ["--expect-workers", str(processes)]
            argvs.append(["env", "--unset=STAGING_LOAD_WORKER", *shared, *leading, "--master", *binding])
        drives.append((place, _drive(request, place.there(path), argvs), float(len(numbers))))
    stale = [path.name for pattern in ("requests*.csv", "load-exit-*.json") for path in sorted(folder.glob(pattern))]
    command = build_spread(request, drives, stale, [*written, *inputs])
    return replace(command, live=tuple(folder / share.recording for share in shares_of(processes)[:-1]))


def _shared_plan(
    request: LoadRequest, places: Sequence[Place], place: Place, plan: Mapping[str, object]
) -> Mapping[str, object]:
    *workers, master = shares_of(request.load.processes)
    ready = place.there(request.folder / own_name(READY, places[0], places))
    return {
        **plan,
        **_files(request, place, master),
        "ready_file": ready,
        "workers": [_files(request, place, worker) for worker in workers],
        # The master says by its own clock when the schedule begins.
        "ahead_s": place.clock.ahead_s - clock_of(request, 0),
    }


def _drive(request: LoadRequest, plan: str, argvs: Sequence[Sequence[str]]) -> Drive:
    return Drive(
        tool="locust",
        phases=[Phase(argv=argvs[0], beside=argvs[1:])],
        total_s=request.load.warm_up_s + request.load.duration_s,
        env={
            "STAGING_LOAD_PLAN": plan,
            "PYTHONUNBUFFERED": "1",
            # Otherwise the load is said to be on after one second, whether all workers have their users or not.
            "LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP": f"{STARTUP_DEADLINE_S:g}",
        },
        meanings=MEANINGS,
        says_ready=False,
    )


def _files(request: LoadRequest, place: Place, share: Share) -> dict[str, str]:
    return {
        "requests_file": place.there(request.folder / share.recording),
        "exit_file": place.there(request.folder / share.ending),
    }
