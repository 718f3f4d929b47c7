"""Memory, CPU time and context switches of the service's processes over one load window, on any target.

Metrics: `resident_peak` (bytes: the largest since the service began), and over the window `cpu_seconds`,
`context_switches` and its two parts, `context_switches_voluntary` (a thread waits) and `context_switches_involuntary`
(it is made to). Threads that end within the window take their switches along.
"""

from __future__ import annotations

import time

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
        return _values(usage)


def _values(usage: Usage) -> Values:
    both = (usage.voluntary_switches, usage.involuntary_switches)
    found: dict[str, float | None] = {
        "cpu_seconds": usage.cpu_s,
        "context_switches": None if None in both else sum(one or 0 for one in both),
        VOLUNTARY: usage.voluntary_switches,
        INVOLUNTARY: usage.involuntary_switches,
        "resident_bytes": usage.resident_bytes,
    }
    return {name: value for name, value in found.items() if value is not None}
