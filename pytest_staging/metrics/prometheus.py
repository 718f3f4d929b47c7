"""The service's own Prometheus endpoint over one load window, and the peak memory of a process without a JVM.

Metrics: those of JVM_SERIES, by Micrometer's names, and those that the benchmark names. Memory in bytes, pauses in ms.
Samples that fail are counted, never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_staging.metrics.exposition import JVM_SERIES, SeriesParser
from pytest_staging.metrics.fetching import Endpoint
from pytest_staging.metrics.reducing import reduce_all
from pytest_staging.metrics.sampler import Recording, Sampler, Values
from pytest_staging.model.benchmark import SeriesSpec, SourceSpec
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service
from pytest_staging.model.version import ModeSpec, Runtime

# One sample under way and the last one, each as slow as it may be: connecting, then reading.
FINISH_TIMEOUTS = 4
NO_ENDPOINT = "the mode declares no metrics endpoint"
NO_MEMORY = "the process's memory could not be read from /proc"
NO_COLLECTOR = "a native process has no garbage collector to report"
NO_JVM = "a native process has no JVM to report it"


class ServiceMetrics:
    """A running service's own metrics."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._named = dict(spec.names or {})
        self.title = spec.title
        self.metrics = tuple({**JVM_SERIES, **self._named})

    def observe(self, base_url: str, mode: ModeSpec, service: Service) -> ServiceObservation:
        return ServiceObservation(f"{base_url}{mode.metrics}" if mode.metrics else None, mode, service,
                                  self._named, self._spec)  # fmt: skip


class ServiceObservation:
    """Scrapes in a thread, so that no endpoint blocks the load."""

    def __init__(
        self, url: str | None, mode: ModeSpec, service: Service, named: Mapping[str, SeriesSpec], spec: SourceSpec
    ) -> None:
        self._jvm = mode.runtime is Runtime.JVM
        self._wanted = {**JVM_SERIES, **named} if self._jvm else dict(named)
        self._service = service
        self._peak: int | None = None
        self._deadline_s = FINISH_TIMEOUTS * spec.timeout_s
        self._endpoint = Endpoint(url, spec.timeout_s) if url and self._wanted else None
        self._parser = SeriesParser(self._wanted)
        self._sampler = Sampler(self._scrape, spec.interval_s) if self._endpoint else None

    def begin(self) -> None:
        if self._sampler:
            self._sampler.begin()

    def end(self) -> None:
        """Raises ConnectionLost."""
        if self._sampler:
            self._sampler.stop()
        if not self._jvm:
            self._peak = self._service.peak_resident_bytes()

    def finish(self) -> tuple[Reading, Recording]:
        recording = self._sampler.join(self._deadline_s) if self._sampler else Recording()
        named = self._named_reading(recording)
        return (named if self._jvm else _with_native(named, self._peak, self._wanted)), recording

    def close(self) -> None:
        if self._sampler:
            self._sampler.stop()
        if self._endpoint:
            self._endpoint.close()

    def _scrape(self) -> Values:
        assert self._endpoint
        return self._parser.parse(self._endpoint.fetch())

    def _named_reading(self, recording: Recording) -> Reading:
        if self._endpoint is None:
            return Reading(metrics=dict.fromkeys(self._wanted), missing=dict.fromkeys(self._wanted, NO_ENDPOINT))
        return reduce_all(self._wanted, recording, self._endpoint.url)


def _with_native(named: Reading, peak: int | None, wanted: Mapping[str, SeriesSpec]) -> Reading:
    """What a process without a JVM has instead: its peak resident memory, and no pauses: null, never 0."""
    own = [name for name in JVM_SERIES if name not in wanted]
    absent = {name: NO_COLLECTOR if name.startswith("gc_") else NO_JVM for name in own if name != "heap_peak"}
    metrics = {**dict.fromkeys(own), **named.metrics}
    missing = {**absent, **named.missing}
    if "heap_peak" in own:
        metrics["heap_peak"] = None if peak is None else float(peak)
        missing |= {"heap_peak": NO_MEMORY} if peak is None else {}
    return Reading(metrics=metrics, missing=missing, inapplicable=tuple(absent))
