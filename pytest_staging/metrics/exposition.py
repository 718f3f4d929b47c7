"""Prometheus text: the metrics that are wanted out of it, by the parser of prometheus_client.

Only the lines of wanted names are parsed: a service exposes hundreds of others, and sampling has to cost next to
nothing. Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_staging.model.benchmark import How, SeriesSpec

# Micrometer's names. The pause timer appears with the first collection: its absence is zero, beside a heap.
JVM_SERIES: Mapping[str, SeriesSpec] = {
    "heap_peak": SeriesSpec(name="jvm_memory_used_bytes", labels={"area": "heap"}, how=How.PEAK),
    "nonheap_peak": SeriesSpec(name="jvm_memory_used_bytes", labels={"area": "nonheap"}, how=How.PEAK),
    "gc_pause": SeriesSpec(name="jvm_gc_pause_seconds_sum", how=How.DELTA, scale=1000.0),
    "gc_count": SeriesSpec(name="jvm_gc_pause_seconds_count", how=How.DELTA),
    "threads_peak": SeriesSpec(name="jvm_threads_live_threads", how=How.PEAK),
}
_ANY_SAMPLE = re.compile(r"^[ \t]*[A-Za-z_:][\w:]*(\{.*\})?[ \t]+[-+]?(\d|\.\d|nan|inf)", re.MULTILINE | re.IGNORECASE)
ZERO_BESIDE = {"gc_pause": "heap_peak", "gc_count": "heap_peak"}


class SeriesParser:
    """Picks the wanted series out of texts of one endpoint or program."""

    def __init__(self, wanted: Mapping[str, SeriesSpec]) -> None:
        import prometheus_client.parser  # noqa: F401  # now, and not within the load window

        self.wanted = wanted
        names = "|".join(sorted({re.escape(spec.name) for spec in wanted.values()}))
        self._lines = re.compile(rf"^[ \t]*(?:{names})[ \t{{].*$", re.MULTILINE)

    def parse(self, text: str) -> dict[str, float | None]:
        """The sum of each metric's samples, scaled; None for one that is no finite number. Absent ones are not there.

        Raises ValueError when the text has none of the wanted names, or a line of one that is broken.
        """
        found: dict[str, float] = {}
        for sample in _samples(self._lines.findall(text)):
            for metric, spec in self.wanted.items():
                if sample.name == spec.name and spec.labels.items() <= sample.labels.items():
                    found[metric] = found.get(metric, 0.0) + sample.value * spec.scale
        values = {metric: value if math.isfinite(value) else None for metric, value in found.items()}
        zeros = {
            metric: 0.0 for metric in self.wanted if metric not in values and self._absence_is_zero(metric, values)
        }
        if not values and not (zeros and _ANY_SAMPLE.search(text)):
            raise ValueError(f"has no {_first_name(self.wanted)}: {_shown(text)}")
        return {**values, **zeros}

    def _absence_is_zero(self, metric: str, values: Mapping[str, float | None]) -> bool:
        spec, witness = self.wanted[metric], ZERO_BESIDE.get(metric)
        built_in = witness is not None and spec is JVM_SERIES[metric]
        return spec.absent_is_zero or (built_in and values.get(str(witness)) is not None)


def _samples(lines: list[str]) -> Iterable[Any]:
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families("\n".join([*lines, ""])))
    except Exception as error:  # the parser raises whatever its string operations raise
        raise ValueError(f"has a line that is no Prometheus text: {error}") from error
    return (sample for family in families for sample in family.samples)


def _first_name(wanted: Mapping[str, SeriesSpec]) -> str:
    return next(iter(wanted.values())).name


def _shown(text: str) -> str:
    start = " ".join(text.split())[:40]
    return f"it begins with {start!r}" if start else "it is empty"
