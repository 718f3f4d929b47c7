"""Variables in compose files: `$NAME`, and `${NAME}` with a default, an error or an alternative. `$$` is one `$`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
MAX_DEPTH = 20

Complain = Callable[[str], None]
"""Told what is wrong with a text; reading goes on."""


@dataclass
class _Text:
    text: str
    at: int = 0

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()


def interpolate(text: str, variables: Mapping[str, str], complain: Complain) -> str:
    """`text` with its variables filled in; one that is not set is empty, as with Compose.

    `complain` hears of a variable that must be set and is not, and of a `$` that begins none.
    """
    return _read(_Text(text), variables, complain, 0) if "$" in text else text


def names_in(text: str) -> set[str]:
    """The variables that a text reads, set or not."""
    return set(re.findall(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_][A-Za-z0-9_]*)", text))


def _read(source: _Text, variables: Mapping[str, str], complain: Complain, depth: int) -> str:
    """Up to the end, or to the brace that ends a nested text, which is left standing."""
    out = []
    while source.at < len(source.text):
        char = source.text[source.at]
        if char == "}" and depth:
            break
        source.at += 1
        if char != "$":
            out.append(char)
        elif source.text.startswith("$", source.at):
            source.at += 1
            out.append("$")
        elif source.text.startswith("{", source.at):
            source.at += 1
            out.append(_braced(source, variables, complain, depth))
        elif name := source.match(_NAME):
            out.append(variables.get(name, ""))
        else:
            complain(f"{source.text!r}: a '$' that begins no variable; write '$$' for one that stands for itself")
            out.append("$")
    return "".join(out)


def _braced(source: _Text, variables: Mapping[str, str], complain: Complain, depth: int) -> str:
    name, operator = source.match(_NAME), source.match(_OPERATOR)
    if depth >= MAX_DEPTH:
        complain(f"{source.text[:60]!r}...: is nested too deeply")
        source.at = len(source.text)
        return ""
    heard: list[str] = []
    # What is not taken must not complain: `${A:-${B:?}}` is fine when A is set.
    argument = _read(source, variables, heard.append, depth + 1) if operator else ""
    if not name or not source.text.startswith("}", source.at):
        complain(f"{source.text!r}: is no valid use of a variable; the forms are ${{NAME}} and ${{NAME:-default}}")
        for one in heard:
            complain(one)
        source.at = len(source.text)
        return ""
    source.at += 1
    value = variables.get(name)
    present = value is not None and (value != "" or not operator.startswith(":"))
    if operator.endswith("?"):
        if not present:
            complain(f"{name} must be set" + (f": {argument}" if argument else ""))
        return value or ""
    if operator.endswith("+"):
        value, taken = (argument, True) if present else ("", False)
    else:
        value, taken = (value, False) if present or not operator else (argument, True)
    for one in heard if taken else ():
        complain(one)
    return value or ""
