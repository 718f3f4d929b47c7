"""A profile against compose files that nobody here wrote: every mismatch at once, each with its file and line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from systems import CAPACITY, COMPOSE, ROOT, manager, write_system

from pytest_staging.capacity.validating import validate
from pytest_staging.operating.describing import load_description
from pytest_staging.store import Workspace


def found(root: Path, profile: str = "wide", environment: str = "dev") -> list[str]:
    description = load_description(Workspace(root))
    return [str(one) for one in validate(description, profile, environment, {})]


def with_profile(**changes: Any) -> dict[str, Any]:
    profiles: dict[str, Any] = dict(CAPACITY["profiles"])  # type: ignore[call-overload]
    return {**CAPACITY, "profiles": {**profiles, "wide": {**profiles["wide"], **changes}}}


def test_the_samples_profiles_fit_their_compose_files() -> None:
    """CP-03 CP-05: baseline, observability and scale-out in dev and prod, without an engine or any variable set."""
    description = load_description(Workspace(ROOT))
    for profile in description.capacity.profiles:
        for environment in description.capacity.environments:
            assert validate(description, profile, environment, {}) == [], (profile, environment)


def test_a_fitting_profile_has_no_mismatch(tmp_path: Path) -> None:
    """CP-03: the cases below are changed from one that is right."""
    write_system(tmp_path)
    assert found(tmp_path) == found(tmp_path, "small") == []


CASES: dict[str, tuple[str, dict[str, Any] | None, list[str]]] = {
    "unknown service": (
        COMPOSE,
        with_profile(services=["api", "store", "extra", "wrker"], core=["api"]),
        ["deploy/capacity.yaml", "there is no service 'wrker'; known: api, extra, store"],
    ),
    "nearest service": (
        COMPOSE,
        with_profile(services=["api", "stor", "extra"], core=["api"]),
        ["there is no service 'stor'; did you mean 'store'?", "the compose files run 'store' too"],
    ),
    "commented out": (
        COMPOSE.replace("  extra:", "#  extra:")
        .replace("    image: example/extra:1", "#    image: example/extra:1")
        .replace("    profiles: [wide]", "#    profiles: [wide]")
        .replace('    environment: {PARALLEL: "${PARALLEL:-2}"}\n', "", 2)
        .replace("services:\n", "services:\n\n", 1),
        None,
        ["service 'extra' is only a comment, in deploy/compose.yaml line 11", "compose profile 'wide'"],
    ),
    "commented out profile": (
        COMPOSE.replace("    profiles: [wide]", "    # profiles: [wide]"),
        None,
        ["compose profile 'wide' is named by no service of the compose files; it is only a comment"],
    ),
    "not switched on": (
        COMPOSE,
        with_profile(compose_profiles=[]),
        ["service 'extra' does not run: it needs the compose profile wide (deploy/compose.yaml:11)"],
    ),
    "unknown compose profile": (
        COMPOSE,
        with_profile(compose_profiles=["wide", "wid"]),
        ["compose profile 'wid' is named by no service of the compose files; did you mean 'wide'?"],
    ),
    "replicas": (
        COMPOSE.replace("image: example/extra:1", "image: example/extra:1\n    deploy: {replicas: 4}"),
        None,
        ["extra: 1 declared, the compose files make 4 (deploy/compose.yaml:13)"],
    ),
    "commented out replicas": (
        COMPOSE.replace("image: example/extra:1", "image: example/extra:1\n    # scale: 3"),
        with_profile(replicas={"extra": 3}),
        ["extra: 3 declared, the compose files make 1", "a number of replicas is only a comment", "line 13"],
    ),
    "replicas that are no number": (
        COMPOSE.replace("image: example/extra:1", "image: example/extra:1\n    scale: lots"),
        None,
        ["deploy/compose.yaml:13: services.extra: the number of replicas is no whole number"],
    ),
    "replicas with a name": (
        COMPOSE.replace("image: example/extra:1", "image: example/extra:1\n    scale: 2\n    container_name: x"),
        with_profile(replicas={"extra": 2}),
        ["deploy/compose.yaml:14: services.extra: a service with a container_name cannot have 2"],
    ),
    "unread variable": (
        COMPOSE,
        with_profile(variables={"PARALEL": "8"}),
        ["variable PARALEL changes nothing: no compose file reads it; did you mean 'PARALLEL'?"],
    ),
    "commented out variable": (
        COMPOSE.replace(
            '    environment: {PARALLEL: "${PARALLEL:-2}"}', '    # environment: {PARALLEL: "${PARALLEL}"}'
        ),
        None,
        ["variable PARALLEL changes nothing: its use is only a comment, in deploy/compose.yaml line 5"],
    ),
    "variable of another profile": (
        COMPOSE.replace('    environment: {PARALLEL: "${PARALLEL:-2}"}\n', "", 1),
        {**CAPACITY, "profiles": {"wide": {"services": ["api", "store"], "variables": {"PARALLEL": "2"}}}},
        ["variable PARALLEL changes nothing: only services that do not run in this profile read it"],
    ),
    "no health check": (
        COMPOSE.replace("    healthcheck: {test: [CMD, check]}\n    depends_on", "    depends_on"),
        None,
        ["deploy/compose.yaml:3: services.api: a core service of profile wide needs a healthcheck"],
    ),
    "dependency that does not run": (
        COMPOSE.replace("depends_on: [store]", "depends_on: [extra]"),
        {**CAPACITY, "profiles": {"wide": {"services": ["api", "store"]}}},
        ["deploy/compose.yaml:7: services.api.depends_on: 'extra' does not run in profile wide"],
    ),
    "service under test": (
        COMPOSE,
        {**CAPACITY, "service_under_test": {"service": "ap", "port": 80}},
        ["service 'ap' does not run in profile wide; did you mean 'api'?"],
    ),
    "no compose file": (COMPOSE, {**CAPACITY, "compose_files": ["none.yaml"]}, ["deploy/none.yaml: the compose file"]),
    "broken compose file": ("services: {", None, ["deploy/compose.yaml:", "is not valid YAML"]),
    "no build overlay": (
        COMPOSE,
        {**CAPACITY, "build_overlay": "none.yaml"},
        ["deploy/none.yaml: the compose file deploy/none.yaml is not there"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mismatch_is_told_with_its_place(case: str, tmp_path: Path) -> None:
    """CP-03: services, compose profiles, replicas, variables, health checks, comments: what, where, and the nearest."""
    compose, capacity, expected = CASES[case]
    write_system(tmp_path, compose, capacity)
    told = "\n".join(found(tmp_path))
    for words in expected:
        assert words in told


def test_all_mismatches_are_told_at_once(tmp_path: Path) -> None:
    """CP-03: one hides no other."""
    compose = COMPOSE.replace("    healthcheck: {test: [CMD, check]}\n", "").replace(
        "image: example/store:1", "imag: x"
    )
    capacity = with_profile(services=["api", "store", "extra", "none"], replicas={"extra": 7}, variables={"NO": "1"})
    write_system(tmp_path, compose, capacity)
    told = "\n".join(found(tmp_path))
    for words in ("is no key of a service", "there is no service 'none'", "7 declared", "NO changes nothing",
                  "services.api: a core service", "services.store: a core service", "neither an image"):  # fmt: skip
        assert words in told


OVERLAY = "services:\n  api:\n    build: {context: code}\n  extr:\n    build: {context: code}\n"


def test_the_build_overlay_is_checked_too(tmp_path: Path) -> None:
    """CP-03: services that it invents, and Dockerfiles that are not there."""
    write_system(tmp_path, COMPOSE, {**CAPACITY, "build_overlay": "build.yaml"})
    (tmp_path / "deploy" / "build.yaml").write_text(OVERLAY)
    told = "\n".join(found(tmp_path))
    assert "deploy/build.yaml:4: there is no service 'extr'; did you mean 'extra'?" in told
    assert "deploy/build.yaml:3: services.api.build: deploy/code/Dockerfile is not there" in told
    (tmp_path / "deploy" / "code").mkdir()
    (tmp_path / "deploy" / "code" / "Dockerfile").write_text("FROM scratch\n")
    assert "Dockerfile" not in "\n".join(found(tmp_path))


def test_a_required_variable_need_not_be_set_to_validate(tmp_path: Path) -> None:
    """CP-03: secrets of prod are not there where the gate runs; a start asks for them."""
    write_system(tmp_path, COMPOSE.replace("example/api:1", "example/api:${TOKEN:?secret}"))
    assert found(tmp_path, environment="prod") == []
    assert "TOKEN must be set: secret" in "\n".join(found(tmp_path, environment="dev"))


def test_validate_changes_no_file_and_needs_no_engine(tmp_path: Path) -> None:
    """CP-03 CP-05: the same bytes before and after, with no docker on PATH; exit 1 with mismatches, 0 without."""
    write_system(tmp_path, COMPOSE, with_profile(replicas={"extra": 7}))

    def digests() -> dict[str, str]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = digests()
    nowhere = {"PATH": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}
    done = manager(tmp_path, "validate", env=nowhere)
    assert (done.returncode, done.stderr) == (1, "")
    assert "small (dev): ok" in done.stdout
    assert "wide (dev): deploy/capacity.yaml:" in done.stdout
    assert "wide (prod): set before a start: TOKEN" in done.stdout
    told = json.loads(manager(tmp_path, "validate", "wide", "--env", "dev", "--json", env=nowhere).stdout)
    assert [(one["profile"], one["environment"], len(one["mismatches"])) for one in told] == [("wide", "dev", 1)]
    assert manager(tmp_path, "validate", "small", env=nowhere).returncode == 0
    assert digests() == before


@pytest.mark.parametrize(
    "compose",
    [
        COMPOSE + 'volumes: {data: {name: "${ONLY}"}}\n',
        COMPOSE.replace("image: example/api:1", 'image: "example/api:1${ONLY:+-slim}"'),
        COMPOSE.replace("image: example/api:1", 'image: example/api:1\n    deploy: {replicas: "${ONLY:-1}"}'),
        COMPOSE.replace("image: example/api:1", 'image: "example/api:${TAG:-${ONLY}}"'),
    ],
)
def test_a_variable_may_matter_anywhere(compose: str, tmp_path: Path) -> None:
    """CP-03: in a volume, as a mere presence, as a number of replicas, within a default."""
    write_system(tmp_path, compose, with_profile(variables={"PARALLEL": "8", "ONLY": "1"}))
    assert found(tmp_path) == []
    write_system(tmp_path, COMPOSE, with_profile(variables={"PARALLEL": "8", "ONLY": "1"}))
    assert "variable ONLY changes nothing" in "\n".join(found(tmp_path))
