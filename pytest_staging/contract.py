"""The file contracts as pure functions: text in, frozen model out, or one error with everything that is wrong.

The shapes are the model's dataclasses; pydantic checks them strictly and makes their JSON Schemas. Rules that span
several fields are functions over the raw data here, so that they report beside the field errors, not after them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.errors import ContractError, Problem
from pytest_staging.model.inventory import Inventory
from pytest_staging.model.names import unsafe_reason
from pytest_staging.model.version import KIND, ServiceSpec, Status, VersionMetadata
from pytest_staging.yamltext import Path, YamlText, dotted

T = TypeVar("T")
Finding = tuple[Path, str]
REQUIRED_MODES = ("jvm", "native")
SCHEMA_VERSION = 1
PLACEHOLDERS = ("{artifact}", "{host}", "{port}", "{snapshot}")
SCHEMAS: dict[str, type] = {
    "benchmark": Benchmark,
    "service": ServiceSpec,
    "targets": Inventory,
    "version": VersionMetadata,
}


def parse_benchmark(
    text: str, source: str = "benchmark.yaml", required_modes: Collection[str] = REQUIRED_MODES
) -> Benchmark:
    """Raises ContractError with every problem of the file. `required_modes` must all be among platform_modes."""
    return _parse(Benchmark, text, source, lambda raw: _benchmark_rules(raw, required_modes))


def parse_service(text: str, source: str = "service.yaml") -> ServiceSpec:
    """Raises ContractError with every problem of the file."""
    return _parse(ServiceSpec, text, source, _service_rules)


def parse_version(text: str, source: str = "version.yaml", folder: str | None = None) -> VersionMetadata:
    """Raises ContractError; also when `slug` is not the name of the `folder` that the file lies in."""
    return _parse(VersionMetadata, text, source, lambda raw: _version_rules(raw, folder))


def parse_inventory(text: str, source: str = "targets.yaml") -> Inventory:
    """Raises ContractError with every problem of the file."""
    return _parse(Inventory, text, source, _inventory_rules)


def build_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of file, for editors."""
    schema = _adapter(SCHEMAS[name]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"pytest-staging {name}", **schema}


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _parse(shape: type[T], text: str, source: str, rules: Callable[[Mapping[str, Any]], list[Finding]]) -> T:
    document = YamlText(text)
    advice = f"Print the schema with: staging-manager schema {_schema_name(shape)}"
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


def _validate(shape: type[T], raw: Mapping[str, Any]) -> tuple[T | None, list[Finding]]:
    # Through JSON, because strict mode then still takes text for enums and lists for tuples, and nothing else.
    try:
        encoded = json.dumps(raw)
    except (TypeError, ValueError, RecursionError) as error:
        return None, [((), f"holds something that is not plain data: {error}")]
    try:
        return cast(T, _adapter(cast(Any, shape)).validate_json(encoded)), []
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
    schema = _adapter(shape).json_schema()
    shapes = [schema, *schema.get("$defs", {}).values()]
    return tuple(sorted({key for one in shapes for key in one.get("properties", {})}))


def _benchmark_rules(raw: Mapping[str, Any], required_modes: Collection[str]) -> list[Finding]:
    findings: list[Finding] = _schema_version_rule(raw)
    modes = _strings(raw.get("platform_modes"))
    where: Path = ("platform_modes",)
    findings += [(where, f"must contain {mode!r}") for mode in required_modes if modes and mode not in modes]
    findings += [(where, f"{mode!r} stands twice") for mode in sorted({m for m in modes if modes.count(m) > 1})]
    findings += [(where, f"{mode!r} {reason}") for mode in modes if (reason := unsafe_mode_reason(mode))]
    payloads: dict[Any, Any] = raw["payloads"] if isinstance(raw.get("payloads"), dict) else {}
    for name, file in payloads.items():
        if reason := unsafe_reason(str(name)):
            findings.append((("payloads", str(name)), f"function name {reason}"))
        if isinstance(file, str) and not _stays_inside(file):
            findings.append((("payloads", str(name)), "must be a path inside the benchmark's folder"))
    functions = _strings(raw.get("functions"))
    twice = sorted({name for name in functions if functions.count(name) > 1})
    findings += [(("functions",), f"{name!r} stands twice") for name in twice]
    if raw.get("function_profile") == "subset":
        if not functions:
            findings.append((("functions",), "must name at least one function, because function_profile is 'subset'"))
    elif functions:
        findings.append((("functions",), "only goes with function_profile: subset"))
    findings += [
        (("functions", index), f"{name!r} has no entry in payloads")
        for index, name in enumerate(functions)
        if payloads and name not in payloads
    ]
    return findings + _load_rules(raw.get("load")) + _metric_rules(raw.get("metrics"))


