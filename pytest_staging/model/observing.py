"""The Protocols of metric sources: what is seen of a service beside the load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_staging.model.ports import Service
from pytest_staging.model.version import ModeSpec


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the metric sources saw over one load window. `inapplicable` metrics cannot exist in this mode.

    `sources` says of each source how many samples it has (`samples`), how many failed (`failed`), and why (`failure`).
    """

    metrics: Mapping[str, float | None]
    missing: Mapping[str, str]
    inapplicable: tuple[str, ...] = ()
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Sampling(Protocol):
    """One load window under observation: begin, end, finish in this order; close in any case, and at any time."""

    def begin(self) -> None:
        """The load window begins."""
        ...

    def end(self) -> None:
        """The load window is over. Returns at once; must be called while the service still runs."""
        ...

    def finish(self) -> Reading:
        """What was seen. Must be called while the service still runs, after the load tool's end.

        May wait for what the load left behind, a queue that runs empty; bounded. Raises ConnectionLost, LeaseLost.
        """
        ...

    def close(self) -> None:
        """Ends whatever still runs. May be called twice."""
        ...


class MetricSource(Protocol):
    """What a service says about itself, read beside the load tool; the time series go to the file `samples`."""

    def observe(self, base_url: str, mode: ModeSpec, service: Service, samples: Path) -> Sampling: ...
