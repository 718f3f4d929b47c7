"""Heap and GC from a service's Prometheus endpoint, peak memory from its processes, over one load window.

Names are Micrometer's: heap is the sum of jvm_memory_used_bytes{area="heap"}; GC pause is the growth of
jvm_gc_pause_seconds_sum over the window. Memory in bytes, pauses in ms. Scrapes that fail are counted, never filled in.
"""

from __future__ import annotations

import json
import math
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.model.ports import Reading, Service
from pytest_staging.model.version import ModeSpec, Runtime

if TYPE_CHECKING:
    import httpx

SCRAPE_TIMEOUT_S = 2.0
SCRAPE_INTERVAL_S = 0.25
# One scrape under way and the last one, each as slow as it may be: connecting, then reading.
FINISH_DEADLINE_S = 4 * SCRAPE_TIMEOUT_S
MAX_BODY_BYTES = 4 << 20


def parse_exposition(text: str) -> dict[str, float]:
    """Heap in use and total GC pause of one scrape, as `heap_bytes` and `gc_pause_s`; absent when not exposed.

    Raises ValueError when `text` is no Prometheus exposition.
    """
    from prometheus_client.parser import text_string_to_metric_families

    heap: list[float] = []
    pauses: list[float] = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "jvm_memory_used_bytes" and sample.labels.get("area") == "heap":
                heap.append(sample.value)
            elif sample.name == "jvm_gc_pause_seconds_sum":
                pauses.append(sample.value)
    if not all(map(math.isfinite, (*heap, *pauses))):
        raise ValueError("has a heap or pause that is no finite number")
    found = {}
    if heap:
        found["heap_bytes"] = sum(heap)
        # Micrometer exposes the pause timer only after the first collection: a JVM that shows its heap and no pause
        # has not paused yet.
        found["gc_pause_s"] = sum(pauses)
    return found


class ServiceMetrics:
    """`heap_peak` and `gc_pause` of a running service."""

    def __init__(self, interval_s: float = SCRAPE_INTERVAL_S) -> None:
        self._interval_s = interval_s

    def observe(self, base_url: str, mode: ModeSpec, service: Service, samples: Path) -> ServiceSampling:
        return ServiceSampling(base_url, mode, service, samples, self._interval_s)


class ServiceSampling:
    """Scrapes at once, every interval, and once more at the window's end; in a thread, so that no endpoint blocks."""

    def __init__(self, base_url: str, mode: ModeSpec, service: Service, samples: Path, interval_s: float) -> None:
        import httpx

        self._url = f"{base_url}{mode.metrics}" if mode.metrics and mode.runtime is Runtime.JVM else None
        self._runtime = mode.runtime
        self._service = service
        self._samples = samples
        self._interval_s = interval_s
        self._client = httpx.Client(timeout=SCRAPE_TIMEOUT_S, trust_env=False, verify=False) if self._url else None
        self._rows: list[dict[str, float]] = []
        self._errors: list[str] = []
        self._whole = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="metrics", daemon=True)

    def begin(self) -> None:
        if self._client:
            self._thread.start()

    def finish(self) -> Reading:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(FINISH_DEADLINE_S)
            if self._thread.is_alive():
                self._errors.append(f"the last scrape did not end in {FINISH_DEADLINE_S:g} s")
        peak = self._service.peak_resident_bytes()
        self._write(peak)
        return self._jvm_reading() if self._runtime is Runtime.JVM else _native_reading(peak)

    def close(self) -> None:
        self._stopped.set()
        if self._client:
            self._client.close()

    def _loop(self) -> None:
        assert self._client
        began = self._scrape(self._client)
        while not self._stopped.wait(self._interval_s):
            self._scrape(self._client)
        self._whole = self._scrape(self._client) and began

    def _scrape(self, client: httpx.Client) -> bool:
        try:
            values = parse_exposition(_fetch(client, str(self._url)))
            if not values:
                raise ValueError("has no jvm_memory_used_bytes")
        except Exception as error:  # any failure of a scrape is one missed sample, whatever raised it
            self._errors.append(f"{type(error).__name__}: {error}".splitlines()[0][:200])
            return False
        self._rows.append({"at_s": round(time.time(), 3), **values})
        return True

    def _jvm_reading(self) -> Reading:
        if self._url is None:
            why = "the mode declares no metrics endpoint"
            return Reading(metrics={"heap_peak": None, "gc_pause": None}, missing={"heap_peak": why, "gc_pause": why})
        if not self._rows:
            why = f"all {len(self._errors)} scrapes of {self._url} failed: {self._errors[-1]}"
            return Reading(metrics={"heap_peak": None, "gc_pause": None}, missing={"heap_peak": why, "gc_pause": why})
        heap = max(row["heap_bytes"] for row in self._rows)
        pauses = [row["gc_pause_s"] for row in self._rows]
        pause_ms = (pauses[-1] - pauses[0]) * 1000
        backwards = any(later < earlier for earlier, later in pairwise(pauses))
        if backwards or not self._whole:
            # Without its first and last value the counter's growth is that of a shorter window.
            why = "the pause counter went backwards" if backwards else "the first or the last scrape failed"
            return Reading(metrics={"heap_peak": heap, "gc_pause": None}, missing={"gc_pause": why})
        return Reading(metrics={"heap_peak": heap, "gc_pause": round(pause_ms, 6)}, missing={})

    def _write(self, peak: int | None) -> None:
        data: dict[str, Any] = {"samples": self._rows, "failed_scrapes": self._errors, "peak_resident_bytes": peak}
        self._samples.write_text(json.dumps(data))


def _native_reading(peak: int | None) -> Reading:
    missing = {"gc_pause": "a native process has no garbage collector to report"}
    if peak is None:
        missing["heap_peak"] = "the process's memory could not be read from /proc"
    return Reading(
        metrics={"heap_peak": None if peak is None else float(peak), "gc_pause": None},
        missing=missing,
        inapplicable=("gc_pause",),
    )


def _fetch(client: httpx.Client, url: str) -> str:
    """The body of a 200 answer. Raises when it is larger than MAX_BODY_BYTES or slower than SCRAPE_TIMEOUT_S in all."""
    deadline = time.monotonic() + SCRAPE_TIMEOUT_S
    with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise ValueError(f"answered {response.status_code}")
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BODY_BYTES or time.monotonic() > deadline:
                raise ValueError("never ends or is too large")
    return body.decode("utf-8", errors="strict")
