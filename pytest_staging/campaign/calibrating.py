"""What a load tool can do on this machine: its floor and its capacity, against a service that does nothing."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from pytest_staging.campaign.health import GeneratorUse, use_of
from pytest_staging.campaign.loading import POLL_S, RunningLoad
from pytest_staging.campaign.results import compute_metrics
from pytest_staging.model.benchmark import Benchmark, Load, LoadShape
from pytest_staging.model.calibration import Calibration, Responding
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import Command, LoadCommand, LoadRequest, LoadResult, LoadTool, Process

START_DEADLINE_S = 10.0
WARM_UP_S = 1.0
MIN_USERS = 16
FLOOR = ("p50", "p95", "p99")


class CalibrationSite(Protocol):
    """The machine whose load is measured."""

    def placed(self, request: LoadRequest, folder: Path) -> LoadRequest:
        """As a LoadSource says."""
        ...

    def start(self, load: LoadCommand, request: LoadRequest) -> Process:
        """As a LoadSource says."""
        ...

    def responding(self, folder: Path) -> AbstractContextManager[Responding]:
        """A service there that does nothing; `folder` is a place here for its log. Raises LoadFailed."""
        ...


@dataclass(frozen=True)
class Calibrating:
    """Measures `tool` with the benchmark's functions at `site`; `folder` holds their payloads.

    `version` is that of the tool there, None for what is here.
    """

    tool: LoadTool
    benchmark: Benchmark
    folder: Path
    site: CalibrationSite
    duration_s: float = 5.0
    version: str | None = None

    def measure(self, machine: str, say: Callable[[str], None]) -> Calibration:
        """Floor with one user, capacity with many. Raises LoadFailed, also when others had the machine."""
        version = self.version or self.tool.version()
        with (
            tempfile.TemporaryDirectory(prefix="staging-calibrate-") as name,
            self.site.responding(Path(name)) as there,
        ):
            say(f"{self.tool.name} {version}: floor, 1 user for {self.duration_s:g} s")
            alone, _ = self._run(there, 1, Path(name, "floor"))
            users = max(MIN_USERS, self.benchmark.load.users)
            say(f"{self.tool.name} {version}: capacity, {users} users for {self.duration_s:g} s")
            crowd, cpus = self._run(there, users, Path(name, "capacity"))
        metrics = compute_metrics(alone, self.duration_s)
        return Calibration(
            tool=self.tool.name,
            tool_version=version,
            processes=self.benchmark.load.processes,
            machine=machine,
            measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            floor_ms={name: value for name in FLOOR if (value := metrics[name]) is not None},
            capacity_rps=round(crowd.requests / (crowd.duration_s or self.duration_s), 1),
            capacity_cpus=round(cpus, 2),
        )

    def _run(self, there: Responding, users: int, folder: Path) -> tuple[LoadResult, float]:
        """Its result, and the CPUs that it used."""
        folder.mkdir()
        asked = LoadRequest(base_url=there.url, load=self._load(users), bodies=self._bodies(), folder=folder)
        request = self.site.placed(asked, self.folder)
        load = self.tool.build_command(request)
        process = self.site.start(load, request)
        try:
            running = RunningLoad(load, process, lambda: None)
            warm_at_s = running.await_ready() + WARM_UP_S
            running.await_instant(warm_at_s)
            began_s, before = time.monotonic(), there.look()
            use = running.watch_use(warm_at_s + self.duration_s)
            seconds, after = time.monotonic() - began_s, there.look()
            running.await_end()
        finally:
            process.stop(0.0)
        result = self.tool.parse_output(request, warm_at_s, warm_at_s + self.duration_s)
        if result.failures or not result.requests:
            raise LoadFailed(f"{self.tool.name} did not get its answers from a service that does nothing", str(result))
        theirs = use_of(before[0], after[0], seconds, None)
        busy = None if before[1] is None or after[1] is None else (after[1] - before[1]) / seconds
        if reason := busy_reason(use, theirs, busy, self.benchmark.load.generator_limits.wait_share):
            raise LoadFailed(reason)
        return result, use.cpus or 0.0

    def _load(self, users: int) -> Load:
        return replace(
            self.benchmark.load,
            shape=LoadShape.CLOSED,
            rate=None,
            script=None,
            users=users,
            processes=min(self.benchmark.load.processes, users),
            warm_up_s=WARM_UP_S,
            duration_s=self.duration_s,
        )

    def _bodies(self) -> Mapping[str, Path]:
        return {name: self.folder / self.benchmark.payloads[name] for name in self.benchmark.selected_functions}


@dataclass(frozen=True)
class LocalSite:
    """This machine; `run` starts a program here, `busy_s` says how long its CPUs have been busy."""

    run: Callable[[Command], Process]
    busy_s: Callable[[], float | None]

    def placed(self, request: LoadRequest, folder: Path) -> LoadRequest:
        """Here, where all the files are."""
        return request

    def start(self, load: LoadCommand, request: LoadRequest) -> Process:
        """Beside pytest."""
        return self.run(load.command)

    @contextmanager
    def responding(self, folder: Path) -> Iterator[Responding]:
        """As the Protocol says."""
        port_file, log = folder / "port", folder / "responder.log"
        processes = max(1, (os.cpu_count() or 1) // 2)
        argv = [sys.executable, "-m", "pytest_staging.loadtools.null_responder", str(port_file), str(processes)]
        process = self.run(Command(argv=argv, cwd=folder, log=log))
        try:
            deadline = time.monotonic() + START_DEADLINE_S
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LoadFailed("the service that does nothing did not start", log.read_text())
                time.sleep(POLL_S)
            url = f"http://127.0.0.1:{port_file.read_text()}"
            yield Responding(url=url, look=lambda: (process.cpu_time(), self.busy_s()))
        finally:
            process.stop(0.0)


def busy_reason(tool: GeneratorUse, service: GeneratorUse, busy: float | None, limit: float) -> str | None:
    """Why the load says nothing of the tool, or None; `busy` are the CPUs of the machine that anything used.

    At its capacity a tool and the service wait for each other's CPU too, also on an idle machine. So only as much of
    their waiting counts as others used.
    """
    if busy is None or tool.cpus is None or service.cpus is None or tool.waited is None or service.waited is None:
        return None
    lost = min(tool.waited + service.waited, busy - tool.cpus - service.cpus)
    if lost <= limit:
        return None
    return (
        f"the machine was busy: in each second of load, the tool and the service that does nothing waited {lost:.2f} s "
        f"for CPUs that others had, and load.generator_limits.wait_share allows {limit:g}. Nothing was stored. Stop "
        "what else runs there, and calibrate again"
    )


def machine_of(facts: Mapping[str, Any]) -> str:
    """A name for what a calibration holds on: the same host with the same CPUs."""
    return f"{facts['name']}: {facts['cpus']} x {facts['cpu']}"
