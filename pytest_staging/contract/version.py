"""Rules of service.yaml and version.yaml that span several fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pytest_staging.contract.rules import (
    Finding,
    schema_version_rule,
    stays_inside,
    strings,
    unsafe_mode_reason,
)
from pytest_staging.model.names import unsafe_reason
from pytest_staging.model.version import KIND, Status
from pytest_staging.yamltext import Path

PLACEHOLDERS = ("{artifact}", "{host}", "{port}", "{snapshot}")


def service_rules(raw: Mapping[str, Any]) -> list[Finding]:
    """Modes: their names, paths, images and placeholders."""
    findings: list[Finding] = schema_version_rule(raw)
    modes = raw.get("modes")
    if not isinstance(modes, dict):
        return findings
    for name, mode in modes.items():
        if reason := unsafe_mode_reason(str(name)):
            findings.append((("modes", str(name)), reason))
        if not isinstance(mode, dict):
            continue
        findings += [
            (("modes", str(name), key), "must start with '/'")
            for key in ("health", "metrics")
            if isinstance(mode.get(key), str) and not mode[key].startswith("/")
        ]
        if mode.get("start") is None and mode.get("image") is None:
            needed = "is missing; a mode has start (a process), image (a container), or both"
            findings.append((("modes", str(name), "start"), needed))
        findings += _image_rules(("modes", str(name), "image"), mode.get("image"))
        findings += _placeholder_rules((("modes", str(name), "start")), mode.get("start"))
        for index, argv in enumerate(mode.get("build") or [] if isinstance(mode.get("build"), list) else []):
            findings += _placeholder_rules((("modes", str(name), "build", index)), argv)
    return findings


def _image_rules(path: Path, image: Any) -> list[Finding]:
    if not isinstance(image, dict):
        return []
    findings: list[Finding] = []
    if isinstance(image.get("dockerfile"), str) and not stays_inside(image["dockerfile"]):
        findings.append(((*path, "dockerfile"), "must be a path inside the snapshot"))
    arguments = image.get("arguments")
    for name in arguments if isinstance(arguments, dict) else ():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            findings.append(((*path, "arguments", str(name)), "is no name of a build argument"))
    return findings


def _placeholder_rules(path: Path, argv: Any) -> list[Finding]:
    unknown = [word for argument in strings(argv) for word in _braced(argument) if word not in PLACEHOLDERS]
    return [(path, f"unknown placeholder {word}; known are {', '.join(PLACEHOLDERS)}") for word in unknown]


def version_rules(raw: Mapping[str, Any], folder: str | None) -> list[Finding]:
    """Names, status and instants."""
    findings: list[Finding] = []
    slug, kind, status = raw.get("slug"), raw.get("kind"), raw.get("status")
    if isinstance(slug, str):
        if reason := unsafe_reason(slug):
            findings.append((("slug",), f"{slug!r} {reason}"))
        elif folder is not None and slug != folder:
            findings.append((("slug",), f"{slug!r} does not match its folder {folder!r}"))
    if isinstance(kind, str) and kind != KIND:
        findings.append((("kind",), f"must be {KIND!r} (found {kind!r})"))
    parent = raw.get("parent")
    if isinstance(parent, str) and (reason := unsafe_reason(parent)):
        findings.append((("parent",), f"{parent!r} {reason}"))
    if isinstance(status, str) and status not in {known.value for known in Status}:
        near = difflib.get_close_matches(status, [known.value for known in Status], 1)
        if near:
            findings.append((("status",), f"did you mean {near[0]!r}?"))
    created_at = raw.get("created_at")
    if isinstance(created_at, str) and not _is_instant(created_at):
        findings.append((("created_at",), f"{created_at!r} is no instant; write for example '2026-01-31T12:00:00Z'"))
    return findings


def _is_instant(text: str) -> bool:
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def _braced(argument: str) -> list[str]:
    return re.findall(r"\{[a-z_]+\}", argument)
