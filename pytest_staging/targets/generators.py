"""Hosts that send the load of one measured host, alone or together: a LoadSource."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pytest_staging.model.calibration import Responding
from pytest_staging.model.errors import HOST_GONE, LeaseLost, StagingError, ToolMissing, ToolUnsupported
from pytest_staging.model.placing import Need, Place
from pytest_staging.model.ports import CpuTime, LoadCommand, LoadRequest
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.targets.generator_host import Fit, GeneratorHost
from pytest_staging.targets.generator_load import (
    CELL,
    CPU,
    LOAD_MARK,
    GeneratorLoad,
    GeneratorRun,
    parse_busy,
    parse_cpu,
)
from pytest_staging.targets.remote_lease import HeldLease, take_lease

T = TypeVar("T")
BENCHMARK, TOOLS = "benchmark", "tools"
RESPONDER = "null_responder.py"


class Generators:
    """`hosts` in the order of the inventory, in which they are leased too. `need` is what the tool `tool` needs.

    `tools` is the folder of this machine that holds the programs of our own that run there. `version` is the only one
    of the tool that may send; empty for whichever is there.
    """

    def __init__(self, hosts: Sequence[GeneratorHost], tool: str, need: Need, tools: Path, version: str = "") -> None:
        self.hosts, self._version = list(hosts), version
        self._tool, self._need, self._tools = tool, need, tools.resolve()
        self._held: dict[str, HeldLease] = {}
        self._places: Sequence[Place] = ()

    @property
    def names(self) -> Sequence[str]:
        return [host.name for host in self.hosts]

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """As the Protocol says; what a dead holder left running there is ended."""
        with ExitStack() as stack:
            for host in self.hosts:
                with host.named():
                    held = take_lease(host.host, holder, timeout_s)
                stack.callback(self._give_back, host, held)
                self._held[host.name] = held
                with host.named():
                    held.end_leftovers()
            yield

    def check(self) -> Mapping[str, Fit]:
        """What each has for the tool, asked at once. Raises the error of each that cannot be used, as one."""
        found = at_once(self.hosts, lambda host: _or_error(lambda: host.fit(self._tool, self._need)))
        problems = [one for one in found if isinstance(one, StagingError)]
        if len(problems) == 1:
            raise problems[0]
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ToolMissing(f"{len(problems)} generators cannot be used (staging-manager hosts check):{lines}")
        return {host.name: fit for host, fit in zip(self.hosts, found, strict=True) if isinstance(fit, Fit)}

    def placed(self, request: LoadRequest, folder: Path) -> LoadRequest:
        load = request.load
        folders = {request.folder.resolve(): CELL, folder.resolve(): BENCHMARK, self._tools: TOOLS}
        request.folder.mkdir(parents=True, exist_ok=True)
        self._places = at_once(self.hosts, lambda host: self._place(host, load.processes, folders))
        return replace(request, load=replace(load, processes=load.processes * len(self.hosts)), places=self._places)

    def start(self, load: LoadCommand, request: LoadRequest) -> GeneratorLoad:
        files = {self._counterpart(path): path for path in load.inputs}
        at_once(self.hosts, lambda host: host.bring(files, [CELL]))
        by_name = {host.name: host for host in self.hosts}
        runs = [GeneratorRun(by_name[part.place.name], part, self._lost_reason(part.place.name)) for part in load.parts]
        return GeneratorLoad(runs, load, request.folder, [Path(self._counterpart(path)).name for path in load.inputs])

    @contextmanager
    def responding(self, folder: Path) -> Iterator[Responding]:
        """A service that does nothing, for the one host. Raises LoadFailed, and as `placed`."""
        (host,) = self.hosts
        mark = uuid.uuid4().hex

        def look() -> tuple[CpuTime | None, float | None]:
            with host.named():
                said = host.host.connection.run_script(CPU, f"{LOAD_MARK}={mark}", str(pid), deadline_s=QUICK_S)
            text = said.stdout.decode(errors="replace")
            return parse_cpu(text), parse_busy(text)

        with host.responding(self._tools / RESPONDER, folder / "responder.log", {LOAD_MARK: mark}) as (url, pid):
            yield Responding(url=url, look=look)

    def facts(self) -> Sequence[Mapping[str, Any]]:
        places = {place.name: place for place in self._places}
        return [self._facts_of(host, places.get(host.name)) for host in self.hosts]

    def close(self) -> None:
        for host in self.hosts:
            host.close()

    def _place(self, host: GeneratorHost, processes: int, folders: Mapping[Path, str]) -> Place:
        fit, facts = host.fit(self._tool, self._need), host.facts()
        if self._version and fit.version != self._version:
            raise ToolUnsupported(
                f"generator {host.name}: {self._tool} is {fit.version}, and the campaign began with {self._version}. "
                "Install that there again, or start a new campaign."
            )
        with host.named():
            work = host.work
        return Place(
            name=host.name,
            address=host.peer_address,
            processes=processes,
            python=fit.python,
            program=fit.program,
            ports=host.free_ports(processes + 1),
            cpus=float(str(facts["cpus"] or 1)),
            clock=host.clock(),
            folders={folder: f"{work}/{name}" for folder, name in folders.items()},
        )

    def _counterpart(self, path: Path) -> str:
        """Its path in the folder of the load, which is the same on all of them."""
        place, host = self._places[0], self.hosts[0]
        return place.there(path).removeprefix(f"{host.work}/")

    def _lost_reason(self, name: str) -> Callable[[], str]:
        held = self._held.get(name)
        return held.lost_reason if held else str

    def _give_back(self, host: GeneratorHost, held: HeldLease) -> None:
        self._held.pop(host.name, None)
        with suppress(*HOST_GONE, LeaseLost):  # it runs out by itself
            held.release()

    def _facts_of(self, host: GeneratorHost, place: Place | None) -> Mapping[str, Any]:
        fit, facts = host.fit(self._tool, self._need), host.facts()
        known: dict[str, Any] = {
            "name": host.name,
            "address": host.host.connection.endpoint.address,
            "version": fit.version,
        }
        known |= {"cpu": facts["cpu"], "cpu_count": facts["cpus"], "kernel": facts["kernel"]}
        if place is None:
            return known
        return {
            **known,
            "processes": place.processes,
            "clock_offset_s": round(place.clock.ahead_s, 6),
            "clock_uncertainty_s": round(place.clock.uncertainty_s, 6),
        }


def at_once(hosts: Sequence[GeneratorHost], work: Callable[[GeneratorHost], T]) -> list[T]:
    """Of all, in their order. Raises the first's error when all have ended."""
    with ThreadPoolExecutor(max(1, len(hosts)), "generators") as pool:
        return list(pool.map(work, hosts))


def require_equal(tool: str, fits: Mapping[str, Fit]) -> str:
    """The one version that all have. Raises ToolUnsupported naming those that differ."""
    versions = {name: fit.version for name, fit in fits.items()}
    if len(set(versions.values())) > 1:
        shown = ", ".join(f"{name} has {version}" for name, version in versions.items())
        raise ToolUnsupported(f"the generators have several versions of {tool}: {shown}. Install the same everywhere.")
    return next(iter(versions.values()))


def _or_error(work: Callable[[], T]) -> T | StagingError:
    try:
        return work()
    except StagingError as error:
        return error
