"""Files of variables, `.env` and those of `env_file`: NAME=value, with quotes, comments and earlier variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pytest_staging.capacity.interpolation import interpolate

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:=\s*(.*))?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
Complain = Callable[[int, str], None]
"""Told of a line that cannot be read, by its number."""


def parse_dotenv(text: str, variables: Mapping[str, str], complain: Complain) -> dict[str, str]:
    """What the file sets. A name alone takes its value from `variables`, and sets nothing when it has none there."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            complain(number, "is no NAME=value")
            continue
        name, raw = match.groups()
        if raw is None:
            if name in variables:
                found[name] = variables[name]
            continue
        found[name] = _value(raw, {**found, **variables}, number, complain)
    return found


def _value(raw: str, variables: Mapping[str, str], number: int, complain: Complain) -> str:
    def heard(message: str) -> None:
        complain(number, message)

    if raw[:1] in ("'", '"'):
        end = re.match(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""", raw)
        if end is None:
            complain(number, "has a quote that does not end on its line")
            return raw
        if raw[0] == "'":
            return end.group(1)
        unescaped = re.sub(r"\\(.)", lambda one: _ESCAPES.get(one.group(1), one.group(1)), end.group(2))
        return interpolate(unescaped, variables, heard)
    return interpolate(re.split(r"\s+#", raw, maxsplit=1)[0].strip(), variables, heard)
