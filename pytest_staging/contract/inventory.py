"""Rules of targets.yaml that span several fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_staging.contract.rules import Finding, schema_version_rule
from pytest_staging.model.names import unsafe_reason
from pytest_staging.yamltext import Path


def inventory_rules(raw: Mapping[str, Any]) -> list[Finding]:
    """Names, folders, addresses and who loads whom."""
    findings: list[Finding] = schema_version_rule(raw)
    hosts: dict[Any, Any] = raw["hosts"] if isinstance(raw.get("hosts"), dict) else {}
    for name, host in hosts.items():
        where: Path = ("hosts", str(name))
        if reason := unsafe_reason(str(name)):
            findings.append((where, f"host name {reason}"))
        if not isinstance(host, dict):
            continue
        folder = host.get("work_directory")
        if isinstance(folder, str) and not _own_folder(folder):
            message = "must be an absolute path of a folder of its own, such as /var/tmp/pytest-staging"
            findings.append(((*where, "work_directory"), message))
        generator = host.get("generator")
        if isinstance(generator, str) and generator not in hosts:
            findings.append(((*where, "generator"), f"{generator!r} is no host of this file"))
        if generator == name:
            findings.append(((*where, "generator"), "a host must not load itself: what is measured would be disturbed"))
        for key in ("address", "user", "service_address"):
            # An address that begins with a dash would become an option of a program.
            if isinstance(host.get(key), str) and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:%@-]*", host[key]):
                findings.append(((*where, key), f"{host[key]!r} is no {key.replace('_', ' ')}"))
        if host.get("vm") is not None and host.get("lifecycle") != "multipass":
            findings.append(((*where, "vm"), "only goes with lifecycle: multipass"))
    return findings


def _own_folder(path: str) -> bool:
    parts = path.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", part) for part in parts[1:])
    return path.startswith("/") and plain and len(parts) > 2
