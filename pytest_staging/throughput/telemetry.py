"""Depths of queues out of what RabbitMQ or a Prometheus endpoint answers (pure), and the thread that keeps asking."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import quote

from pytest_staging.model.throughput import TelemetryKind, TelemetrySpec

MAX_DEPTH = 1 << 53
PAGE_SIZE = 500
JOIN_S = 10.0


def build_url(spec: TelemetrySpec, queues: Collection[str]) -> str:
    """Where the depths are told. Of RabbitMQ: the list of queues, cut down to ours, with what the queues told last."""
    if spec.kind is TelemetryKind.PROMETHEUS:
        return spec.url
    pattern = quote(f"^({'|'.join(re.escape(name) for name in queues)})$", safe="")
    columns = "disable_stats=true&enable_queue_totals=true&columns=name,messages"
    base = f"{spec.url.rstrip('/')}/api/queues/{quote(spec.vhost, safe='')}"
    return f"{base}?{columns}&page=1&page_size={PAGE_SIZE}&use_regex=true&name={pattern}"


def parse_depths(spec: TelemetrySpec, queues: Collection[str], text: str) -> dict[str, int]:
    """Messages per queue, of those queues that the text tells of. Raises ValueError when it is no such text."""
    if spec.kind is TelemetryKind.PROMETHEUS:
        return _parse_prometheus(spec, queues, text)
    try:
        answer = json.loads(text)
    except RecursionError as error:
        raise ValueError("is no list of queues") from error
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise ValueError("is no list of queues")
    told = {one["name"]: one["messages"] for one in items if isinstance(one, dict) and {"name", "messages"} <= set(one)}
    return {name: _depth(name, told[name]) for name in queues if name in told}


def _parse_prometheus(spec: TelemetrySpec, queues: Collection[str], text: str) -> dict[str, int]:
    from prometheus_client.parser import text_string_to_metric_families

    lines = re.findall(rf"^[ \t]*{re.escape(spec.series)}[ \t{{].*$", text, re.MULTILINE)
    if not lines:
        raise ValueError(f"has no series {spec.series}")
    depths: dict[str, int] = {}
    try:
        families = list(text_string_to_metric_families("\n".join([*lines, ""])))
    except Exception as error:  # the parser raises whatever its string operations raise
        raise ValueError(f"has a line that is no Prometheus text: {error}") from error
    for sample in (sample for family in families for sample in family.samples):
        name = str(sample.labels.get(spec.label))
        if name in queues:
            depths[name] = depths.get(name, 0) + _depth(name, sample.value)
    return depths


def _depth(name: str, value: Any) -> int:
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if not whole or not 0 <= value < MAX_DEPTH:
        raise ValueError(f"says {str(value)[:40]} of {name}, which is no count of messages")
    return int(value)


class Poller:
    """Asks in a thread of its own: a slow broker holds up nobody. `offer` gets depths, or why there are none."""

    def __init__(
        self,
        fetch: Callable[[], str],
        parse: Callable[[str], Mapping[str, int]],
        offer: Callable[[Mapping[str, int] | None, str, float], None],
        now_s: Callable[[], float],
        interval_s: float,
        where: str = "the telemetry",
    ) -> None:
        self._fetch, self._parse, self._offer, self._now_s = fetch, parse, offer, now_s
        self._interval_s, self._where = interval_s, where
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy-telemetry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the poll that is under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def poll(self) -> None:
        """Once. Depths count from the instant at which they were asked for."""
        asked_s = self._now_s()
        depths, problem = None, ""
        try:
            depths = self._parse(self._fetch())
        except Exception as error:  # whatever a broker, a proxy or a network does is a reason and not an end
            problem = f"the last poll of {self._where} failed: {str(error) or type(error).__name__}"
        self._offer(depths, problem, asked_s)

    def _run(self) -> None:
        while True:
            began_s = self._now_s()
            self.poll()
            if self._ended.wait(max(0.05, self._interval_s - (self._now_s() - began_s))):
                return
