"""One load out of several Locust processes: Locust's own master, and workers that record each for themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_staging.loadtools.addresses import free_addresses
from pytest_staging.loadtools.driving import EXIT, STARTUP_DEADLINE_S, Drive, Phase, build_driven
from pytest_staging.model.ports import LoadCommand, LoadRequest

RECORDING = "requests.csv"
PLAN = "locust-plan.json"
MEANINGS = {74: "what it recorded could not be written", 75: "a worker or some of its users were lost"}


@dataclass(frozen=True, kw_only=True)
class Share:
    """The files of one process: what it recorded, and how it ended. `title` is for messages."""

    title: str
    recording: str = RECORDING
    ending: str = EXIT


def shares_of(processes: int) -> list[Share]:
    """Of the one process; or of each worker and, last, the master."""
    if processes == 1:
        return [Share(title="locust")]
    names = [(f"locust worker {number}", str(number)) for number in range(1, processes + 1)]
    return [
        Share(title=title, recording=f"requests-{name}.csv", ending=f"load-exit-{name}.json")
        for title, name in [*names, ("locust master", "master")]
    ]


def build_shared(
    request: LoadRequest, plan: Mapping[str, object], common: Sequence[str], leading: Sequence[str]
) -> LoadCommand:
    """`common` arguments are for all processes, `leading` ones for the master alone."""
    folder, processes = request.folder, request.load.processes
    *workers, master = shares_of(processes)
    shared = {**plan, **_files(request, master), "workers": [_files(request, worker) for worker in workers]}
    (folder / PLAN).write_text(json.dumps(shared, indent=2))
    host, _, port = free_addresses(1)[0].partition(":")
    argvs = [
        ["env", f"STAGING_LOAD_WORKER={number}", *common, "--worker", "--master-host", host, "--master-port", port]
        for number in range(processes)
    ]
    binding = ["--master-bind-host", host, "--master-bind-port", port, "--expect-workers", str(processes)]
    argvs.append(["env", "--unset=STAGING_LOAD_WORKER", *common, *leading, "--master", *binding])
    drive = Drive(
        tool="locust",
        phases=[Phase(argv=argvs[0], beside=argvs[1:])],
        total_s=request.load.warm_up_s + request.load.duration_s,
        env={
            "STAGING_LOAD_PLAN": str(folder / PLAN),
            "PYTHONUNBUFFERED": "1",
            # Otherwise the load is said to be on after one second, whether all workers have their users or not.
            "LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP": f"{STARTUP_DEADLINE_S:g}",
        },
        meanings=MEANINGS,
        says_ready=False,
    )
    stale = [path.name for pattern in ("requests*.csv", "load-exit-*.json") for path in sorted(folder.glob(pattern))]
    command = build_driven(request, drive, stale=stale, cpus=float(processes))
    return replace(command, live=tuple(folder / worker.recording for worker in workers))


def _files(request: LoadRequest, share: Share) -> dict[str, str]:
    return {
        "requests_file": str(request.folder / share.recording),
        "exit_file": str(request.folder / share.ending),
    }
