"""`command`: any program that makes the load and writes one small JSON file about it (docs/load.md)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from pytest_staging.loadtools.command_result import SCHEMA, parse_result
from pytest_staging.loadtools.driving import READY, Drive, Phase, build_driven, read_ending
from pytest_staging.loadtools.options import alone_reason, options_of
from pytest_staging.loadtools.reading import load_json
from pytest_staging.model.benchmark import Load
from pytest_staging.model.errors import LoadFailed, LoadUnfit, ToolMissing
from pytest_staging.model.ports import LoadCommand, LoadRequest, LoadResult

RESULT, REQUEST = "load-result.json", "load-request.json"
PLACEHOLDERS = ("base_url", "request", "result", "ready", "script")


class CommandTool:
    """The program gets what it needs as placeholders of its argv, or from the file {request}.

    It may say when it sends: with {ready} in its argv it writes the epoch instant there itself; without, its start is
    taken for it. The tool's version is the version of the JSON's shape; the program names itself in the result.
    """

    name = "command"
    tells_live = False

    def version(self) -> str:
        return SCHEMA.rpartition("/")[2]

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        argv = options_of(load).command
        if not argv:
            return "needs load.command: the program and its arguments"
        if "{script}" in " ".join(argv) and not load.script:
            return "has {script} in load.command, and load.script is not set"
        return alone_reason(load)

    def need(self) -> None:
        """What the program needs is not known, so it runs on this machine only."""

    def build_command(self, request: LoadRequest) -> LoadCommand:
        load, folder = request.load, request.folder
        if reason := self.unfit_reason(load, request.bodies):
            raise LoadUnfit(f"command {reason}")
        (folder / REQUEST).write_text(json.dumps(build_request(request), indent=2))
        argv = [_filled(part, request) for part in options_of(load).command]
        program = shutil.which(argv[0])
        if program is None:
            raise ToolMissing(f"load.command names {argv[0]}, which is no program here. Install it, or give its path.")
        drive = Drive(
            tool=Path(program).name,
            phases=[Phase(argv=[program, *argv[1:]])],
            total_s=load.warm_up_s + load.duration_s,
            env={"STAGING_LOAD_REQUEST": str(folder / REQUEST)},
            says_ready=not any("{ready}" in part for part in options_of(load).command),
        )
        return build_driven(request, drive, stale=(RESULT,))

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        read_ending(request, "the load command")
        try:
            return parse_result(load_json(request.folder / RESULT, "the load command"), request.load)
        except ValueError as error:
            raise LoadFailed(f"{RESULT} of the load command is broken: {error}") from error


def build_request(request: LoadRequest) -> Mapping[str, object]:
    """What the program is asked to do: seconds, requests per second, and files to send by function."""
    load = request.load
    return {
        "schema": "staging-load-request/1",
        "base_url": request.base_url,
        "shape": load.shape.value,
        "users": load.users,
        "rate_rps": load.rate,
        "warm_up_s": load.warm_up_s,
        "duration_s": load.duration_s,
        "request_timeout_s": load.request_timeout_s,
        "functions": {name: str(path.resolve()) for name, path in sorted(request.bodies.items())},
        "result": str(request.folder / RESULT),
    }


def _filled(part: str, request: LoadRequest) -> str:
    values = {
        "base_url": request.base_url,
        "request": str(request.folder / REQUEST),
        "result": str(request.folder / RESULT),
        "ready": str(request.folder / READY),
        "script": str(request.script.resolve()) if request.script else "",
    }
    for name in PLACEHOLDERS:
        part = part.replace(f"{{{name}}}", values[name])
    return part
