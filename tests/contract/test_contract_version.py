"""version.yaml and service.yaml: their rules, and the names that may become paths."""

from __future__ import annotations

import pytest
import yaml

from pytest_staging.contract import parse_service, parse_version
from pytest_staging.model.errors import ContractError, UnsafeName
from pytest_staging.model.names import require_safe, unsafe_reason
from pytest_staging.model.version import Runtime, Status

VERSION = {
    "slug": "pool-v2",
    "kind": "generic-service",
    "status": "staging",
    "parent": "baseline",
    "created_at": "2026-01-31T12:00:00Z",
}
MODE = {"runtime": "jvm", "start": ["java", "-jar", "{artifact}/a.jar", "--port", "{port}"]}


def version_problems(data: dict[str, object], folder: str | None = "pool-v2") -> list[str]:
    with pytest.raises(ContractError) as caught:
        parse_version(yaml.safe_dump(data, sort_keys=False), folder=folder)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def service_problems(data: object) -> list[str]:
    with pytest.raises(ContractError) as caught:
        parse_service(yaml.safe_dump(data, sort_keys=False))
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize("status", ["staging", "candidate", "baseline", "rejected", "archived-baseline"])
def test_every_status(status: str) -> None:
    """SM-02: the five statuses."""
    assert parse_version(yaml.safe_dump({**VERSION, "status": status})).status is Status(status)


def test_optional_fields() -> None:
    """SM-02: source_commit, notes and the promotion's fields are optional."""
    more = {"source_commit": "abc123", "notes": "why", "campaign_id": "c1", "verdict": "pass", "promoted_at": "x"}
    version = parse_version(yaml.safe_dump({**VERSION, **more}))
    assert {key: getattr(version, key) for key in more} == more


@pytest.mark.parametrize("field", VERSION)
def test_required_fields(field: str) -> None:
    """SM-02: each required field, when missing, is named."""
    assert version_problems({key: value for key, value in VERSION.items() if key != field}) == [f"{field}: is missing"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "candidat"}, ["status: did you mean 'candidate'?", "status: input should be 'staging', "]),
        ({"status": "gone"}, ["status: input should be 'staging', 'candidate', 'baseline', 'rejected' or 'archived-"]),
        ({"stauts": "staging"}, ["stauts: unknown key; did you mean 'status'?"]),
        ({"kind": "service"}, ["kind: must be 'generic-service' (found 'service')"]),
        ({"slug": "other"}, ["slug: 'other' does not match its folder 'pool-v2'"]),
        ({"slug": 5}, ["slug: input should be a valid string (found 5)"]),
        ({"parent": "../x"}, ["parent: '../x' starts with '.'"]),
        ({"created_at": "yesterday"}, ["created_at: 'yesterday' is no instant"]),
        ({"notes": ["a"]}, ["notes: input should be a valid string"]),
    ],
)
def test_each_version_rule(changes: dict[str, object], expected: list[str]) -> None:
    """SM-02: unknown status, unknown key, wrong type, slug that does not match: named with their field."""
    found = version_problems({**VERSION, **changes})
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


UNSAFE = {
    "": "is empty",
    "a" * 101: "has 101 characters",
    ".hidden": "starts with '.'",
    "-rf": "starts with '-'",
    "..": "starts with '.'",
    "a..b": "contains '..'",
    "a/b": "may only have letters",
    "/etc": "may only have letters",
    "a\\b": "may only have letters",
    "a b": "may only have letters",
    "a\n": "may only have letters",
    "a\0b": "may only have letters",
    "äpfel": "may only have letters",
    "a*": "may only have letters",
    "٣": "may only have letters",
}


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_unsafe_names(name: str) -> None:
    """SM-02: slugs that must not become paths are refused, with the rule they break."""
    assert (unsafe_reason(name) or "").startswith(UNSAFE[name])
    with pytest.raises(UnsafeName, match=r"^version "):
        require_safe("version", name)
    assert version_problems({**VERSION, "slug": name}, folder=None) == [f"slug: {name!r} {unsafe_reason(name)}"]


@pytest.mark.parametrize("name", ["a", "A-1", "pool-v2.1", "_x", "9", "a" * 100])
def test_safe_names(name: str) -> None:
    """SM-02: letters, digits, dot, dash and underscore, up to 100 characters."""
    assert unsafe_reason(name) is None
    assert require_safe("version", name) == name


def test_a_service() -> None:
    service = parse_service(yaml.safe_dump({"functions": ["echo"], "modes": {"jvm": MODE}}))
    assert service.modes["jvm"].runtime is Runtime.JVM
    assert service.modes["jvm"].health == "/healthz"
    assert service.modes["jvm"].build == ()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ({"runtime": "dotnet"}, "modes.jvm.runtime: input should be 'jvm' or 'native' (found 'dotnet')"),
        ({"start": []}, "modes.jvm.start: "),
        ({"start": "java -jar a.jar"}, "modes.jvm.start: input should be a valid "),
        ({"start": ["java", "{prot}"]}, "modes.jvm.start: unknown placeholder {prot}; known are {artifact}"),
        ({"build": [["cc", "{out}"]]}, "modes.jvm.build[0]: unknown placeholder {out}"),
        ({"build": ["cc"]}, "modes.jvm.build[0]: input should be a valid "),
        ({"health": "healthz"}, "modes.jvm.health: must start with '/'"),
        ({"metrics": "metrics"}, "modes.jvm.metrics: must start with '/'"),
        ({"ready_timeout_s": 0}, "modes.jvm.ready_timeout_s: input should be greater than 0"),
        ({"stop_timeout_s": float("inf")}, "modes.jvm.stop_timeout_s: input should be a finite number"),
        ({"environment": {"A": 1}}, "modes.jvm.environment.A: input should be a valid string (found 1)"),
        ({"strat": []}, "modes.jvm.strat: unknown key; did you mean 'start'?"),
    ],
)
def test_each_service_rule(mode: dict[str, object], expected: str) -> None:
    """SM-04: service.yaml is as strict as the benchmark."""
    found = service_problems({"functions": ["echo"], "modes": {"jvm": {**MODE, **mode}}})
    assert found[0].startswith(expected), found
    assert all(one.startswith(expected.split(": ")[0]) for one in found), found


@pytest.mark.parametrize(
    ("modes", "expected"), [({}, "modes: "), (["jvm"], "modes: "), ({"a__b": MODE}, "modes.a__b: ")]
)
def test_modes(modes: object, expected: str) -> None:
    assert service_problems({"functions": ["echo"], "modes": modes})[0].startswith(expected)


def test_braces_that_are_no_placeholder() -> None:
    """A shell's or JSON's own braces are left alone."""
    mode = {**MODE, "start": ["sh", "-c", 'echo "{}" ${HOME} {1..3}', '{"a": 1}']}
    assert parse_service(yaml.safe_dump({"functions": ["echo"], "modes": {"jvm": mode}}))
