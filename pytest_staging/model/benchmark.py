"""The benchmark: one immutable contract for every version of a campaign (`benchmark/benchmark.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, MinLen

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


class FunctionProfile(str, Enum):
    """Which functions are loaded: all that have a payload, or those that `functions` names."""

    ALL = "all"
    SUBSET = "subset"


class LoadShape(str, Enum):
    """closed: a number of users, each waits for its answer. open: a rate, whatever the answers do."""

    CLOSED = "closed"
    OPEN = "open"


class Direction(str, Enum):
    """Which way a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, kw_only=True)
class Load:
    """How the service is loaded. Durations in seconds, `rate` in requests per second over all users."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    shape: LoadShape
    users: Annotated[int, Ge(1)]
    duration_s: Annotated[float, Gt(0)]
    rate: Annotated[float, Gt(0)] | None = None
    warm_up_s: Annotated[float, Ge(0)] = 0.0
    request_timeout_s: Annotated[float, Gt(0)] = 10.0
    tool: str = "locust"
    tool_version: str | None = None
    script: str | None = None


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric of the contract: its unit, which way is better, and the change that is tolerated.

    `tolerance` is a share of the baseline (0.05 is 5 %). `absolute_tolerance` is in the metric's own unit and is what
    counts where a share makes no sense (a metric with zeros). Advisory metrics are shown and not counted.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    unit: Annotated[str, MinLen(1)]
    direction: Direction
    tolerance: Annotated[float, Gt(0)] | None = None
    absolute_tolerance: Annotated[float, Gt(0)] | None = None
    advisory: bool = False


@dataclass(frozen=True, kw_only=True)
class ContainerLimits:
    """What each version's container may use, where a target runs containers: CPUs (1.5 is one and a half), memory."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    cpus: Annotated[float, Gt(0)] | None = None
    memory_mb: Annotated[int, Ge(6)] | None = None


NO_LIMITS = ContainerLimits()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The whole contract. `payloads` maps a function's name to its request body, a file beside benchmark.yaml."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    platform_modes: Annotated[tuple[str, ...], MinLen(1)]
    load: Load
    payloads: Annotated[Mapping[str, str], MinLen(1)]
    metrics: Annotated[Mapping[str, MetricSpec], MinLen(1)]
    schema_version: int = 1
    name: str = "benchmark"
    function_profile: FunctionProfile = FunctionProfile.ALL
    functions: tuple[str, ...] = field(default=())
    containers: ContainerLimits = NO_LIMITS

    @property
    def selected_functions(self) -> tuple[str, ...]:
        """The functions that are loaded, in the order of the file."""
        if self.function_profile is FunctionProfile.SUBSET:
            return tuple(self.functions)
        return tuple(self.payloads)
