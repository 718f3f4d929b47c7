"""What a load tool can do on one machine, against a service that does nothing (`staging-manager calibrate`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pytest_staging.model.benchmark import STRICT
from pytest_staging.model.ports import CpuTime


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`floor_ms` are percentiles of the tool's own latency with one user; `capacity_rps` is the most that it sent.

    At capacity it used `capacity_cpus` CPUs, in `processes` processes. `machine` tells machines apart:
    what one can do says nothing of another. `generator` is its name in targets.yaml, None for the one with pytest.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    tool: str
    tool_version: str
    machine: str
    measured_at: str
    floor_ms: Mapping[str, float]
    capacity_rps: float
    capacity_cpus: float
    processes: int = 1
    generator: str | None = None
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Responding:
    """A service that does nothing, while it runs.

    `look` gives its CPU times so far, and the seconds in which the CPUs of its machine were busy; None: not told.
    """

    url: str
    look: Callable[[], tuple[CpuTime | None, float | None]]
