"""The narrow Protocols behind which targets and load tools live; those of metric sources: observing.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pytest_staging.model.benchmark import NO_LIMITS, ContainerLimits, Load
from pytest_staging.model.building import Image
from pytest_staging.model.placing import LoadPart, Need, Place
from pytest_staging.model.version import ModeSpec


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to run: arguments (never a shell line), extra environment, folder, and where its output goes."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    echo: Callable[[bytes], None] | None = None


@dataclass(frozen=True, kw_only=True)
class CpuTime:
    """Seconds that a group of processes ran, and waited for a CPU while ready to run (None: not told).

    `parts` tells those of several machines apart.
    """

    used_s: float
    waited_s: float | None
    parts: Mapping[str, CpuTime] = field(default_factory=dict)


class Process(Protocol):
    """A started program, with everything that it started in turn."""

    def poll(self) -> int | None:
        """Exit status (negative: killed by that signal), or None while it runs."""
        ...

    def stop(self, grace_s: float) -> str:
        """Ends the whole group: asks, waits `grace_s`, kills. Says how it went. May be called twice."""
        ...

    def cpu_time(self) -> CpuTime | None:
        """Of the group so far; None when it cannot be read."""
        ...


class CommandRunner(Protocol):
    """Whatever can run a program to its end."""

    def run(self, command: Command, deadline_s: float) -> int | None:
        """Exit status; None when the deadline passed and the program, with all it started, was killed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A version in one mode that is to run as a cell's service; its output goes to `log`."""

    campaign_id: str
    cell_id: str
    image: Image
    mode: ModeSpec
    snapshot: Path
    log: Path
    environment: Mapping[str, str]
    limits: ContainerLimits = NO_LIMITS


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a service has used since it began: CPU seconds, and how often its threads gave up the CPU or lost it.

    `switches` are those two counts, voluntary and involuntary, of each thread that lives, by its id: a thread takes its
    counts along when it ends. `resident_bytes` is what it holds now. None where that cannot be told.
    """

    cpu_s: float | None = None
    switches: Mapping[int, tuple[int, int]] | None = None
    resident_bytes: int | None = None


class Service(Protocol):
    """A deployed service; not yet healthy when it is returned."""

    base_url: str

    def poll(self) -> int | None:
        """Exit status (negative: killed by that signal), or None while it runs. Raises EngineLost."""
        ...

    def ending(self) -> str:
        """How it ended, for a sentence that begins with "the service": `ended with status 3`. Its log is whole then."""
        ...

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """Asks, waits `grace_s`, kills, removes; says how it went. `keep` leaves its remains to be looked at.

        May be called twice.
        """
        ...

    def peak_resident_bytes(self) -> int | None:
        """Largest memory so far; None when it cannot be read."""
        ...

    def usage(self) -> Usage | None:
        """CPU time and context switches so far; None when nothing of it can be read. Asked from a thread of its own."""
        ...

    def owns_endpoint(self) -> bool | None:
        """Whether it is this service that answers at base_url; None when that cannot be told."""
        ...


@runtime_checkable
class StackedService(Protocol):
    """A service among others that were started with it."""

    def reach(self, url: str) -> str:
        """The same URL as it is reached from here, when its host is one of those; else the URL itself."""
        ...


class PlannedTarget(Protocol):
    """What planning asks of the place where cells will run."""

    name: str

    def require_ready(self) -> None:
        """Raises ToolMissing (EngineMissing) when no cell could run here, with what to install or start."""
        ...

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        """Why a mode cannot run here (`has no image`), or None."""
        ...


@runtime_checkable
class PinningTarget(Protocol):
    """A target whose cells also depend on files of the workspace, which a campaign pins."""

    def pin(self) -> Mapping[str, str]:
        """SHA-256 of each, by its path in the workspace."""
        ...


class Target(PlannedTarget, Protocol):
    """A place where cells run. One cell at a time: the lease is exclusive on the host, across campaigns."""

    def lease(self, holder: str, timeout_s: float) -> AbstractContextManager[None]:
        """Raises LeaseTimeout. Leftovers of a dead holder are ended before this returns."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """CPU, kernel, memory and load average of the host, now."""
        ...

    def deploy(self, deployment: Deployment) -> Service:
        """Starts a version. Raises ServiceFailed when it cannot be started at all."""
        ...

    def start(self, command: Command) -> Process:
        """Starts a program beside the service: the load tool."""
        ...


class HostTarget(Target, Protocol):
    """A target that reaches its place over a connection."""

    def close(self) -> None:
        """Ends the connection; the next use makes one again."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """What a load tool is asked to do. `folder` is where it may write; `bodies` are the functions' payload files.

    When the file `until` appears, the load ends at the epoch instant that it holds, and not later than planned.
    `places` are the generators that send it, none for this machine; their processes add up to the load's.
    """

    base_url: str
    load: Load
    bodies: Mapping[str, Path]
    folder: Path
    script: Path | None = None
    until: Path | None = None
    places: Sequence[Place] = ()


@dataclass(frozen=True, kw_only=True)
class LoadCommand:
    """How to run the tool: `ready_file` appears with the epoch instant at which all users send.

    `cpus` is how many CPUs it can use at most; None is all that there are. `live` are CSV files that grow while it
    runs; their first columns are a request's start (epoch seconds) and its latency (ms). Where generators send it,
    `parts` are what runs there, out of the files `inputs`, and `command` is the first of them.
    """

    command: Command
    ready_file: Path
    deadline_s: float
    cpus: float | None = None
    live: Sequence[Path] = ()
    parts: Sequence[LoadPart] = ()
    inputs: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How an open load kept to its rate: requests (or a script's iterations) per second, wanted and made.

    `dropped` were never sent, `late` were sent after they were due; None where the tool cannot tell.
    `from_intended_start` says whether latencies count from the instant at which a request was due.
    """

    intended_rps: float
    achieved_rps: float
    dropped: int | None = None
    late: int | None = None
    from_intended_start: bool = False


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """Raw outcome of the load window: sorted latencies in ms of successful requests, counts of requests started.

    A tool that keeps no latencies gives `percentiles_ms` (`p50`, `p95`, `p99`) and leaves `latencies_ms` empty;
    `missing` says why one is not there. `duration_s` is set where the tool counted over other seconds than those.
    """

    latencies_ms: Sequence[float]
    requests: int
    failures: int
    first_error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    percentiles_ms: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    duration_s: float | None = None
    pace: Pace | None = None


class LoadTool(Protocol):
    """Builds the command and parses the output; targets execute.

    `tells_live` says whether its commands have `live` files, and heed a request's `until`.
    """

    name: str
    tells_live: bool

    def version(self) -> str:
        """Raises ToolMissing with what to install, ToolUnsupported when the version there is not known to work."""
        ...

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        """Why this tool cannot make that load with those functions (`makes closed load only`), or None."""
        ...

    def need(self) -> Need | None:
        """What it needs on a generator; None when it runs on this machine only. Raises ToolMissing."""
        ...

    def build_command(self, request: LoadRequest) -> LoadCommand:
        """Writes what the tool needs into the request's folder. Raises LoadUnfit, ToolMissing, LoadFailed."""
        ...

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        """Raises LoadFailed. The window is in epoch seconds."""
        ...


PhaseListener = Callable[[str, str], None]
"""Called with (cell id, phase) as a cell moves on."""
