"""Rules of benchmark.yaml that span several fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pytest_staging.contract.rules import (
    Finding,
    schema_version_rule,
    stays_inside,
    strings,
    unsafe_mode_reason,
)
from pytest_staging.contract.sources import source_rules
from pytest_staging.model.names import unsafe_reason
from pytest_staging.yamltext import Path


def benchmark_rules(raw: Mapping[str, Any], required_modes: Collection[str]) -> list[Finding]:
    """Modes, payloads, functions, load and metrics."""
    findings: list[Finding] = schema_version_rule(raw)
    modes = strings(raw.get("platform_modes"))
    where: Path = ("platform_modes",)
    findings += [(where, f"must contain {mode!r}") for mode in required_modes if modes and mode not in modes]
    findings += [(where, f"{mode!r} stands twice") for mode in sorted({m for m in modes if modes.count(m) > 1})]
    findings += [(where, f"{mode!r} {reason}") for mode in modes if (reason := unsafe_mode_reason(mode))]
    payloads: dict[Any, Any] = raw["payloads"] if isinstance(raw.get("payloads"), dict) else {}
    for name, file in payloads.items():
        if reason := unsafe_reason(str(name)):
            findings.append((("payloads", str(name)), f"function name {reason}"))
        if isinstance(file, str) and not stays_inside(file):
            findings.append((("payloads", str(name)), "must be a path inside the benchmark's folder"))
    functions = strings(raw.get("functions"))
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
    return (
        findings + _load_rules(raw.get("load")) + _metric_rules(raw.get("metrics")) + source_rules(raw.get("sources"))
    )


def _load_rules(load: Any) -> list[Finding]:
    if not isinstance(load, dict):
        return []
    findings: list[Finding] = []
    if load.get("shape") == "open" and load.get("rate") is None:
        findings.append((("load", "rate"), "is missing: an open load needs its rate in requests per second"))
    if load.get("shape") == "closed" and load.get("rate") is not None:
        findings.append((("load", "rate"), "only goes with shape: open"))
    findings += _process_rules(load)
    if load.get("warm_up") is not None and load.get("warm_up_s") is not None:
        findings.append((("load", "warm_up_s"), "does not go with warm_up, which has max_s"))
    if load.get("tool") == "command" and not load.get("command"):
        findings.append((("load", "command"), "is missing: tool: command needs the program to run, as a list"))
    if load.get("tool") != "command" and load.get("command"):
        findings.append((("load", "command"), "only goes with tool: command"))
    if isinstance(load.get("script"), str) and not stays_inside(load["script"]):
        findings.append((("load", "script"), "must be a path inside the benchmark's folder"))
    if isinstance(load.get("tool_version"), str):
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            SpecifierSet(load["tool_version"])
        except InvalidSpecifier:
            findings.append((("load", "tool_version"), "is no version specifier; write for example '>=2.30,<3'"))
    return findings


def _process_rules(load: Mapping[str, Any]) -> list[Finding]:
    users, processes = load.get("users"), load.get("processes")
    if not isinstance(users, int) or not isinstance(processes, int) or processes <= users:
        return []
    return [(("load", "processes"), f"must not be more than users, {users}: each process needs one of its own")]


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
