"""Rules of capacity.yaml that span several fields. What the compose files say is checked in the room capacity/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_staging.contract.rules import Finding, schema_version_rule, strings
from pytest_staging.model.names import unsafe_reason
from pytest_staging.yamltext import Path

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
RESERVED = "COMPOSE_"


def capacity_rules(raw: Mapping[str, Any]) -> list[Finding]:
    """Names, variables, and that a profile's core, replicas, queues and broker fit together."""
    findings: list[Finding] = schema_version_rule(raw)
    project = raw.get("project")
    if isinstance(project, str) and not PROJECT.fullmatch(project):
        findings.append((("project",), "must be lower case letters, digits, '-' and '_', as Compose wants it"))
    for index, path in enumerate(strings(raw.get("compose_files"))):
        findings += _path_rule(("compose_files", index), path)
    findings += _path_rule(("build_overlay",), raw.get("build_overlay"))
    for kind, label in (("environments", "environment"), ("profiles", "profile")):
        for name, block in _mapping(raw.get(kind)).items():
            if reason := unsafe_reason(str(name)):
                findings.append(((kind, str(name)), f"{label} name {reason}"))
            findings += _variable_rules((kind, str(name)), _mapping(block))
    for name, block in _mapping(raw.get("profiles")).items():
        findings += _profile_rules(("profiles", str(name)), _mapping(block), raw)
    return findings


def _profile_rules(where: Path, profile: Mapping[str, Any], raw: Mapping[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    services = strings(profile.get("services"))
    for key in ("services", "core", "compose_profiles", "queues"):
        named = strings(profile.get(key))
        findings += [
            ((*where, key, index), f"{name!r} stands twice")
            for index, name in enumerate(named)
            if name in named[:index]
        ]
    for index, name in enumerate(strings(profile.get("core"))):
        if name not in services:
            findings.append(((*where, "core", index), f"{name!r} is not among the profile's services"))
    for name in _mapping(profile.get("replicas")):
        if name not in services:
            findings.append(((*where, "replicas", str(name)), "is not among the profile's services"))
    if strings(profile.get("queues")) and not raw.get("broker"):
        findings.append(((*where, "queues"), "needs broker: where the queues are"))
    return findings


def _variable_rules(where: Path, block: Mapping[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    named = [((*where, "variables", str(name)), str(name)) for name in _mapping(block.get("variables"))]
    named += [((*where, "required", index), name) for index, name in enumerate(strings(block.get("required")))]
    for path, name in named:
        if not VARIABLE.fullmatch(name):
            findings.append((path, f"{name!r} is no name of an environment variable"))
        elif name.startswith(RESERVED):
            findings.append((path, "steers Compose itself; this file says that in its own keys"))
    return findings


def _path_rule(where: Path, path: Any) -> list[Finding]:
    if isinstance(path, str) and (path.startswith(("/", "-")) or "\\" in path or "\0" in path):
        return [(where, "must be a path relative to this file")]
    return []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
