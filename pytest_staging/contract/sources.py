"""Rules of the metric sources in benchmark.yaml: what goes with which kind, and that each metric has one source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pytest_staging.contract.rules import Finding, stays_inside
from pytest_staging.model.benchmark import LOAD_METRICS
from pytest_staging.model.names import unsafe_reason
from pytest_staging.yamltext import Path

COMMON = {"kind", "interval_s", "timeout_s"}
OF_KIND = {
    "service": {"names"},
    "process": set(),
    "command": {"names", "argv", "script"},
    "rabbitmq": {"url", "queue", "vhost", "prefix", "user_env", "password_env", "lag_s", "drain_timeout_s"},
}
NEEDED = {"command": ("argv", "names"), "rabbitmq": ("url", "queue", "user_env", "password_env")}


def source_rules(sources: Any) -> list[Finding]:
    """Findings about the block `sources`."""
    if not isinstance(sources, list):
        return []
    empty = "is empty; leave it out for the service's own endpoint"
    findings: list[Finding] = [] if sources else [(("sources",), empty)]
    seen: dict[str, int] = {}
    for index, source in enumerate(sources):
        if isinstance(source, dict) and str(source.get("kind")) in OF_KIND:
            where: Path = ("sources", index)
            findings += _key_rules(where, source)
            findings += _name_rules(where, source)
            for claim in _claims(source):
                if seen.setdefault(claim, index) != index:
                    findings.append((where, f"gives {claim}, which sources[{seen[claim]}] gives already"))
    return findings


def _key_rules(where: Path, source: Mapping[str, Any]) -> Iterator[Finding]:
    kind = str(source["kind"])
    allowed = COMMON | OF_KIND[kind]
    every = COMMON.union(*OF_KIND.values())
    for key in source:
        if key in every and key not in allowed:
            yield (*where, key), f"does not go with kind: {kind}"
    for key in NEEDED.get(kind, ()):
        if not source.get(key):
            yield (*where, key), f"is missing: kind {kind} needs it"
    if isinstance(source.get("script"), str) and not stays_inside(source["script"]):
        yield (*where, "script"), "must be a path inside the benchmark's folder"
    if kind == "rabbitmq" and isinstance(source.get("url"), str):
        yield from _url_rules((*where, "url"), source["url"])


def _url_rules(where: Path, url: str) -> Iterator[Finding]:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        yield where, "is no URL"
        return
    if parts.username is not None or parts.password is not None:
        yield where, "must not hold a user or password: name environment variables in user_env and password_env"
    elif not good or parts.query or parts.fragment:
        yield where, "must be the management API's address, for example http://127.0.0.1:15672"


def _name_rules(where: Path, source: Mapping[str, Any]) -> Iterator[Finding]:
    names = source.get("names")
    for name in names if isinstance(names, dict) else ():
        if reason := unsafe_reason(str(name)):
            yield (*where, "names", str(name)), f"metric name {reason}"
        if name in LOAD_METRICS:
            yield (*where, "names", name), "is what the load gives itself; take another name"
    if isinstance(source.get("prefix"), str) and (reason := unsafe_reason(source["prefix"])):
        yield (*where, "prefix"), f"metric name {reason}"


def _claims(source: Mapping[str, Any]) -> set[str]:
    """What no second source may give: metrics by name, and what a kind gives by itself."""
    kind = source["kind"]
    names = source.get("names")
    named = {f"metric {name}" for name in names} if isinstance(names, dict) else set()
    if kind == "rabbitmq":
        named.add(f"metrics with the prefix {source.get('prefix', 'queue')}")
    return named | ({f"the metrics of kind {kind}"} if kind in ("service", "process") else set())
