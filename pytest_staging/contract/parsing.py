"""From a YAML text to a frozen model, or one error with all that is wrong. pydantic checks the shapes strictly."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pytest_staging.contract.rules import Finding
from pytest_staging.model.errors import ContractError, Problem
from pytest_staging.yamltext import Path, YamlText, dotted

T = TypeVar("T")


def parse(shape: type[T], kind: str, text: str, source: str, rules: Callable[[Mapping[str, Any]], list[Finding]]) -> T:
    """Raises ContractError with the findings of shape and rules, in the order of their lines."""
    document = YamlText(text)
    advice = f"Print the schema with: staging-manager schema {kind}"
    if document.problems:
        raise ContractError(source, document.problems, advice)
    if not isinstance(document.data, dict):
        found = "is empty" if document.data is None else f"is a {_kind_of(document.data)}"
        raise ContractError(source, [Problem("", f"{found}, a mapping of keys is needed")], advice)
    parsed, findings = _validate(shape, document.data)
    findings += rules(document.data)
    if findings or parsed is None:
        ordered = sorted({(document.line_of(path) or 0, dotted(path), message) for path, message in findings})
        raise ContractError(source, [Problem(path, message, line or None) for line, path, message in ordered], advice)
    return parsed


@cache
def adapter(shape: Any) -> TypeAdapter[Any]:
    """Made once: that is what costs."""
    return TypeAdapter(shape)


def _validate(shape: type[T], raw: Mapping[str, Any]) -> tuple[T | None, list[Finding]]:
    # Through JSON, because strict mode then still takes text for enums and lists for tuples, and nothing else.
    try:
        encoded = json.dumps(raw)
    except (TypeError, ValueError, RecursionError) as error:
        return None, [((), f"holds something that is not plain data: {error}")]
    try:
        return cast(T, adapter(cast(Any, shape)).validate_json(encoded)), []
    except ValidationError as error:
        return None, [_finding(detail, raw, shape) for detail in error.errors(include_url=False)]


def _finding(detail: Any, raw: Mapping[str, Any], shape: type) -> Finding:
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known_keys(shape)
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        return path, "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if detail["type"] in ("missing", "missing_argument"):
        return path, "is missing"
    message = str(detail["msg"])
    message = message[0].lower() + message[1:]
    return path, f"{message} (found {_shown(detail.get('input'))})"


@cache
def _known_keys(shape: type) -> tuple[str, ...]:
    schema = adapter(shape).json_schema()
    shapes = [schema, *schema.get("$defs", {}).values()]
    return tuple(sorted({key for one in shapes for key in one.get("properties", {})}))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}.get(type(value), "value")
