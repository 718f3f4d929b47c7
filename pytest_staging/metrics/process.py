"""Memory, CPU time and context switches of the service's processes over one load window, on any target.

Metrics: `resident_peak` (bytes: the largest since the service began), and over the window `cpu_seconds`,
`context_switches` and its two parts, `context_switches_voluntary` (a thread waits) and `context_switches_involuntary`
(it is made to). Of a thread that ends within the window, the switches count that it had when it was last seen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from pytest_staging.metrics.reducing import reduce_series
from pytest_staging.metrics.sampler import Recording, Sampler, Values
from pytest_staging.model.benchmark import How, SourceSpec
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service, Usage
from pytest_staging.model.version import ModeSpec

VOLUNTARY, INVOLUNTARY = "context_switches_voluntary", "context_switches_involuntary"
COUNTERS = ("cpu_seconds", "context_switches", VOLUNTARY, INVOLUNTARY)
NOT_TOLD = "this target does not tell it"


class ProcessMetrics:
    """What the target tells about a service's processes."""

    metrics = ("resident_peak", *COUNTERS)

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self.title = spec.title

    def observe(self, base_url: str, mode: ModeSpec, service: Service) -> ProcessObservation:
        return ProcessObservation(service, self._spec)


class ProcessObservation:
    """Asks the service's target. What an answer costs is counted in wall time: a host may have to work for it."""

    def __init__(self, service: Service, spec: SourceSpec) -> None:
        self._service = service
        self._deadline_s = 2 * spec.timeout_s
        self._sampler = Sampler(self._ask, spec.interval_s, cost=time.perf_counter)
        self._peak: int | None = None
        self._tally = Tally()

    def begin(self) -> None:
        self._sampler.begin()

    def end(self) -> None:
        """Raises ConnectionLost."""
        self._sampler.stop()
        self._peak = self._service.peak_resident_bytes()

    def finish(self) -> tuple[Reading, Recording]:
        recording = self._sampler.join(self._deadline_s)
        metrics: dict[str, float | None] = {"resident_peak": None if self._peak is None else float(self._peak)}
        missing = {"resident_peak": NOT_TOLD} if self._peak is None else {}
        for name in COUNTERS:
            metrics[name], why = self._growth(name, recording)
            missing |= {name: why} if why else {}
        return Reading(metrics=metrics, missing=missing), recording

    def close(self) -> None:
        self._sampler.stop()

    def _growth(self, name: str, recording: Recording) -> tuple[float | None, str]:
        if not recording.rows:
            return None, f"all {recording.failed} samples of its processes failed: {recording.failure}"
        if all(name not in row.values for row in recording.rows):
            return None, NOT_TOLD
        return reduce_series(name, How.DELTA, name, recording)

    def _ask(self) -> Values:
        usage = self._service.usage()
        if usage is None:
            raise ValueError("the service's processes cannot be read")
        return self._tally.add(usage)


class Tally:
    """From what lives now to counters that never fall: threads and processes come and go while a service runs."""

    def __init__(self) -> None:
        self._living: dict[int, tuple[int, int]] = {}
        self._ended = (0, 0)

    def add(self, usage: Usage) -> Values:
        """The counters after this, and the memory held."""
        found: dict[str, float | None] = {"cpu_seconds": usage.cpu_s, "resident_bytes": usage.resident_bytes}
        if usage.switches is not None:
            self._follow(usage.switches)
            known = [self._ended, *self._living.values()]
            found[VOLUNTARY] = voluntary = sum(counts[0] for counts in known)
            found[INVOLUNTARY] = involuntary = sum(counts[1] for counts in known)
            found["context_switches"] = voluntary + involuntary
        return {name: value for name, value in found.items() if value is not None}

    def _follow(self, switches: Mapping[int, tuple[int, int]]) -> None:
        for thread, before in self._living.items():
            now = switches.get(thread)
            # Lower counts under the same id are those of another thread.
            if now is None or now[0] < before[0] or now[1] < before[1]:
                self._ended = (self._ended[0] + before[0], self._ended[1] + before[1])
        self._living = dict(switches)
