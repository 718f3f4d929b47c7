"""Queues of a running profile watched until they are empty, by the broker's management API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_staging.metrics.fetching import Endpoint
from pytest_staging.metrics.rabbitmq import build_url, measure_drain, parse_queue
from pytest_staging.metrics.sampler import Row
from pytest_staging.model.benchmark import SourceKind, SourceSpec
from pytest_staging.model.capacity import BrokerSpec

INTERVAL_S = 0.5
TIMEOUT_S = 5.0


@dataclass
class Drained:
    """A queue over time: `[seconds, messages]`. Without metrics, `problem` says why."""

    queue: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    depths: Sequence[tuple[float, float]] = ()
    problem: str = ""


def watch_queues(
    broker: BrokerSpec, queues: Sequence[str], url: str, login: tuple[str, str], timeout_s: float
) -> list[Drained]:
    """Until all have looked empty for a while, at most `timeout_s`. Messages that come meanwhile are seen too."""
    endpoints = {queue: Endpoint(build_url(_spec(broker, queue, url)), TIMEOUT_S, login) for queue in queues}
    rows: dict[str, list[Row]] = {queue: [] for queue in queues}
    problems = dict.fromkeys(queues, "")
    began_s = time.monotonic()
    try:
        while True:
            for queue, endpoint in endpoints.items():
                problems[queue] = _sample(queue, endpoint, rows[queue])
            now_s = time.monotonic() - began_s
            settled = all(_is_settled(rows[queue], began_s, broker.lag_s) for queue in queues)
            if settled or now_s > timeout_s:
                break
            time.sleep(INTERVAL_S)
    finally:
        for endpoint in endpoints.values():
            endpoint.close()
    return [_drained(queue, rows[queue], began_s, broker.lag_s, problems[queue]) for queue in queues]


def _sample(queue: str, endpoint: Endpoint, rows: list[Row]) -> str:
    """Why there is no sample, or nothing."""
    import httpx

    try:
        values = parse_queue(endpoint.fetch(), queue)
    except (ValueError, httpx.HTTPError) as error:
        return str(error) or type(error).__name__
    rows.append(Row(time.monotonic(), values))
    return ""


def _is_settled(rows: Sequence[Row], began_s: float, lag_s: float) -> bool:
    found = measure_drain(rows, began_s, lag_s)
    return found is not None and found[0]["drain_time"] is not None


def _drained(queue: str, rows: Sequence[Row], began_s: float, lag_s: float, problem: str) -> Drained:
    found = measure_drain(rows, began_s, lag_s)
    if found is None:
        return Drained(queue, problem=problem or "was not told")
    metrics, missing = found
    depths = tuple((round(row.at_s - began_s, 3), float(row.values["depth"] or 0.0)) for row in rows)
    return Drained(queue, metrics, depths, problem or missing.get("drain_time", ""))


def _spec(broker: BrokerSpec, queue: str, url: str) -> SourceSpec:
    return SourceSpec(kind=SourceKind.RABBITMQ, url=url, queue=queue, vhost=broker.vhost)
