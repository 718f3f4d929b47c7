"""The narrow Protocols behind which targets, load tools and metric sources live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_staging.model.benchmark import Load
from pytest_staging.model.version import ModeSpec


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to run: arguments (never a shell line), extra environment, folder, and where its output goes."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)


class Process(Protocol):
    """A started program, with everything that it started in turn."""

    def poll(self) -> int | None:
        """Exit status (negative: killed by that signal), or None while it runs."""
        ...

    def stop(self, grace_s: float) -> str:
        """Ends the whole group: asks, waits `grace_s`, kills. Says how it went. May be called twice."""
        ...

    def peak_resident_bytes(self) -> int | None:
        """Largest resident memory so far, summed over the group; None when it cannot be read."""
        ...

    def listens_on(self, port: int) -> bool | None:
        """Whether one of the group's processes holds the listening socket; None when that cannot be told."""
        ...


class Target(Protocol):
    """A place where cells run. One cell at a time: the lease is exclusive on the host, across campaigns."""

    name: str

    def lease(self, holder: str, timeout_s: float) -> AbstractContextManager[None]:
        """Raises LeaseTimeout. Leftovers of a dead holder are ended before this returns."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """CPU, kernel, memory and load average of the host, now."""
        ...

    def free_port(self) -> int: ...

    def address(self) -> str:
        """Host name or address that the service is to listen on and is reached at."""
        ...

    def run(self, command: Command, deadline_s: float) -> int | None:
        """Runs to the end and returns the exit status; None when the deadline passed and the group was killed."""
        ...

    def start(self, command: Command) -> Process: ...


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """What a load tool is asked to do. `folder` is where it may write; `bodies` are the functions' payload files."""

    base_url: str
    load: Load
    bodies: Mapping[str, Path]
    folder: Path
    script: Path | None = None


@dataclass(frozen=True, kw_only=True)
class LoadCommand:
    """How to run the tool: `ready_file` appears with the epoch instant at which all users send."""

    command: Command
    ready_file: Path
    deadline_s: float


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """Raw outcome of the load window: sorted latencies in ms of successful requests, counts of requests started."""

    latencies_ms: Sequence[float]
    requests: int
    failures: int
    first_error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class LoadTool(Protocol):
    """Builds the command and parses the output; targets execute."""

    name: str

    def version(self) -> str:
        """Raises ToolMissing with what to install."""
        ...

    def build_command(self, request: LoadRequest) -> LoadCommand: ...

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        """Raises LoadFailed. The window is in epoch seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the metric sources saw over one load window. `inapplicable` metrics cannot exist in this mode."""

    metrics: Mapping[str, float | None]
    missing: Mapping[str, str]
    inapplicable: tuple[str, ...] = ()


class Sampling(Protocol):
    """One load window under observation."""

    def begin(self) -> None: ...

    def finish(self) -> Reading:
        """Must be called while the service still runs."""
        ...

    def close(self) -> None: ...


class MetricSource(Protocol):
    """What a service says about itself, read beside the load tool."""

    def observe(self, base_url: str, mode: ModeSpec, process: Process, samples: Path) -> Sampling: ...


PhaseListener = Callable[[str, str], None]
"""Called with (cell id, phase) as a cell moves on."""
