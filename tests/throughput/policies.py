"""A small policy for tests, its instants and readings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from pytest_staging.contract import parse_throughput
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.throughput.machine import Instant, Reading, Telemetry

SUSTAINED_S, COOLDOWN_S, MAX_AGE_S = 10.0, 20.0, 8.0
FILE: dict[str, Any] = {
    "classes": {
        "quick": {"tier": 1, "parallelism": 8, "members": ["quick", "login-*"]},
        "heavy": {"tier": 2, "parallelism": 6, "members": ["heavy", "report-*"]},
    },
    "default_class": "quick",
    "presets": {
        "conservative": {"quick": {"parallelism": 4, "floor": 2}, "heavy": {"parallelism": 2, "floor": 1}},
        "balanced": {"quick": {"parallelism": 8, "floor": 4}, "heavy": {"parallelism": 3, "floor": 2}},
        "aggressive": {"quick": {"parallelism": 8, "floor": 4}, "heavy": {"parallelism": 5, "floor": 3}},
    },
    "queues": {"jobs.quick": {"warning": 10, "critical": 40}, "jobs.heavy": {"warning": 20, "critical": 80}},
    "pressure": {"sustained_s": SUSTAINED_S, "cooldown_s": COOLDOWN_S},
    "telemetry": {
        "kind": "rabbitmq", "url": "http://127.0.0.1:1", "interval_s": 1, "timeout_s": 1, "max_age_s": MAX_AGE_S,
        "user_env": "POLICY_USER", "password_env": "POLICY_PASSWORD",
    },
    "override": {"min_ttl_s": 1, "default_ttl_s": 600, "max_ttl_s": 3600},
    "evidence": {
        "kpis": [{"metric": "p95", "improve_by": 0.05}],
        "queue_metrics": ["queue_drain_time"],
        "rollback_triggers": [
            {"name": "latency-worse", "metric": "p95", "worse_by": 0.1},
            {"name": "still-critical", "when": "after", "pressure": "critical"},
        ],
    },
}  # fmt: skip


def policy_data(**changes: Any) -> dict[str, Any]:
    """The file as data; `changes` are merged into its sections."""
    data = copy.deepcopy(FILE)
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) and key in data else value
    return data


def policy_text(**changes: Any) -> str:
    return yaml.safe_dump(policy_data(**changes), sort_keys=False)


def make_policy(**changes: Any) -> ThroughputPolicy:
    return parse_throughput(policy_text(**changes))


def write_policy(root: Path, **changes: Any) -> Path:
    path = root / "deploy" / "throughput.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(policy_text(**changes))
    return path


def at(seconds: float, wall_s: float | None = None, boot: str = "boot-1") -> Instant:
    return Instant(1_700_000_000.0 + seconds if wall_s is None else wall_s, 1000.0 + seconds, boot)


def seen(seconds: float, quick: int = 0, heavy: int = 0) -> Telemetry:
    """A reading taken at that second."""
    return Telemetry(Reading(1000.0 + seconds, {"jobs.quick": quick, "jobs.heavy": heavy}))
