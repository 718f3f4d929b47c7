"""A queue of RabbitMQ over one load window and until it has run empty, by the broker's management API.

Metrics, each with the source's prefix (`queue` unless told otherwise): `_depth_peak` and `_depth_end` (messages that
are ready or not yet acknowledged; the largest, and that when the load ended), `_drain_time` (seconds from the end of
the load window until the queue is empty and stays so) and `_drain_rate` (messages/s: depth at the end over drain time).

The broker's statistics are some seconds old, so an empty queue counts only when it has been seen empty for `lag_s`.
RabbitMQ 3.10 or newer; the API is described by the broker itself, at /api/index.html of its management plugin.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pytest_staging.metrics.fetching import Endpoint
from pytest_staging.metrics.sampler import Recording, Row, Sampler, Values
from pytest_staging.model.benchmark import SourceSpec
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service, StackedService
from pytest_staging.model.version import ModeSpec

COLUMNS = {"messages": "depth", "messages_ready": "ready", "messages_unacknowledged": "unacknowledged"}
METRICS = ("depth_peak", "depth_end", "drain_time", "drain_rate")
FINISH_TIMEOUTS = 4
LOOK_S = 0.25
EMPTY = "the queue was empty when the load ended"
SERVICE_ENDED = "the service ended before the queue was empty"


class RabbitMetrics:
    """One queue. User and password are read from the environment now, and stand in no file, message or repr."""

    def __init__(self, spec: SourceSpec, environment: Mapping[str, str] = os.environ) -> None:
        """Raises UsageProblem naming the variable that is not set."""
        self._spec = spec
        self._login = (_required(spec.user_env, environment), _required(spec.password_env, environment))
        self.title = spec.title
        self.metrics = tuple(f"{spec.prefix}_{name}" for name in METRICS)

    def observe(self, base_url: str, mode: ModeSpec, service: Service) -> QueueObservation:
        # A broker that was started with the service has a name there, and another address here.
        url = service.reach(str(self._spec.url)) if isinstance(service, StackedService) else self._spec.url
        return QueueObservation(replace(self._spec, url=url), self._login, service)


class QueueObservation:
    """Goes on sampling after the load, until the queue is empty, the deadline is over, or the service has ended."""

    def __init__(self, spec: SourceSpec, login: tuple[str, str], service: Service) -> None:
        self._endpoint = Endpoint(build_url(spec), spec.timeout_s, login)
        self._spec, self._service = spec, service
        self._sampler = Sampler(self._ask, spec.interval_s)
        self._ended_s = math.inf

    def begin(self) -> None:
        self._sampler.begin()

    def end(self) -> None:
        self._ended_s = time.monotonic()
        self._sampler.wake()

    def finish(self) -> tuple[Reading, Recording]:
        """Raises ConnectionLost, LeaseLost."""
        left = self._await_empty()
        recording = self._sampler.join(FINISH_TIMEOUTS * self._spec.timeout_s)
        found = measure_drain(recording.rows, self._ended_s, self._spec.lag_s)
        if found is None:
            failures = f"all {recording.failed} samples of {self._endpoint.url} failed: {recording.failure}"
            found = (dict.fromkeys(METRICS), dict.fromkeys(METRICS, failures))
        metrics, missing = found
        missing = {name: left if why is UNEMPTIED and left else why for name, why in missing.items()}
        return Reading(metrics=self._prefixed(metrics), missing=self._prefixed(missing)), recording

    def close(self) -> None:
        self._sampler.stop()
        self._endpoint.close()

    def _ask(self) -> Values:
        return parse_queue(self._endpoint.fetch(), str(self._spec.queue))

    def _await_empty(self) -> str:
        """Why the queue is not empty, or nothing."""
        finished_s = time.monotonic()
        deadline = max(self._ended_s + self._spec.drain_timeout_s, finished_s) + self._spec.lag_s

        def settled(rows: Sequence[Row]) -> bool:
            since = empty_since(rows)
            return since is not None and rows[-1].at_s >= max(since, self._ended_s, finished_s) + self._spec.lag_s

        # Where nothing was ever told, nothing is waited for: a wrong password would cost every cell the deadline.
        if self._sampler.wait_for(lambda rows: not rows, 0.0):
            return ""
        while not self._sampler.wait_for(settled, LOOK_S):
            if self._service.poll() is not None:
                return SERVICE_ENDED
            if time.monotonic() > deadline:
                return f"the queue was not seen empty within {self._spec.drain_timeout_s:g} s after the load"
        return ""

    def _prefixed(self, named: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self._spec.prefix}_{name}": value for name, value in named.items()}


UNEMPTIED = "the queue was not seen empty"


def build_url(spec: SourceSpec) -> str:
    """Where the queue's counts are told: in the list of queues, cut down to the one.

    The page of a single queue takes its counts from statistics that are up to ten seconds old; the totals of the list
    are what the queue itself told last.
    """
    name = quote(f"^{re.escape(str(spec.queue))}$", safe="")
    columns = ",".join(("name", *COLUMNS))
    queues = f"{str(spec.url).rstrip('/')}/api/queues/{quote(spec.vhost, safe='')}"
    totals = f"disable_stats=true&enable_queue_totals=true&columns={columns}"
    return f"{queues}?{totals}&page=1&page_size=2&use_regex=true&name={name}"


def measure_drain(
    rows: Sequence[Row], ended_s: float, lag_s: float
) -> tuple[Mapping[str, float | None], Mapping[str, str]] | None:
    """Metrics and what is missing, from depths over time, the load having ended at `ended_s`; None without a sample."""
    depths = [(row.at_s, float(row.values["depth"] or 0.0)) for row in rows if "depth" in row.values]
    if not depths:
        return None
    after = [depth for at_s, depth in depths if at_s >= ended_s]
    # The broker tells late: what was left is the most that it told from then on.
    left = max(after, default=depths[-1][1])
    metrics: dict[str, float | None] = {"depth_peak": max(depth for _, depth in depths), "depth_end": left}
    since = empty_since(rows)
    if since is None or depths[-1][0] < max(since, ended_s) + lag_s:
        return {**metrics, "drain_time": None, "drain_rate": None}, {"drain_time": UNEMPTIED, "drain_rate": UNEMPTIED}
    drain_s = max(0.0, since - ended_s)
    metrics["drain_time"] = round(drain_s, 3)
    if left == 0 or drain_s == 0:
        return {**metrics, "drain_rate": None}, {"drain_rate": EMPTY}
    return {**metrics, "drain_rate": round(left / drain_s, 3)}, {}


def empty_since(rows: Sequence[Row]) -> float | None:
    """The instant of the first of the samples, up to the last one, that all show an empty queue."""
    since = None
    for row in reversed(rows):
        if row.values.get("depth") != 0:
            break
        since = row.at_s
    return since


def parse_queue(text: str, queue: str) -> dict[str, float | None]:
    """Counts of the queue in one answer to `build_url`. Raises ValueError when they are not there, or no counts."""
    try:
        answer = json.loads(text)
    except RecursionError as error:
        raise ValueError("is no list of queues") from error
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise ValueError("is no list of queues")
    found = next((one for one in items if isinstance(one, dict) and one.get("name") == queue), None)
    if found is None:
        raise ValueError(f"has no queue {queue!r}")
    if "messages" not in found:
        raise ValueError("has no count of messages")
    return {name: _count(found[column], name) for column, name in COLUMNS.items() if column in found}


def _count(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError(f"{name} is {str(value)[:40]}, not a count")
    return float(value)


def _required(name: str | None, environment: Mapping[str, str]) -> str:
    value = environment.get(name or "")
    if not value:
        raise UsageProblem(f"the benchmark's source rabbitmq reads {name} from the environment, and it is not set.")
    return value
