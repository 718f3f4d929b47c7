"""The block `sources` of benchmark.yaml: what goes with which kind, and no password in it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pytest_staging.contract import build_schema, parse_benchmark
from pytest_staging.model.benchmark import DEFAULT_SOURCES, How, SourceKind, SourceSpec
from pytest_staging.model.errors import ContractError

QUEUE = {"kind": "rabbitmq", "url": "http://127.0.0.1:15672", "queue": "orders", "user_env": "A", "password_env": "B"}
NAMES = {"pool": {"name": "pool_size", "how": "peak"}}


def parsed(sources: Any) -> tuple[SourceSpec, ...]:
    return parse_benchmark(text_of(sources), required_modes=()).sources


def text_of(sources: Any) -> str:
    data = {
        "platform_modes": ["jvm"],
        "load": {"shape": "closed", "users": 1, "duration_s": 1},
        "payloads": {"echo": "echo.json"},
        "metrics": {"p95": {"unit": "ms", "direction": "lower", "tolerance": 0.1}},
    }
    return yaml.safe_dump(data if sources is None else {**data, "sources": sources})


def test_without_the_block() -> None:
    """SM-08: the service's own endpoint, twice a second."""
    assert parsed(None) == DEFAULT_SOURCES
    (source,) = DEFAULT_SOURCES
    assert (source.kind, source.interval_s) == (SourceKind.SERVICE, 0.5)


def test_one_of_each() -> None:
    """SM-08: all kinds side by side, with the metrics that they add."""
    found = parsed([
        {"kind": "service", "interval_s": 1, "names": {"sent": {"name": "sent_total", "how": "delta", "scale": 2,
                                                               "labels": {"to": "a"}, "absent_is_zero": True}}},
        {"kind": "process"},
        {"kind": "command", "argv": ["sh", "{script}"], "script": "probes/disk.sh", "names": NAMES},
        {**QUEUE, "vhost": "shop", "lag_s": 0, "drain_timeout_s": 30},
        {**QUEUE, "queue": "mails", "prefix": "mails"},
    ])  # fmt: skip
    titles = ["service", "process", "command disk.sh", "rabbitmq orders", "rabbitmq mails"]
    assert [one.title for one in found] == titles
    assert found[0].names
    assert (found[0].names["sent"].how, found[0].names["sent"].labels) == (How.DELTA, {"to": "a"})
    assert build_schema("benchmark")["$defs"]["SourceSpec"]["properties"]["password_env"]


def named(metric: str, **more: Any) -> dict[str, Any]:
    """A source with one name."""
    return {"kind": "service", "names": {metric: {"name": "b", "how": "peak", **more}}}


WRONG = {
    "unknown kind": ([{"kind": "statsd"}], r"sources\[0\]\.kind: input should be 'service', 'process', 'command'"),
    "no kind": ([{}], r"sources\[0\]\.kind: is missing"),
    "none": ([], r"sources: is empty; leave it out"),
    "another's key": ([{"kind": "process", "url": "http://a"}], r"sources\[0\]\.url: does not go with kind: process"),
    "a misspelt key": ([{"kind": "process", "intervall_s": 1}], r"unknown key; did you mean 'interval_s'"),
    "no queue": ([{k: v for k, v in QUEUE.items() if k != "queue"}], r"sources\[0\]\.queue: is missing: kind rabbitmq"),
    "no login": ([{k: v for k, v in QUEUE.items() if k != "password_env"}], r"password_env: is missing"),
    "a login in the URL": ([{**QUEUE, "url": "http://me:geheim@h:1"}], r"must not hold a user or password: name env"),
    "a password": ([{**QUEUE, "password": "geheim"}], r"sources\[0\]\.password: unknown key"),
    "no URL": ([{**QUEUE, "url": "localhost:15672"}], r"url: must be the management API's address"),
    "a broken URL": ([{**QUEUE, "url": "http://[::1"}], r"url: is no URL"),
    "a broken port": ([{**QUEUE, "url": "http://a:99999"}], r"url: is no URL"),
    "no names": ([{"kind": "command", "argv": ["a"]}], r"names: is missing: kind command needs it"),
    "no argv": ([{"kind": "command", "argv": [], "names": NAMES}], r"argv: "),
    "a script elsewhere": (
        [{"kind": "command", "argv": ["a"], "names": NAMES, "script": "../a"}], r"script: must be a path inside"
    ),
    "how": ([named("a", how="sum")], r"names\.a\.how: input should be 'peak'"),
    "scale": ([named("a", scale=0)], r"scale: .*greater than 0"),
    "a metric's name": ([named("a b")], r"metric name may only"),
    "the load's own": ([named("p95")], r"line \d+: sources\[0\]\.names\.p95: is what the load gives itself; take anot"),
    "a prefix": ([{**QUEUE, "prefix": "../"}], r"prefix: metric name "),
    "too often": ([{"kind": "service", "interval_s": 0.001}], r"interval_s: .*0\.05"),
    "twice": ([{"kind": "process"}, {"kind": "process"}], r"sources\[1\]: gives the metrics of kind process, which"),
    "one prefix twice": ([QUEUE, {**QUEUE, "queue": "b"}], r"sources\[1\]: gives metrics with the prefix queue, which"),
    "one metric twice": (
        [{"kind": "service", "names": NAMES}, {"kind": "command", "argv": ["a"], "names": NAMES}],
        r"sources\[1\]: gives metric pool, which sources\[0\] gives already",
    ),
    "a list of texts": (["process"], r"sources\[0\]: input should be an object"),
    "a text": ("process", r"sources: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name: str) -> None:
    """SM-04: an error that names line and key, before anything runs."""
    sources, expected = WRONG[name]
    with pytest.raises(ContractError, match=expected) as caught:
        parsed(sources)
    assert "geheim" not in str(caught.value)
