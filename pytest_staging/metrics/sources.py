"""What each kind of metric source is to the sampling of a cell."""

from __future__ import annotations

from typing import Protocol

from pytest_staging.metrics.sampler import Recording
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service
from pytest_staging.model.version import ModeSpec


class Observation(Protocol):
    """One source over one load window. Its methods are called in the order of `model.ports.Sampling`."""

    def begin(self) -> None: ...

    def end(self) -> None:
        """Must not wait."""
        ...

    def finish(self) -> tuple[Reading, Recording]:
        """Bounded by a deadline of its own."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """Makes observations. `title` tells the sources of one benchmark apart; `metrics` are those that it may give."""

    title: str
    metrics: tuple[str, ...]

    def observe(self, base_url: str, mode: ModeSpec, service: Service) -> Observation: ...
