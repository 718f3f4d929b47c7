"""What sends the load: tools, the machines that they run on, and what is known of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_staging.calibrations import combined, find_calibration, state_folder
from pytest_staging.campaign.calibrating import machine_of
from pytest_staging.campaign.generators import ToolOnGenerators
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, HostSpec
from pytest_staging.model.ports import LoadTool
from pytest_staging.wiring.tables import LOAD_TOOLS, load_adapter

if TYPE_CHECKING:
    from pytest_staging.targets.generators import Generators


def make_generator(slots: int | None) -> Callable[[float], AbstractContextManager[None]]:
    """What leases this machine as the source of load for hosts."""
    from pytest_staging.targets.generator import GeneratorSlots
    from pytest_staging.targets.local import LocalTarget

    return GeneratorSlots(LocalTarget(), slots).lease


def make_load_tool(name: str) -> LoadTool:
    """Raises UsageProblem naming the known tools."""
    return cast(LoadTool, load_adapter(LOAD_TOOLS, "load.tool", name)())


def load_tools(hosts: Mapping[str, HostSpec], generators: Mapping[str, GeneratorSpec]) -> Callable[[str], LoadTool]:
    """`make_load_tool` for a campaign on these hosts: a tool is what their generators have."""
    counts = [len(host.generators) for host in hosts.values()]
    if not any(counts):
        return make_load_tool

    def make(name: str) -> LoadTool:
        tool = make_load_tool(name)
        return ToolOnGenerators(tool, counts, lambda: _version_there(tool, generators))

    return make


def make_generators(
    names: Iterable[str], generators: Mapping[str, GeneratorSpec], tool: LoadTool, version: str = ""
) -> Generators:
    """Those of the names, in the order of the inventory; `version` is the tool's if it is pinned.

    Raises UsageProblem for a tool that cannot run there.
    """
    from pytest_staging import loadtools
    from pytest_staging.targets.generator_host import GeneratorHost
    from pytest_staging.targets.generators import Generators

    wanted, need = set(names), tool.need()
    if need is None:
        raise UsageProblem(f"{tool.name} runs on this machine only, and not on {', '.join(sorted(wanted))}.")
    hosts = [GeneratorHost(name, spec) for name, spec in generators.items() if name in wanted]
    return Generators(hosts, tool.name, need, Path(loadtools.__path__[0]), version)


def calibration_there(generators: Generators, tool: Mapping[str, str], processes: int) -> Calibration | None:
    """Of generators together, or None unless it is known of each. Raises WorkspaceError, ConnectionLost."""
    folder, given = state_folder(), (tool["name"], tool["version"])
    found = [find_calibration(folder, *given, host.machine, processes, host.name) for host in generators.hosts]
    return combined(found)


def _version_there(tool: LoadTool, generators: Mapping[str, GeneratorSpec]) -> str:
    from pytest_staging.targets.generators import require_equal

    every = make_generators(generators, generators, tool)
    try:
        return require_equal(tool.name, every.check())
    finally:
        every.close()


def calibration_of(tool: Mapping[str, str], processes: int) -> Calibration | None:
    """Of a load tool by name and version, in so many processes on this machine, or None. Raises WorkspaceError."""
    from pytest_staging.targets.local import LocalTarget

    machine = machine_of(LocalTarget().facts())
    return find_calibration(state_folder(), tool["name"], tool["version"], machine, processes)
