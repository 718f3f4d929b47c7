"""The throughput policy (`deploy/throughput.yaml`): classes, presets, queues, windows, overrides and rollback triggers.

Durations in seconds, depths in messages, parallelism in jobs that one class runs at once over all of its workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from pytest_staging.model.benchmark import STRICT

CONSERVATIVE, BALANCED, AGGRESSIVE = "conservative", "balanced", "aggressive"
REQUIRED_PRESETS = (CONSERVATIVE, BALANCED, AGGRESSIVE)
FAIL_SAFE_PRESET = CONSERVATIVE


class Level(str, Enum):
    """How much pressure there is; `unknown` when nothing current says so."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class WorkClass:
    """One class of work. The higher the `tier`, the more expensive; `parallelism` is what it has without a policy.

    `members` are patterns (`report-*`) of the names of work that belongs to it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    tier: Annotated[int, Ge(1), Le(9)]
    parallelism: Annotated[int, Ge(1), Le(100_000)]
    members: Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a preset leaves a class while the policy is active, and the floor below which nothing takes it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    parallelism: Annotated[int, Ge(1), Le(100_000)]
    floor: Annotated[int, Ge(1), Le(100_000)]


@dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """From how many messages on a queue is under pressure."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    warning: Annotated[int, Ge(1)]
    critical: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class PressureSpec:
    """How long pressure has to last before the policy acts, and calm before it lets go."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    sustained_s: Annotated[float, Gt(0), Le(86_400)] = 30.0
    cooldown_s: Annotated[float, Gt(0), Le(86_400)] = 60.0


class TelemetryKind(str, Enum):
    """Who tells the depths: RabbitMQ's management API, or an endpoint with Prometheus text."""

    RABBITMQ = "rabbitmq"
    PROMETHEUS = "prometheus"


@dataclass(frozen=True, kw_only=True)
class TelemetrySpec:
    """Where depths come from, how often, and after how long without any the policy falls to its fail-safe.

    `series` and `label` are for Prometheus: the gauge of messages, and the label that names the queue.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    kind: TelemetryKind
    url: Annotated[str, MinLen(1)]
    interval_s: Annotated[float, Ge(0.1), Le(3600)] = 2.0
    timeout_s: Annotated[float, Ge(0.1), Le(60)] = 2.0
    max_age_s: Annotated[float, Gt(0), Le(86_400)] = 15.0
    vhost: Annotated[str, MinLen(1)] = "/"
    user_env: Annotated[str, MinLen(1)] | None = None
    password_env: Annotated[str, MinLen(1)] | None = None
    series: Annotated[str, MinLen(1)] = "rabbitmq_queue_messages"
    label: Annotated[str, MinLen(1)] = "queue"


@dataclass(frozen=True, kw_only=True)
class OverrideBounds:
    """How long an operator's override may last."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    min_ttl_s: Annotated[float, Ge(1)] = 30.0
    default_ttl_s: Annotated[float, Ge(1)] = 1200.0
    max_ttl_s: Annotated[float, Ge(1), Le(604_800)] = 7200.0


@dataclass(frozen=True, kw_only=True)
class Kpi:
    """A metric of the benchmark that a change is to improve by at least `improve_by`, a share of the baseline."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    metric: Annotated[str, MinLen(1)]
    improve_by: Annotated[float, Gt(0), Le(1)]


class Phase(str, Enum):
    """When a campaign took a snapshot of the policy's status."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What demands a rollback. Either about a `metric`, or about the status `when` that was taken.

    A metric: `worse_by` is a share of the baseline, in the metric's own direction; `above` and `below` are in its unit
    and about the candidate's median. A status: a pressure of at least `pressure`, or a `fail_safe`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    name: Annotated[str, MinLen(1)]
    metric: Annotated[str, MinLen(1)] | None = None
    worse_by: Annotated[float, Gt(0)] | None = None
    above: float | None = None
    below: float | None = None
    when: Phase | None = None
    pressure: Level | None = None
    fail_safe: bool | None = None


@dataclass(frozen=True, kw_only=True)
class EvidenceSpec:
    """What the evidence of a change is judged by. Every trigger is mandatory: one breach means rollback."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    kpis: Annotated[tuple[Kpi, ...], MinLen(1)]
    queue_metrics: Annotated[tuple[str, ...], MinLen(1)]
    rollback_triggers: Annotated[tuple[Trigger, ...], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class ThroughputPolicy:
    """The whole file. Class membership is decided in the file's order; what no class claims is `default_class`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    classes: Annotated[Mapping[str, WorkClass], MinLen(1)]
    default_class: str
    presets: Annotated[Mapping[str, Mapping[str, Share]], MinLen(3)]
    queues: Annotated[Mapping[str, QueueLimits], MinLen(1)]
    telemetry: TelemetrySpec
    evidence: EvidenceSpec
    schema_version: int = 1
    default_preset: str = BALANCED
    pressure: PressureSpec = field(default_factory=PressureSpec)
    override: OverrideBounds = field(default_factory=OverrideBounds)

    def class_of(self, work: str) -> str:
        """The class that work of that name belongs to."""
        for name, spec in self.classes.items():
            if any(fnmatchcase(work, pattern) for pattern in spec.members):
                return name
        return self.default_class

    @property
    def expensive(self) -> tuple[str, ...]:
        """The classes of the highest tier: they go down to their floor when the pressure is critical."""
        highest = max(spec.tier for spec in self.classes.values())
        return tuple(name for name, spec in self.classes.items() if spec.tier == highest)
