"""Rules of throughput.yaml that span several fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from pytest_staging.contract.rules import Finding, schema_version_rule, strings
from pytest_staging.model.names import unsafe_reason
from pytest_staging.model.throughput import REQUIRED_PRESETS
from pytest_staging.yamltext import Path

ABOUT_METRIC = ("worse_by", "above", "below")
ABOUT_STATUS = ("pressure", "fail_safe")
ONLY_RABBITMQ, ONLY_PROMETHEUS = ("vhost",), ("series", "label")


def throughput_rules(raw: Mapping[str, Any]) -> list[Finding]:
    """Classes, presets, queues, windows, overrides and what evidence is judged by."""
    return [
        *schema_version_rule(raw),
        *_class_rules(raw),
        *_preset_rules(raw),
        *_threshold_rules(raw),
        *_telemetry_rules(_mapping(raw.get("telemetry"))),
        *_ttl_rules(_mapping(raw.get("override"))),
        *_trigger_rules(_mapping(raw.get("evidence"))),
    ]


def _class_rules(raw: Mapping[str, Any]) -> Iterator[Finding]:
    classes = _mapping(raw.get("classes"))
    claimed: dict[str, str] = {}
    for name, spec in classes.items():
        if reason := unsafe_reason(str(name)):
            yield ("classes", str(name)), f"class name {reason}"
        for pattern in strings(_mapping(spec).get("members")):
            if claimed.setdefault(pattern, name) != name:
                yield ("classes", name, "members"), f"{pattern!r} belongs to {claimed[pattern]} already"
    default = raw.get("default_class")
    if classes and isinstance(default, str) and default not in classes:
        yield ("default_class",), f"there is no class {default!r}; known are {', '.join(classes)}"


def _preset_rules(raw: Mapping[str, Any]) -> Iterator[Finding]:
    presets, classes = _mapping(raw.get("presets")), _mapping(raw.get("classes"))
    for name in REQUIRED_PRESETS:
        if presets and name not in presets:
            yield ("presets",), f"the preset {name!r} is missing"
    default = raw.get("default_preset")
    if presets and isinstance(default, str) and default not in presets:
        yield ("default_preset",), f"there is no preset {default!r}; known are {', '.join(presets)}"
    for name, shares in presets.items():
        if reason := unsafe_reason(str(name)):
            yield ("presets", str(name)), f"preset name {reason}"
        if isinstance(shares, dict):
            yield from _share_rules(("presets", name), shares, classes)
    yield from _order_rules(presets, classes)


def _share_rules(where: Path, shares: Mapping[str, Any], classes: Mapping[str, Any]) -> Iterator[Finding]:
    for name in classes:
        if name not in shares:
            yield where, f"says nothing about the class {name!r}"
    for name, share in shares.items():
        if name not in classes:
            yield (*where, name), "is no class of this file"
            continue
        wide, floor = _number(share, "parallelism"), _number(share, "floor")
        if wide is not None and floor is not None and floor > wide:
            yield (*where, name, "floor"), f"{floor:g} is more than the parallelism, {wide:g}"
        most = _number(classes[name], "parallelism")
        if wide is not None and most is not None and wide > most:
            yield (*where, name, "parallelism"), f"{wide:g} is more than the class has without a policy, {most:g}"


def _order_rules(presets: Mapping[str, Any], classes: Mapping[str, Any]) -> Iterator[Finding]:
    """The fail-safe is only safe when it is the lowest."""
    for lower, upper in pairwise(REQUIRED_PRESETS):
        for name in classes:
            low = _number(_mapping(presets.get(lower)).get(name), "parallelism")
            high = _number(_mapping(presets.get(upper)).get(name), "parallelism")
            if low is not None and high is not None and low > high:
                yield ("presets", lower, name, "parallelism"), f"{low:g} is more than {upper} gives it, {high:g}"


def _threshold_rules(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for name, limits in _mapping(raw.get("queues")).items():
        warning, critical = _number(limits, "warning"), _number(limits, "critical")
        if warning is not None and critical is not None and critical <= warning:
            yield ("queues", name, "critical"), f"{critical:g} must be more than warning, {warning:g}"


def _telemetry_rules(telemetry: Mapping[str, Any]) -> Iterator[Finding]:
    kind = telemetry.get("kind")
    foreign = {"rabbitmq": ONLY_PROMETHEUS, "prometheus": ONLY_RABBITMQ}.get(str(kind), ())
    yield from ((("telemetry", key), f"does not go with kind: {kind}") for key in foreign if key in telemetry)
    if kind == "rabbitmq":
        for key in ("user_env", "password_env"):
            if telemetry.get(key) is None:
                yield ("telemetry", key), "is missing: the name of the environment variable that holds it"
    if (telemetry.get("user_env") is None) != (telemetry.get("password_env") is None):
        yield ("telemetry",), "user_env and password_env go together"
    if isinstance(telemetry.get("url"), str):
        yield from _url_rules(telemetry["url"])
    interval, timeout = _number(telemetry, "interval_s", 2.0), _number(telemetry, "timeout_s", 2.0)
    age = _number(telemetry, "max_age_s", 15.0)
    if interval is not None and timeout is not None and age is not None and age <= interval + timeout:
        message = f"{age:g} must be more than interval_s + timeout_s, {interval + timeout:g}"
        yield ("telemetry", "max_age_s"), f"{message}: what is asked for as often as that would count as stale"


def _url_rules(url: str) -> Iterator[Finding]:
    where: Path = ("telemetry", "url")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good, parts = False, urlsplit("")
    if not good:
        yield where, "is no http or https URL"
    if parts.username is not None or parts.password is not None:
        yield where, "must not hold a user or password: name environment variables in user_env and password_env"


def _ttl_rules(override: Mapping[str, Any]) -> Iterator[Finding]:
    least, most = _number(override, "min_ttl_s", 30.0), _number(override, "max_ttl_s", 7200.0)
    usual = _number(override, "default_ttl_s", 1200.0)
    if least is not None and most is not None and least > most:
        yield ("override", "max_ttl_s"), f"{most:g} is less than min_ttl_s, {least:g}"
    elif least is not None and most is not None and usual is not None and not least <= usual <= most:
        yield ("override", "default_ttl_s"), f"{usual:g} does not lie between min_ttl_s and max_ttl_s"


def _trigger_rules(evidence: Mapping[str, Any]) -> Iterator[Finding]:
    triggers = evidence.get("rollback_triggers")
    seen: set[str] = set()
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else []):
        if not isinstance(trigger, dict):
            continue
        where: Path = ("evidence", "rollback_triggers", index)
        name = str(trigger.get("name"))
        if name in seen:
            yield (*where, "name"), f"{name!r} stands twice"
        seen.add(name)
        metric = [key for key in ABOUT_METRIC if trigger.get(key) is not None]
        status = [key for key in ABOUT_STATUS if trigger.get(key) is not None]
        if (trigger.get("metric") is None) == (trigger.get("when") is None):
            yield where, "needs either metric (with worse_by, above or below) or when (with pressure or fail_safe)"
        elif len(metric if trigger.get("metric") is not None else status) != 1 or (metric and status):
            needed = ABOUT_METRIC if trigger.get("metric") is not None else ABOUT_STATUS
            yield where, f"needs exactly one of {', '.join(needed)}"
        if trigger.get("pressure") in ("normal", "unknown"):
            yield (*where, "pressure"), "must be warning or critical; for missing telemetry write fail_safe: true"
        if trigger.get("fail_safe") is False:
            yield (*where, "fail_safe"), "must be true, or left out"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any, key: str, default: float | None = None) -> float | None:
    found = _mapping(value).get(key, default)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None
