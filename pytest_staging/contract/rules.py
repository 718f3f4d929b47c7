"""What the rules of several files share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_staging.model.names import unsafe_reason
from pytest_staging.yamltext import Path

Finding = tuple[Path, str]
SCHEMA_VERSION = 1


def schema_version_rule(raw: Mapping[str, Any]) -> list[Finding]:
    """Whether this program reads the file's schema."""
    found = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(found, int) and found != SCHEMA_VERSION:
        return [(("schema_version",), f"{found} is not known here, this program reads {SCHEMA_VERSION}")]
    return []


def unsafe_mode_reason(name: str) -> str | None:
    """As unsafe_reason, and no '__' in it or made by it: a cell's folder is named version__mode."""
    if "__" in name:
        return "contains '__'"
    return "starts with '_'" if name.startswith("_") else unsafe_reason(name)


def stays_inside(path: str) -> bool:
    """Whether a relative path leaves its folder nowhere."""
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path


def strings(value: Any) -> list[str]:
    """The texts of a list, whatever else it is or holds."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
