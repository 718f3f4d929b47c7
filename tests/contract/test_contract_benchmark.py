"""The benchmark's rules: every problem of a file at once, each with its path and line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from pytest_staging.contract import parse_benchmark
from pytest_staging.model.benchmark import Direction, FunctionProfile, LoadShape
from pytest_staging.model.errors import ContractError

GOOD: dict[str, Any] = {
    "platform_modes": ["jvm", "native"],
    "load": {"shape": "closed", "users": 2, "duration_s": 1},
    "payloads": {"echo": "payloads/echo.json", "sum": "payloads/sum.json"},
    "metrics": {"p95": {"unit": "ms", "direction": "lower", "tolerance": 0.1}},
}
REMOVE = object()


def changed(**changes: Any) -> dict[str, Any]:
    """GOOD with `load__rate=5` put at load.rate; REMOVE takes a key away."""
    data = copy.deepcopy(GOOD)
    for name, value in changes.items():
        *folders, last = name.split("__")
        place = data
        for folder in folders:
            place = place[folder]
        if value is REMOVE:
            del place[last]
        else:
            place[last] = value
    return data


def problems(data: dict[str, Any], **options: Any) -> list[str]:
    """Each problem as text, without its line."""
    with pytest.raises(ContractError) as caught:
        parse_benchmark(yaml.safe_dump(data, sort_keys=False), **options)
    assert all(problem.line for problem in caught.value.problems), "every problem has a line"
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_the_smallest() -> None:
    """SM-04: function_profile is `all` by default, and then every function with a payload is loaded."""
    benchmark = parse_benchmark(yaml.safe_dump(GOOD, sort_keys=False))
    assert benchmark.function_profile is FunctionProfile.ALL
    assert benchmark.selected_functions == ("echo", "sum")
    assert benchmark.load.shape is LoadShape.CLOSED
    assert benchmark.load.duration_s == 1.0
    assert benchmark.metrics["p95"].direction is Direction.LOWER


def test_a_subset() -> None:
    """SM-04: a subset loads what it names."""
    data = changed(function_profile="subset", functions=["sum"])
    assert parse_benchmark(yaml.safe_dump(data)).selected_functions == ("sum",)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"platform_modes": REMOVE}, ["platform_modes: is missing"]),
        ({"load": REMOVE}, ["load: is missing"]),
        ({"load__users": REMOVE}, ["load.users: is missing"]),
        ({"platfrom_modes": ["jvm"]}, ["platfrom_modes: unknown key; did you mean 'platform_modes'?"]),
        ({"load__userz": 3}, ["load.userz: unknown key; did you mean 'users'?"]),
        ({"zzz": 1}, ["zzz: unknown key"]),
        ({"load__users": "4"}, ["load.users: input should be a valid integer (found '4')"]),
        ({"load__users": True}, ["load.users: input should be a valid integer (found True)"]),
        ({"load__users": 1.5}, ["load.users: input should be a valid integer"]),
        ({"load__users": 0}, ["load.users: input should be greater than or equal to 1 (found 0)"]),
        ({"load__users": 10**18}, ["load.users: input should be less than or equal to 1000000 (found 10000"]),
        ({"load__duration_s": 1e300}, ["load.duration_s: input should be less than or equal to 2592000 (found"]),
        ({"load__warm_up_s": 1e6}, ["load.warm_up_s: input should be less than or equal to 86400"]),
        ({"load__rate": 1e10, "load__shape": "open"}, ["load.rate: input should be less than or equal to 1000000000"]),
        ({"load__request_timeout_s": 1e9}, ["load.request_timeout_s: input should be less than or equal to 86400"]),
        ({"load__warm_up": {"until": "steady", "max_s": 1e9}}, ["load.warm_up.max_s: input should be less than or"]),
        ({"load__duration_s": 0}, ["load.duration_s: input should be greater than 0"]),
        ({"load__duration_s": float("nan")}, ["load.duration_s: input should be a finite number"]),
        ({"load__duration_s": float("inf")}, ["load.duration_s: input should be a finite number"]),
        ({"load__warm_up_s": -1}, ["load.warm_up_s: input should be greater than or equal to 0"]),
        ({"load__shape": "round"}, ["load.shape: input should be 'closed' or 'open' (found 'round')"]),
        ({"load": ["users"]}, ["load: "]),
        ({"platform_modes": "jvm"}, ["platform_modes: input should be a valid"]),
        ({"platform_modes": []}, ["platform_modes: "]),
        ({"payloads": {}}, ["payloads: "]),
        ({"metrics": None}, ["metrics: "]),
        ({"schema_version": 2}, ["schema_version: 2 is not known here, this program reads 1"]),
        ({"function_profile": "some"}, ["function_profile: input should be 'all' or 'subset' (found 'some')"]),
        ({"function_profile": "subset"}, ["functions: must name at least one function"]),
        ({"function_profile": "subset", "functions": []}, ["functions: must name at least one function"]),
        ({"function_profile": "subset", "functions": ["ecko"]}, ["functions[0]: 'ecko' has no entry in payloads"]),
        ({"function_profile": "subset", "functions": ["sum", "sum"]}, ["functions: 'sum' stands twice"]),
        ({"functions": ["echo"]}, ["functions: only goes with function_profile: subset"]),
        ({"platform_modes": ["jvm"]}, ["platform_modes: must contain 'native'"]),
        ({"platform_modes": ["go", "rust"]}, ["platform_modes: must contain 'jvm'", "platform_modes: must"]),
        ({"platform_modes": ["jvm", "native", "jvm"]}, ["platform_modes: 'jvm' stands twice"]),
        ({"platform_modes": ["jvm", "native", "a__b"]}, ["platform_modes: 'a__b' contains '__'"]),
        ({"platform_modes": ["jvm", "native", "_b"]}, ["platform_modes: '_b' starts with '_'"]),
        ({"platform_modes": ["jvm", "native", "a/b"]}, ["platform_modes: 'a/b' may only have letters"]),
        ({"load__shape": "open"}, ["load.rate: is missing: an open load needs its rate"]),
        ({"load__processes": 99}, ["load.processes: input should be less than or equal to 64", "load.processes: must"]),
        ({"load__processes": 0}, ["load.processes: input should be greater than or equal to 1 (found 0)"]),
        ({"load__processes": 5, "load__users": 4}, ["load.processes: must not be more than users, 4: each process"]),
        ({"load__rate": 5}, ["load.rate: only goes with shape: open"]),
        ({"load__rate": -5, "load__shape": "open"}, ["load.rate: input should be greater than 0"]),
        ({"load__tool_version": "latest"}, ["load.tool_version: is no version specifier"]),
        ({"load__script": "../mine.py"}, ["load.script: must be a path inside the benchmark's folder"]),
        ({"payloads__echo": "../echo.json"}, ["payloads.echo: must be a path inside"]),
        ({"payloads__echo": "payloads/../../echo.json"}, ["payloads.echo: must be a path inside"]),
        ({"payloads__echo": "/etc/passwd"}, ["payloads.echo: must be a path inside"]),
        ({"payloads__echo": "a\\b"}, ["payloads.echo: must be a path inside"]),
        ({"payloads__echo": ""}, ["payloads.echo: must be a path inside"]),
        ({"payloads": {"a/b": "x.json"}}, ["payloads.a/b: function name may only have letters"]),
        ({"metrics__p95__tolerance": 0}, ["metrics.p95.tolerance: input should be greater than 0"]),
        ({"metrics__p95__tolerance": 1e300}, ["metrics.p95.tolerance: input should be less than or equal to 1000"]),
        ({"metrics__p95__absolute_tolerance": 1e200}, ["metrics.p95.absolute_tolerance: input should be less than"]),
        ({"metrics__p95__tolerance": REMOVE}, ["metrics.p95: needs tolerance or absolute_tolerance"]),
        ({"metrics__p95__direction": "down"}, ["metrics.p95.direction: input should be 'lower' or 'higher'"]),
        ({"metrics__p95__unit": ""}, ["metrics.p95.unit: "]),
        ({"metrics": {"a b": GOOD["metrics"]["p95"]}}, ["metrics.a b: metric name may only have letters"]),
    ],
)  # fmt: skip
def test_each_rule(changes: dict[str, Any], expected: list[str]) -> None:
    """SM-04: strict, and each error names its path."""
    found = problems(changed(**changes))
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize("required", [("go",), ("jvm", "native", "go")])
def test_required_modes_may_be_replaced_or_widened(required: tuple[str, ...]) -> None:
    """SM-04: services with other build modes say which modes are required."""
    missing = [mode for mode in required if mode not in GOOD["platform_modes"]]
    assert problems(GOOD, required_modes=required) == [f"platform_modes: must contain {mode!r}" for mode in missing]
    parse_benchmark(yaml.safe_dump(changed(platform_modes=list(required))), required_modes=required)


def test_all_errors_at_once_in_the_order_of_the_file() -> None:
    """SM-04: one run of the program shows everything that is wrong, with lines."""
    text = (
        "platform_modes: [jvm]\n"
        "load:\n"
        "  shape: open\n"
        "  users: many\n"
        "  duration_s: -3\n"
        "  colour: red\n"
        "payloads: {echo: ../echo.json}\n"
        "metrics:\n"
        "  p95: {unit: ms, direction: lower}\n"
    )
    with pytest.raises(ContractError) as caught:
        parse_benchmark(text, "benchmark/benchmark.yaml")
    message = str(caught.value)
    assert message.startswith("benchmark/benchmark.yaml: 7 errors\n")
    assert [(one.line, one.path) for one in caught.value.problems] == [
        (1, "platform_modes"), (2, "load.rate"), (4, "load.users"), (5, "load.duration_s"), (6, "load.colour"),
        (7, "payloads.echo"), (9, "metrics.p95"),
    ]  # fmt: skip
    assert "  line 5: load.duration_s: input should be greater than 0 (found -3)\n" in message
