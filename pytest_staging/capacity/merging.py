"""How one description of a service is laid over another: the rules by which Compose merges files and `extends`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_staging.capacity.composefile import Tagged

REPLACED = {"command", "entrypoint", "test", "pid", "network_mode", "credential_spec"}
NAMED = {
    "environment",
    "labels",
    "annotations",
    "args",
    "sysctls",
    "extra_hosts",
    "driver_opts",
    "options",
    "storage_opt",
}
BY_TARGET = {"volumes", "devices"}
UNIQUE = {
    "cap_add", "cap_drop", "expose", "external_links", "volumes_from", "profiles", "ports", "dns", "dns_search",
    "dns_opt", "tmpfs", "env_file", "security_opt", "group_add", "links", "secrets", "configs", "device_cgroup_rules",
    "cache_from", "tags",
}  # fmt: skip
SETS = {"depends_on": {"condition": "service_started"}, "networks": None, "models": None}


def merge_service(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`; neither changes. What both only have in other notations is brought into one."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Tagged):
            if value.tag == "reset":
                merged.pop(key, None)
            else:
                merged[key] = value.value
        elif merged.get(key) is None:
            merged[key] = _plain(value)
        else:
            merged[key] = _merge_value(key, merged[key], value)
    return merged


def named_values(value: Any) -> dict[str, Any]:
    """`[A=1, B]` and `{A: 1, B: null}` are the same."""
    if isinstance(value, dict):
        return dict(value)
    pairs = (str(one).partition("=") for one in value or ())
    return {name: text if equals else None for name, equals, text in pairs}


def dependencies(service: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """`depends_on` in its long form."""
    raw = service.get("depends_on")
    return _set_of(raw, SETS["depends_on"]) if raw else {}


def as_list(value: Any) -> list[Any]:
    """A text alone is a list of one."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _merge_value(key: str, base: Any, over: Any) -> Any:
    if key in REPLACED or over is None:
        return base if over is None else over
    special: dict[bool, Callable[[], Any]] = {
        key in SETS: lambda: _merge_sets(key, base, over),
        key in NAMED: lambda: named_values(base) | named_values(over),
        key in BY_TARGET: lambda: _merge_targets(base, over),
        key == "build" and (isinstance(base, str) or isinstance(over, str)): lambda: _merge_build(base, over),
    }
    if True in special:
        return special[True]()
    if isinstance(base, dict) and isinstance(over, dict):
        return merge_service(base, over)
    if key in UNIQUE or (isinstance(base, list) and isinstance(over, list)):
        kept = as_list(base)
        return kept + [one for one in as_list(over) if one not in kept]
    return _plain(over)


def _merge_sets(key: str, base: Any, over: Any) -> dict[str, Any]:
    one, other = _set_of(base, SETS[key]), _set_of(over, SETS[key])
    return {**one, **{name: {**(one.get(name) or {}), **(value or {})} or value for name, value in other.items()}}


def _set_of(value: Any, each: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: {**each, **(one or {})} if each else one for name, one in value.items()}
    return {str(name): each for name in as_list(value)}


def _merge_targets(base: Any, over: Any) -> list[Any]:
    found = {_target(one): one for one in [*as_list(base), *as_list(over)]}
    return list(found.values())


def _target(one: Any) -> str:
    """Where in the container a volume or device goes: `host:target:mode`, `target`, or the long form."""
    if isinstance(one, dict):
        return str(one.get("target"))
    parts = str(one).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _merge_build(base: Any, over: Any) -> dict[str, Any]:
    one, other = ({"context": each} if isinstance(each, str) else each for each in (base, over))
    return merge_service(one, other)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Tagged) else value
