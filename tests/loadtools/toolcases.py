"""Every load tool as the contract suite sees it: how it is asked, what it needs, and the files that it is read from."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from loading import make_request

from pytest_staging.loadtools.command import CommandTool
from pytest_staging.loadtools.h2load import H2loadTool
from pytest_staging.loadtools.k6 import K6Tool
from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.loadtools.wrk import WrkTool
from pytest_staging.model.benchmark import Load
from pytest_staging.model.ports import LoadRequest, LoadResult, LoadTool
from pytest_staging.stats.summary import percentile

HERE = Path(__file__).parent
DATA = HERE / "data"
LOADER = HERE / "loader.py"


@dataclass(frozen=True, kw_only=True)
class FullLoad(Load):
    """A load with the fields that only some tools read."""

    exact_percentiles: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """`outputs` are the files that are parsed; `open_load` says whether the tool can make it."""

    id: str
    make: Callable[[], LoadTool]
    outputs: tuple[str, ...]
    program: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    open_load: bool = True

    @property
    def processes(self) -> int:
        """How many share the load, and so the least number of users."""
        return dict(self.options).get("processes", 1)

    def tool(self) -> LoadTool:
        """Skips when its program is not here; where the lab is promised only k6 may be missing."""
        if self.program and not has_program(self.program):
            give_up(f"{self.program} is not installed", exempt=self.program == "k6")
        return self.make()

    def request(self, folder: Path, url: str, **load: Any) -> LoadRequest:
        return full_request(folder, url, **{**dict(self.options), "duration_s": 1.0, **load})


COMMAND = (sys.executable, str(LOADER), "{request}", "{ready}")
CASES = [
    Case(id="locust", make=LocustTool, outputs=("requests.csv",)),
    Case(
        id="locust-2",
        make=LocustTool,
        options=(("processes", 2),),
        outputs=("requests-1.csv", "requests-2.csv", "load-exit-1.json", "load-exit-2.json"),
    ),
    Case(id="k6", make=K6Tool, program="k6", outputs=("k6-summary.json",)),
    Case(
        id="k6-points",
        make=K6Tool,
        program="k6",
        options=(("exact_percentiles", True),),
        outputs=("k6-points.json", "k6-summary.json"),
    ),
    Case(
        id="k6-2",
        make=K6Tool,
        program="k6",
        options=(("processes", 2),),
        outputs=("k6-points-0.json", "k6-points-1.json", "k6-summary-0.json", "k6-summary-1.json"),
    ),
    Case(id="wrk", make=WrkTool, program="wrk", outputs=("wrk-report.json",), open_load=False),
    Case(id="h2load", make=H2loadTool, program="h2load", outputs=("h2load-requests.tsv",)),
    Case(id="command", make=CommandTool, outputs=("load-result.json",), options=(("command", COMMAND),)),
]


def full_request(folder: Path, url: str, script: Path | None = None, **load: Any) -> LoadRequest:
    request = make_request(folder, url)
    values = {one.name: getattr(request.load, one.name) for one in fields(request.load)}
    values |= {"script": script.name if script else None, **load}
    return replace(request, load=FullLoad(**values), script=script)


def has_program(name: str) -> bool:
    return bool(shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent)))


def give_up(reason: str, exempt: bool = False) -> NoReturn:
    """Skips, or fails where STAGING_REQUIRE_LAB=1 promises everything; `exempt` is what cannot be had everywhere."""
    if os.environ.get("STAGING_REQUIRE_LAB") == "1" and not exempt:
        pytest.fail(reason)
    pytest.skip(reason)


def milliseconds(printed: str) -> float:
    """What a tool prints as 850us, 850µs, 4.2ms or 1.02s."""
    found = re.fullmatch(r"([\d.]+)(us|µs|ms|s)", printed)
    assert found, printed
    return float(found[1]) * {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def percentile_of(result: LoadResult, name: str) -> float:
    """What the cell will report."""
    if result.percentiles_ms:
        return result.percentiles_ms[name]
    return percentile(result.latencies_ms, float(name.removeprefix("p")))
