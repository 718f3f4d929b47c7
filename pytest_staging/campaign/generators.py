"""A load tool whose load comes from generators, as far as a campaign is planned with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from pytest_staging.model.benchmark import Load
from pytest_staging.model.errors import ToolUnsupported
from pytest_staging.model.placing import Need
from pytest_staging.model.ports import LoadCommand, LoadRequest, LoadResult, LoadTool


class ToolOnGenerators:
    """`tool` as generators have it. `counts` are how many load each host, 0 for this machine.

    `look` asks them all for their version, which has to be one. Otherwise as the Protocol says.
    """

    def __init__(self, tool: LoadTool, counts: Sequence[int], look: Callable[[], str]) -> None:
        self.name, self.tells_live = tool.name, tool.tells_live
        self._tool, self._counts, self._look = tool, counts, look
        self._version = ""

    def version(self) -> str:
        if not self._version:
            found = self._look()
            if 0 in self._counts and (here := self._tool.version()) != found:
                raise ToolUnsupported(
                    f"some hosts are loaded by generators with {self.name} {found}, others by this machine with "
                    f"{here}. Install the same everywhere."
                )
            self._version = found
        return self._version

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        need = self._tool.need()
        if need is None:
            return "runs on this machine only, and targets.yaml names generators; take those out, or another tool"
        if need.alone and max(self._counts) > 1:
            return f"runs on one generator only, and a host of targets.yaml names {max(self._counts)}"
        if load.warm_up:
            return (
                "tells no latencies while it runs on a generator, which a warm_up until steady needs; give a fixed "
                "warm_up_s"
            )
        shared = [replace(load, processes=load.processes * max(1, count)) for count in sorted(set(self._counts))]
        return next((reason for one in shared if (reason := self._tool.unfit_reason(one, functions))), None)

    def need(self) -> Need | None:
        return self._tool.need()

    def build_command(self, request: LoadRequest) -> LoadCommand:
        return self._tool.build_command(request)

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        return self._tool.parse_output(request, window_start_s, window_end_s)
