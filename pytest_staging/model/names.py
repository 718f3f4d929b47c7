"""Names that become paths and test ids: versions' slugs, platform modes, campaign ids. And what an address may be."""

from __future__ import annotations

import re

from pytest_staging.model.errors import UnsafeName

MAX_NAME_LENGTH = 100
NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
# Also of a user. One that begins with a dash would become an option of a program.
ADDRESS_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.:%@-]*"
_SAFE = re.compile(NAME_PATTERN)


def unsafe_reason(name: str) -> str | None:
    """Why `name` must not become part of a path; None when it may."""
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters, at most {MAX_NAME_LENGTH} are allowed"
    if name[0] in ".-":
        return f"starts with {name[0]!r}"
    if ".." in name:
        return "contains '..'"
    if not _SAFE.fullmatch(name):
        return "may only have letters, digits, '.', '_' and '-'"
    return None


def require_safe(kind: str, name: str) -> str:
    """`name` itself when it is safe. Raises UnsafeName naming `kind` and the rule it breaks."""
    reason = unsafe_reason(name)
    if reason:
        raise UnsafeName(f"{kind} {name!r} {reason}. Use for example 'pool-v2'.")
    return name