def _load_rules(load: Any) -> list[Finding]:
    if not isinstance(load, dict):
        return []
    findings: list[Finding] = []
    if load.get("shape") == "open" and load.get("rate") is None:
        findings.append((("load", "rate"), "is missing: an open load needs its rate in requests per second"))
    if load.get("shape") == "closed" and load.get("rate") is not None:
        findings.append((("load", "rate"), "only goes with shape: open"))
    if isinstance(load.get("script"), str) and not _stays_inside(load["script"]):
        findings.append((("load", "script"), "must be a path inside the benchmark's folder"))
    if isinstance(load.get("tool_version"), str):
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            SpecifierSet(load["tool_version"])
        except InvalidSpecifier:
            findings.append((("load", "tool_version"), "is no version specifier; write for example '>=2.30,<3'"))
    return findings


def _metric_rules(metrics: Any) -> list[Finding]:
    if not isinstance(metrics, dict):
        return []
    findings: list[Finding] = []
    for name, spec in metrics.items():
        if reason := unsafe_reason(str(name)):
            findings.append((("metrics", str(name)), f"metric name {reason}"))
        if isinstance(spec, dict) and spec.get("tolerance") is None and spec.get("absolute_tolerance") is None:
            findings.append((("metrics", str(name)), "needs tolerance or absolute_tolerance"))
    return findings


def _service_rules(raw: Mapping[str, Any]) -> list[Finding]:
    findings: list[Finding] = _schema_version_rule(raw)
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
    if isinstance(image.get("dockerfile"), str) and not _stays_inside(image["dockerfile"]):
        findings.append(((*path, "dockerfile"), "must be a path inside the snapshot"))
    arguments = image.get("arguments")
    for name in arguments if isinstance(arguments, dict) else ():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            findings.append(((*path, "arguments", str(name)), "is no name of a build argument"))
    return findings


def _inventory_rules(raw: Mapping[str, Any]) -> list[Finding]:
    findings: list[Finding] = _schema_version_rule(raw)
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


def _placeholder_rules(path: Path, argv: Any) -> list[Finding]:
    unknown = [word for argument in _strings(argv) for word in _braced(argument) if word not in PLACEHOLDERS]
    return [(path, f"unknown placeholder {word}; known are {', '.join(PLACEHOLDERS)}") for word in unknown]


def _version_rules(raw: Mapping[str, Any], folder: str | None) -> list[Finding]:
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


def _schema_version_rule(raw: Mapping[str, Any]) -> list[Finding]:
    found = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(found, int) and found != SCHEMA_VERSION:
        return [(("schema_version",), f"{found} is not known here, this program reads {SCHEMA_VERSION}")]
    return []


def unsafe_mode_reason(name: str) -> str | None:
    """As unsafe_reason, and no '__' in it or made by it: a cell's folder is named version__mode."""
    if "__" in name:
        return "contains '__'"
    return "starts with '_'" if name.startswith("_") else unsafe_reason(name)


def _stays_inside(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path


def _strings(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _braced(argument: str) -> list[str]:
    return re.findall(r"\{[a-z_]+\}", argument)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}.get(type(value), "value")


def _schema_name(shape: type) -> str:
    return next(name for name, known in SCHEMAS.items() if known is shape)
