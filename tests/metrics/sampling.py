"""Running metric sources over a window that lasts until something has happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answering import Answering
from workspaces import wait_for

from pytest_staging.metrics.combined import CombinedMetrics
from pytest_staging.metrics.sources import Source
from pytest_staging.model.benchmark import How, SeriesSpec, SourceKind, SourceSpec
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service, Usage
from pytest_staging.model.version import ModeSpec, Runtime

JVM = ModeSpec(runtime=Runtime.JVM, start=("x",), metrics="/metrics")
NATIVE = ModeSpec(runtime=Runtime.NATIVE, start=("x",), metrics="/metrics")
NOWHERE = "http://127.0.0.1:9"


class StandIn:
    """A service that says what it is told to."""

    base_url = NOWHERE

    def __init__(self, peak: int | None = 5000, usage: Callable[[], Usage | None] = lambda: None) -> None:
        self.code: int | None = None
        self.peak, self.usage = peak, usage

    def poll(self) -> int | None:
        return self.code

    def ending(self) -> str:
        return "still runs"

    def stop(self, grace_s: float, keep: bool = False) -> str:
        return "ended"

    def peak_resident_bytes(self) -> int | None:
        return self.peak

    def owns_endpoint(self) -> bool | None:
        return None


def spec(kind: str, **more: Any) -> SourceSpec:
    """A source that samples fast; `names` are given as SeriesSpec's own arguments."""
    names = {name: SeriesSpec(**{**one, "how": How(one["how"])}) for name, one in more.pop("names", {}).items()}
    return SourceSpec(kind=SourceKind(kind), names=names or None, **{"interval_s": 0.01, "timeout_s": 10.0, **more})


def observe(
    sources: list[Source],
    folder: Path,
    until: Callable[[], object],
    url: str = NOWHERE,
    *,
    mode: ModeSpec = JVM,
    service: Service | None = None,
    after: Callable[[], object] = lambda: None,
) -> Reading:
    """One window over `sources`, from now until `until()`; `after` happens between its end and the finish."""
    sampling = CombinedMetrics(sources).observe(url, mode, service or StandIn(), folder / "samples.json")
    try:
        sampling.begin()
        wait_for(until)
        sampling.end()
        after()
        return sampling.finish()
    finally:
        sampling.close()


def samples(folder: Path, title: str = "service") -> dict[str, Any]:
    """The time series of one source."""
    return dict(json.loads((folder / "samples.json").read_text())["sources"][title])


def url_of(server: Answering) -> str:
    return f"http://127.0.0.1:{server.server_port}"
