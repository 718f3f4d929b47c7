"""The benchmark: one immutable contract for every version of a campaign (`benchmark/benchmark.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

LOAD_METRICS = ("p50", "p95", "p99", "fail_rate", "throughput")
"""What the load itself gives; no metric source may."""

# Far above what anybody measures, and far below what clocks, programs and statistics can take: beyond them a number is
# a slip, which is told before anything runs.
DAY_S = 86_400
LONGEST_LOAD_S = 30 * DAY_S
MOST_USERS = 1_000_000
HIGHEST_RATE = 1e9
LARGEST_TOLERANCE = 1e3
LARGEST_ABSOLUTE_TOLERANCE = 1e18


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
class GeneratorLimits:
    """Beyond which a load generator was unhealthy and its cell is invalid.

    `cpu_share` is of the CPUs that the tool can use; `wait_share` is the time in which it waited for a CPU that others
    had, as a share of the load window.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    cpu_share: Annotated[float, Gt(0)] = 0.9
    wait_share: Annotated[float, Gt(0)] = 0.5


class WarmUpEnd(str, Enum):
    """When a warm-up is over that has no fixed length."""

    STEADY = "steady"


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """A warm-up that ends when the service is steady, by the rule of stats/steady.py; at the latest after `max_s`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    until: WarmUpEnd
    max_s: Annotated[float, Gt(0), Le(DAY_S)] = 60.0
    window_s: Annotated[float, Ge(0.1), Le(DAY_S)] = 1.0
    windows: Annotated[int, Ge(3), Le(100)] = 5
    tolerance: Annotated[float, Gt(0), Le(LARGEST_TOLERANCE)] = 0.1


@dataclass(frozen=True, kw_only=True)
class Load:
    """How the service is loaded. Durations in seconds, `rate` in requests per second over all users.

    `exact_percentiles` asks a tool that sums up by itself for every single latency; `command` is for the tool of that
    name: the program to run. `processes` is how many of the tool share the users and the rate.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    shape: LoadShape
    users: Annotated[int, Ge(1), Le(MOST_USERS)]
    duration_s: Annotated[float, Gt(0), Le(LONGEST_LOAD_S)]
    rate: Annotated[float, Gt(0), Le(HIGHEST_RATE)] | None = None
    warm_up_s: Annotated[float, Ge(0), Le(DAY_S)] = 0.0
    request_timeout_s: Annotated[float, Gt(0), Le(DAY_S)] = 10.0
    tool: str = "locust"
    tool_version: str | None = None
    script: str | None = None
    exact_percentiles: bool = False
    command: tuple[str, ...] = ()
    processes: Annotated[int, Ge(1), Le(64)] = 1
    warm_up: WarmUp | None = None
    generator_limits: GeneratorLimits = field(default_factory=GeneratorLimits)


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric of the contract: its unit, which way is better, and the change that is tolerated.

    `tolerance` is a share of the baseline (0.05 is 5 %). `absolute_tolerance` is in the metric's own unit and is what
    counts where a share makes no sense (a metric with zeros). Advisory metrics are shown and not counted.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    unit: Annotated[str, MinLen(1)]
    direction: Direction
    tolerance: Annotated[float, Gt(0), Le(LARGEST_TOLERANCE)] | None = None
    absolute_tolerance: Annotated[float, Gt(0), Le(LARGEST_ABSOLUTE_TOLERANCE)] | None = None
    advisory: bool = False


@dataclass(frozen=True, kw_only=True)
class ContainerLimits:
    """What each version's container may use, where a target runs containers: CPUs (1.5 is one and a half), memory."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    cpus: Annotated[float, Gt(0)] | None = None
    memory_mb: Annotated[int, Ge(6)] | None = None


NO_LIMITS = ContainerLimits()


class SourceKind(str, Enum):
    """Where metrics come from: the service's endpoint, its processes, a program, a queue of RabbitMQ."""

    SERVICE = "service"
    PROCESS = "process"
    COMMAND = "command"
    RABBITMQ = "rabbitmq"


class How(str, Enum):
    """What of a series becomes the metric: its largest value, its growth over the load window, its last value."""

    PEAK = "peak"
    DELTA = "delta"
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class SeriesSpec:
    """One metric out of Prometheus text: the sum of the samples called `name` that have all of `labels`, times `scale`.

    `absent_is_zero` is for a counter that only appears when it first counts.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    name: Annotated[str, MinLen(1)]
    how: How
    labels: Mapping[str, str] = field(default_factory=dict)
    scale: Annotated[float, Gt(0)] = 1.0
    absent_is_zero: bool = False


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """One metric source. Which fields go with which kind is the contract's to check.

    `names` maps metrics to what they are in Prometheus text. `argv` is a command that prints such text; `script` is a
    file beside benchmark.yaml that it may name. A queue's metrics begin with `prefix`; `user_env` and `password_env`
    are names of environment variables, so that no file has a password. `lag_s` is how old may be what the broker tells.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    kind: SourceKind
    interval_s: Annotated[float, Ge(0.05), Le(DAY_S)] = 0.5
    timeout_s: Annotated[float, Gt(0), Le(DAY_S)] = 2.0
    names: Mapping[str, SeriesSpec] | None = None
    argv: Annotated[tuple[str, ...], MinLen(1)] | None = None
    script: str | None = None
    url: str | None = None
    queue: Annotated[str, MinLen(1)] | None = None
    vhost: Annotated[str, MinLen(1)] = "/"
    prefix: Annotated[str, MinLen(1)] = "queue"
    user_env: Annotated[str, MinLen(1)] | None = None
    password_env: Annotated[str, MinLen(1)] | None = None
    lag_s: Annotated[float, Ge(0), Le(DAY_S)] = 5.0
    drain_timeout_s: Annotated[float, Gt(0), Le(DAY_S)] = 60.0

    @property
    def title(self) -> str:
        """Tells the sources of one benchmark apart: `service`, `command probe.py`, `rabbitmq orders`."""
        program = (self.script or (self.argv or ("",))[0]).rpartition("/")[2]
        detail = {SourceKind.COMMAND: program, SourceKind.RABBITMQ: self.queue}.get(self.kind)
        return f"{self.kind.value} {detail}" if detail else self.kind.value


DEFAULT_SOURCES = (SourceSpec(kind=SourceKind.SERVICE),)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The whole contract. `payloads` maps a function's name to its request body, a file beside benchmark.yaml.

    With `policy_evidence` a promotion demands the accepted evidence of the throughput policy.
    """

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
    sources: tuple[SourceSpec, ...] = DEFAULT_SOURCES
    policy_evidence: bool = False

    @property
    def selected_functions(self) -> tuple[str, ...]:
        """The functions that are loaded, in the order of the file."""
        if self.function_profile is FunctionProfile.SUBSET:
            return tuple(self.functions)
        return tuple(self.payloads)
