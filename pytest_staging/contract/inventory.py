"""Rules of targets.yaml that span several fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pytest_staging.contract.rules import Finding, schema_version_rule
from pytest_staging.model.names import ADDRESS_PATTERN, unsafe_reason
from pytest_staging.yamltext import Path

ADDRESSES = ("address", "user", "service_address", "peer_address")


def inventory_rules(raw: Mapping[str, Any]) -> list[Finding]:
    """Names, folders, addresses and who loads whom."""
    hosts, generators = (raw[key] if isinstance(raw.get(key), dict) else {} for key in ("hosts", "generators"))
    findings: list[Finding] = schema_version_rule(raw)
    for name, host in hosts.items():
        where: Path = ("hosts", str(name))
        findings += _machine_rules(where, name, host, "host")
        if not isinstance(host, dict):
            continue
        findings += _loading_rules((*where, "generator"), host, hosts, generators)
        if host.get("vm") is not None and host.get("lifecycle") != "multipass":
            findings.append(((*where, "vm"), "only goes with lifecycle: multipass"))
    used = {one for host in hosts.values() if isinstance(host, dict) for one in _names(host.get("generator"))}
    for name, generator in generators.items():
        where = ("generators", str(name))
        findings += _machine_rules(where, name, generator, "generator")
        if name in hosts:
            findings.append((where, "is the name of a host too; what is measured sends no load"))
        elif name not in used:
            findings.append((where, "loads no host; name it as generator of one, or take it out"))
    return findings


def _machine_rules(where: Path, name: Any, machine: Any, kind: str) -> list[Finding]:
    findings: list[Finding] = []
    if reason := unsafe_reason(str(name)):
        findings.append((where, f"{kind} name {reason}"))
    if not isinstance(machine, dict):
        return findings
    folder = machine.get("work_directory")
    if isinstance(folder, str) and not _own_folder(folder):
        message = "must be an absolute path of a folder of its own, such as /var/tmp/pytest-staging"
        findings.append(((*where, "work_directory"), message))
    for key in ADDRESSES:
        if isinstance(machine.get(key), str) and not re.fullmatch(ADDRESS_PATTERN, machine[key]):
            findings.append(((*where, key), f"{machine[key]!r} is no {key.replace('_', ' ')}"))
    python = machine.get("python")
    if isinstance(python, str) and not re.fullmatch(r"/?[A-Za-z0-9_][A-Za-z0-9_./+-]*", python):
        findings.append(((*where, "python"), f"{python!r} is no name or path of a Python"))
    return findings


def _loading_rules(
    where: Path, host: Mapping[str, Any], hosts: Mapping[Any, Any], generators: Mapping[Any, Any]
) -> list[Finding]:
    """Who loads this host."""
    given, findings = host.get("generator"), list[Finding]()
    names = _names(given)
    if given == []:
        findings.append((where, "names nobody; leave it out for load from this machine"))
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            findings.append((where, f"{name!r} is named twice"))
        if name in hosts and name not in generators:
            findings.append((where, f"{name!r} is a host, which is measured itself; list what loads below generators"))
        elif name not in generators:
            near = difflib.get_close_matches(name, [str(one) for one in generators], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            findings.append((where, f"{name!r} is no generator of this file{hint}"))
        elif _is_same(host, generators[name]):
            findings.append((where, f"{name!r} is this host, which would be disturbed by what loads it"))
    if names and host.get("traffic") == "forwarded":
        message = "forwarded goes through a port of this machine, which no generator reaches; leave one of the two out"
        findings.append(((*where[:-1], "traffic"), message))
    return findings


def _names(given: Any) -> list[str]:
    """As far as it has the right shape."""
    return [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]


def _is_same(host: Mapping[str, Any], generator: Any) -> bool:
    if not isinstance(generator, dict) or host.get("address") is None:
        return False
    return all(host.get(key) == generator.get(key) for key in ("address", "port"))


def _own_folder(path: str) -> bool:
    parts = path.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", part) for part in parts[1:])
    return path.startswith("/") and plain and len(parts) > 2
