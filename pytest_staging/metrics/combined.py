"""Several metric sources over one load window. Each fails alone: its metrics are missing then, with the reason."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytest_staging import durable
from pytest_staging.metrics.sampler import Recording, describe
from pytest_staging.metrics.sources import Observation, Source
from pytest_staging.model.errors import HOST_GONE, LeaseLost
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service
from pytest_staging.model.version import ModeSpec

SERIES_SCHEMA_VERSION = 1
T = TypeVar("T")


class CombinedMetrics:
    """A MetricSource that is several."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = _titled(sources)

    def observe(self, base_url: str, mode: ModeSpec, service: Service, samples: Path) -> CombinedSampling:
        """Asks nobody anything yet."""
        watched = {title: _Watched(source, base_url, mode, service) for title, source in self._sources.items()}
        return CombinedSampling(watched, samples)


class CombinedSampling:
    """All sources' observations. The load window's end is told to all of them before any is waited for."""

    def __init__(self, watched: Mapping[str, _Watched], samples: Path) -> None:
        self._watched, self._samples = watched, samples
        self._began_at = self._began_s = self._ended_s = 0.0

    def begin(self) -> None:
        self._began_at, self._began_s = time.time(), time.monotonic()
        for one in self._watched.values():
            one.attempt(lambda observation: observation.begin())

    def end(self) -> None:
        """Raises ConnectionLost, LeaseLost."""
        self._ended_s = time.monotonic()
        for one in self._watched.values():
            one.attempt(lambda observation: observation.end())

    def finish(self) -> Reading:
        """Raises ConnectionLost, LeaseLost, StorageError."""
        found = {title: one.finish() for title, one in self._watched.items()}
        self._write({title: recording for title, (_, recording) in found.items()})
        readings = [reading for reading, _ in found.values()]
        return Reading(
            metrics={name: value for one in readings for name, value in one.metrics.items()},
            missing={name: why for one in readings for name, why in one.missing.items()},
            inapplicable=tuple(name for one in readings for name in one.inapplicable),
            sources={title: recording.facts() for title, (_, recording) in found.items()},
        )

    def close(self) -> None:
        for one in self._watched.values():
            one.close()

    def _write(self, recordings: Mapping[str, Recording]) -> None:
        data: dict[str, Any] = {
            "schema_version": SERIES_SCHEMA_VERSION,
            "began_at_s": round(self._began_at, 3),
            "window_ms": round((self._ended_s - self._began_s) * 1000),
            "sources": {title: recording.series(self._began_s) for title, recording in recordings.items()},
        }
        with durable.storing(self._samples):
            self._samples.write_text(json.dumps(data, separators=(",", ":")))


class _Watched:
    """One observation whose failure is its own, unless it is the host's."""

    def __init__(self, source: Source, base_url: str, mode: ModeSpec, service: Service) -> None:
        self._source = source
        self._failure = ""
        self._observation = self.attempt_to(lambda: source.observe(base_url, mode, service))

    def attempt(self, step: Callable[[Observation], None]) -> None:
        observation = self._observation
        if observation is not None and not self._failure:
            self.attempt_to(lambda: step(observation))

    def attempt_to(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except (*HOST_GONE, LeaseLost):
            raise
        except Exception as error:  # a source that is broken costs its own metrics and nothing else
            self._failure = describe(error)
            return None

    def finish(self) -> tuple[Reading, Recording]:
        observation = self._observation
        if observation is not None and not self._failure:
            found = self.attempt_to(observation.finish)
            if found is not None:
                return found
        why = f"the source {self._source.title} failed: {self._failure}"
        recording = Recording()
        recording.fail(time.monotonic(), self._failure)
        names = self._source.metrics
        return Reading(metrics=dict.fromkeys(names), missing=dict.fromkeys(names, why)), recording

    def close(self) -> None:
        observation = self._observation
        if observation is not None:
            self.attempt_to(observation.close)


def _titled(sources: Sequence[Source]) -> dict[str, Source]:
    """By title; a second one of the same title gets a number."""
    found: dict[str, Source] = {}
    for source in sources:
        title, number = source.title, 2
        while title in found:
            title, number = f"{source.title} {number}", number + 1
        found[title] = source
    return found
