"""Compose files resolved without an engine: as Compose itself does it, and what is wrong with a file, with its line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from systems import ROOT, require_compose, resolved, write_files

from pytest_staging.capacity.dotenv import parse_dotenv
from pytest_staging.capacity.interpolation import interpolate
from pytest_staging.capacity.merging import as_list, dependencies, named_values
from pytest_staging.capacity.resolving import ResolvedService

IMAGE = "image: example/a:1"
SYSTEMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "variables": (
        {
            "compose.yaml": """
services:
  a:
    image: "example/${NAME:-a}:${TAG-latest}"
    environment:
      EMPTY_DEFAULT: ${EMPTY:-filled}
      EMPTY_KEPT: ${EMPTY-filled}
      PLAIN: $SET/${SET}
      DOLLAR: $$SET
      FROM_FILE: ${FROM_FILE:?must be there}
      UNSET: "[${NOT_SET}]"
      NUMBER: 12
    deploy: {replicas: 3}
""",
            ".env": "# a comment\nFROM_FILE='in file'\nSET=lost\nexport TAG=\"9\"  # nine\n",
        },
        ["compose.yaml"],
    ),
    "anchors": (
        {
            "compose.yaml": """
x-base: &base
  image: example/a:1
  environment: {ONE: "1"}
  healthcheck: &check {test: [CMD, look], interval: 5s}
services:
  a: {<<: *base}
  b:
    <<: *base
    environment: {TWO: "${SET}"}
    healthcheck: {<<: *check, interval: 9s}
    profiles: [more]
""",
        },
        ["compose.yaml"],
    ),
    "several files": (
        {
            "compose.yaml": """
services:
  a:
    image: example/a:1
    command: [one, two]
    environment: [ONE=1, TWO=2]
    labels: {one: "1"}
    ports: ["8000:80"]
    expose: ["80"]
    volumes: ["./data:/data", "named:/more"]
    depends_on: [b]
    healthcheck: {test: [CMD, look], interval: 5s}
    dns: 1.1.1.1
    build: {context: ., args: {A: "1"}}
  b: {image: "example/b:1"}
volumes: {named: {}}
""",
            "sub/over.yaml": """
services:
  a:
    command: three
    environment: {TWO: "22", THREE: "3"}
    labels: [two=2]
    ports: ["9000:90"]
    expose: ["80", "81"]
    volumes: ["/elsewhere:/data:ro"]
    depends_on: {c: {condition: service_healthy}}
    healthcheck: {interval: 7s}
    dns: [2.2.2.2]
    build: {args: {B: "2"}, dockerfile: Other}
  c: {image: "example/c:1", profiles: [p, q]}
""",
        },
        ["compose.yaml", "sub/over.yaml"],
    ),
    "extends": (
        {
            "compose.yaml": """
services:
  base:
    image: example/a:1
    environment: {ONE: "1", TWO: "2"}
    labels: {one: "1"}
    volumes: ["./data:/data"]
  a:
    extends: {service: base}
    environment: {TWO: "22"}
  b:
    extends: {service: middle, file: other/base.yaml}
    command: [mine]
    profiles: [wide]
""",
            "other/base.yaml": """
services:
  middle:
    extends: {service: root}
    build: {context: ./code}
    environment: {LEVEL: middle}
  root:
    image: example/root:${SET}
    environment: {LEVEL: root, ROOT: "1"}
    volumes: ["./files:/files"]
""",
            "other/code/Dockerfile": "",
        },
        ["compose.yaml"],
    ),
    "files of variables": (
        {
            "compose.yaml": """
services:
  a:
    image: example/a:1
    env_file: [one.env, two.env]
    environment:
      OVER: here
      SET:
""",
            "one.env": "ONE=1\nBOTH=one\nOVER=file\n",
            "two.env": "TWO=2\nBOTH=two\n",
        },
        ["compose.yaml"],
    ),
}
VARIABLES = {"SET": "value", "EMPTY": ""}


def comparable(service: dict[str, Any]) -> dict[str, Any]:
    """What both say of a service, in one notation."""
    deploy = service.get("deploy") or {}
    health = service.get("healthcheck") or {}
    build = service.get("build") or {}
    build = {"context": build} if isinstance(build, str) else build
    return {
        "image": service.get("image"),
        "command": as_list(service.get("command")),
        "environment": {
            key: None if value is None else str(value).replace("$$", "$")
            for key, value in named_values(service.get("environment")).items()
        },
        "labels": named_values(service.get("labels")),
        "depends_on": {name: how.get("condition") for name, how in dependencies(service).items()},
        "profiles": sorted(as_list(service.get("profiles"))),
        "replicas": service.get("scale") or deploy.get("replicas", 1),
        "ports": sorted(
            ":".join(str(one[key]) for key in ("host_ip", "published", "target") if key in one)
            if isinstance(one, dict)
            else one.removesuffix("/tcp")
            for one in as_list(service.get("ports"))
        ),
        "expose": sorted(map(str, as_list(service.get("expose")))),
        "dns": as_list(service.get("dns")),
        "volumes": sorted(short_volume(one) for one in as_list(service.get("volumes"))),
        "health": (health.get("test"), health.get("interval")),
        "build": (build.get("context"), build.get("dockerfile", "Dockerfile"), build.get("args")),
    }


def short_volume(one: Any) -> str:
    """v2 writes every volume in the long form."""
    if not isinstance(one, dict):
        return str(one).removesuffix(":rw")
    return f"{one['source']}:{one['target']}" + (":ro" if one.get("read_only") else "")


def ask_compose(generation: int, folder: Path, files: list[Path], variables: Mapping[str, str]) -> dict[str, Any]:
    """The services as Compose itself resolves them."""
    program, needed = require_compose(generation)
    chosen = ["--profile", "*"] if generation == 2 else []  # v1 shows every service as it is
    argv = [*program, *(part for one in files for part in ("-f", str(one))), *chosen, "config"]
    environment = {"PATH": os.environ["PATH"], **needed, **variables}
    done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {key: comparable(one) for key, one in yaml.safe_load(done.stdout)["services"].items()}


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", SYSTEMS)
def test_files_are_resolved_as_compose_resolves_them(name: str, generation: int, tmp_path: Path) -> None:
    """CP-03: variables, anchors, several files, extends and env files give what Compose's own `config` gives."""
    files, names = SYSTEMS[name]
    write_files(tmp_path, files)
    theirs = ask_compose(generation, tmp_path, [tmp_path / one for one in names], VARIABLES)
    system = resolved(tmp_path, *names, variables=VARIABLES)
    assert system.mismatches == []
    assert {key: comparable(dict(one.data)) for key, one in system.services.items()} == theirs


@pytest.mark.parametrize("generation", [1, 2])
def test_the_samples_files_are_resolved_as_compose_resolves_them(generation: int) -> None:
    """CP-03: the same for deploy/compose.yaml with its build overlay, under the variables of scale-out."""
    variables = {"RABBITMQ_USER": "u", "RABBITMQ_PASSWORD": "p$$x", "WORKER_MAX_PARALLEL": "8"}
    names = ("compose.yaml", "compose.build.yaml")
    theirs = ask_compose(generation, ROOT, [ROOT / "deploy" / one for one in names], variables)
    system = resolved(ROOT / "deploy", *names, variables=variables)
    ours = {key: comparable(dict(one.data)) for key, one in system.services.items()}
    for one in (*ours.values(), *theirs.values()):
        one["environment"].pop("AMQP_PASSWORD", None)
        for key in ("STAGING_BROKER_PASSWORD", "STAGING_RABBITMQ_PASSWORD"):
            one["environment"].pop(key, None)  # its '$' is escaped by Compose's own output
    assert ours == theirs


INTERPOLATED = {
    "plain": "plain",
    "$A ${A} $$A": "a a $A",
    "${B:-b} ${B-b} ${E:-e} ${E-e}.": "b b e .",
    "${A:+alt} ${B:+alt}.${E+alt}": "alt .alt",
    "${B:-${A}-${E:-x}}": "a-x",
    "${A:?never} ${A?never}": "a a",
    "${B:-$$5}": "$5",
    "${B:-a}}": "a}",
}


@pytest.mark.parametrize("text", INTERPOLATED)
def test_variables_are_filled_in(text: str) -> None:
    """CP-03: every form of a variable that Compose knows."""
    heard: list[str] = []
    assert interpolate(text, {"A": "a", "E": ""}, heard.append) == INTERPOLATED[text]
    assert heard == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${B:?set me}", "B must be set: set me"),
        ("${E:?}", "E must be set"),
        ("${", "no valid use"),
        ("${A", "no valid use"),
        ("${1}", "no valid use"),
        ("cost: 5$", "begins no variable"),
        ("${A!x}", "no valid use"),
        ("${C:-" * 50, "nested too deeply"),
    ],
)
def test_a_bad_use_of_a_variable_is_told(text: str, words: str) -> None:
    """CP-03: an unset variable that must be set, and a '$' that begins none."""
    heard: list[str] = []
    interpolate(text, {"A": "a", "E": ""}, heard.append)
    assert any(words in one for one in heard), heard


def test_what_is_not_taken_must_not_be_set() -> None:
    """CP-03: `${A:-${B:?}}` asks for B only when A is not there."""
    heard: list[str] = []
    assert interpolate("${A:-${B:?x}}", {"A": "a"}, heard.append) == "a"
    assert heard == []
    interpolate("${C:-${B:?x}}", {"A": "a"}, heard.append)
    assert heard == ["B must be set: x"]


def test_a_file_of_variables() -> None:
    """CP-03: quotes, comments, earlier variables; a line that is none is told with its number."""
    heard: list[tuple[int, str]] = []
    text = "A=1\n\n# no\nB=\"two words\" # c\nC='$A'\nD=${A}x # c\nE=\nbad line\nF\nG"
    found = parse_dotenv(text, {"F": "f"}, lambda line, what: heard.append((line, what)))
    assert found == {"A": "1", "B": "two words", "C": "$A", "D": "1x", "E": "", "F": "f"}
    assert heard == [(8, "is no NAME=value")]


FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "syntax": ({"compose.yaml": "services:\n  a: [\n"}, "compose.yaml:3: is not valid YAML"),
    "empty": ({"compose.yaml": ""}, "compose.yaml: is empty"),
    "a list": ({"compose.yaml": "- a\n"}, "compose.yaml: is no mapping of keys"),
    "key of the file": (
        {"compose.yaml": "servces: {}\n"},
        "compose.yaml:1: servces: is no key of a compose file; did you mean 'services'?",
    ),
    "key of a service": (
        {"compose.yaml": "services:\n  a:\n    image: x\n    enviroment: {}\n"},
        "compose.yaml:4: services.a.enviroment: is no key of a service; did you mean 'environment'?",
    ),
    "key of a health check": (
        {"compose.yaml": "services:\n  a:\n    image: x\n    healthcheck: {tests: [CMD, x]}\n"},
        "compose.yaml:4: services.a.healthcheck.tests: is no key of a health check; did you mean 'test'?",
    ),
    "a key twice": (
        {"compose.yaml": "services:\n  a: {image: x}\n  a: {image: y}\n"},
        "compose.yaml:3: services.a: stands twice",
    ),
    "cycle": (
        {"compose.yaml": "services:\n  a:\n    extends: {service: b}\n  b:\n    extends: {service: a}\n    image: x\n"},
        "services.b.extends: goes round in a circle: a -> b -> a",
    ),
    "cycle over files": (
        {
            "compose.yaml": "services:\n  a:\n    extends: {service: b, file: b.yaml}\n    image: x\n",
            "b.yaml": "services:\n  b:\n    extends: {service: a, file: compose.yaml}\n",
        },
        "b.yaml:3: services.b.extends: goes round in a circle: a -> b -> a",
    ),
    "itself": ({"compose.yaml": "services:\n  a:\n    extends: a\n    image: x\n"}, "goes round in a circle: a -> a"),
    "unknown parent": (
        {"compose.yaml": "services:\n  base: {image: x}\n  a:\n    extends: {service: bas}\n    image: x\n"},
        "compose.yaml:4: services.a.extends: compose.yaml has no service 'bas'; did you mean 'base'?",
    ),
    "unknown file": (
        {"compose.yaml": "services:\n  a:\n    extends: {service: b, file: none.yaml}\n    image: x\n"},
        "compose.yaml:3: services.a.extends: the file of extends none.yaml is not there",
    ),
    "no image": (
        {"compose.yaml": "services:\n  a:\n    command: x\n"},
        "compose.yaml:2: services.a: has neither an image nor a build",
    ),
    "all of it in comments": (
        {"compose.yaml": "services:\n  a:\n  #  image: x\n"},
        "compose.yaml:2: services.a: has neither an image nor a build",
    ),
    "a number": (
        {"compose.yaml": "services:\n  a: 3\n"},
        "compose.yaml:2: services.a: has neither an image nor a build",
    ),
    "no keys": (
        {"compose.yaml": "services:\n  a: {image: x}\n  b: {}\n"},
        "compose.yaml:3: services.b: has neither an image nor a build",
    ),
    "only a cycle": (
        {"compose.yaml": "services:\n  a: {extends: b}\n  b: {extends: a}\n"},
        "compose.yaml:3: services.b.extends: goes round in a circle: a -> b -> a",
    ),
    "only an unknown parent": (
        {"compose.yaml": "services:\n  a: {extends: {service: nope}}\n"},
        "compose.yaml:2: services.a.extends: compose.yaml has no service 'nope'",
    ),
    "only an unknown file": (
        {"compose.yaml": "services:\n  a: {extends: {service: b, file: none.yaml}}\n"},
        "compose.yaml:2: services.a: has neither an image nor a build",
    ),
    "unknown dependency": (
        {"compose.yaml": "services:\n  a:\n    image: x\n    depends_on: [b]\n"},
        "compose.yaml:4: services.a.depends_on: there is no service 'b'",
    ),
    "variables' file": (
        {"compose.yaml": "services:\n  a:\n    image: x\n    env_file: none.env\n"},
        "compose.yaml:4: env_file none.env is not there",
    ),
    "must be set": (
        {"compose.yaml": "services:\n  a:\n    image: ${TAG:?which one}\n"},
        "compose.yaml:3: services.a.image: TAG must be set: which one",
    ),
    "include": (
        {"compose.yaml": "include: [compose.yaml]\nservices: {}\n"},
        "compose.yaml:1: include: includes itself",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_with_a_file_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    """CP-03: syntax errors, unknown keys, circles in extends, what is missing: each with file and line."""
    files, expected = FAULTS[name]
    write_files(tmp_path, files)
    found = [str(one) for one in resolved(tmp_path).mismatches]
    assert any(expected in one for one in found), found


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """CP-03: one broken key hides no other."""
    text = "services:\n  a:\n    imag: x\n  b:\n    image: $\n    extends: nobody\n"
    write_files(tmp_path, {"compose.yaml": text})
    assert len(resolved(tmp_path).mismatches) == 4


def test_keys_that_only_newer_versions_know_are_no_mistakes(tmp_path: Path) -> None:
    """CP-03: include, !reset, !override, env files that need not be there, optional dependencies."""
    write_files(
        tmp_path,
        {
            "compose.yaml": "include: [{path: more.yaml}]\nname: x\nservices:\n  a:\n    image: x\n    ports: ['1:1']\n"
            "    env_file: [{path: no.env, required: false}]\n    develop: {watch: []}\n    gpus: all\n",
            "more.yaml": "services:\n  b: {image: y}\n",
            "over.yaml": "services:\n  a:\n    ports: !reset []\n    gpus: !override none\n",
        },
    )
    system = resolved(tmp_path, "compose.yaml", "over.yaml")
    assert system.mismatches == []
    assert set(system.services) == {"a", "b"}
    assert "ports" not in system.services["a"].data
    assert system.services["a"].data["gpus"] == "none"


def test_a_whole_service_is_taken_away_or_begun_anew(tmp_path: Path) -> None:
    """CP-03: `!reset` and `!override` on a service do what Compose v2 does, also where no file says more of it."""
    write_files(
        tmp_path,
        {
            "compose.yaml": "services:\n  a: {image: x}\n  b: {image: y, command: one}\n",
            "over.yaml": "services:\n  a: !reset null\n  b: !override {image: z}\n  c: !reset null\n",
        },
    )
    system = resolved(tmp_path, "compose.yaml", "over.yaml")
    assert system.mismatches == []
    assert {name: one.data for name, one in system.services.items()} == {"b": {"image": "z"}}
    assert system.services["b"].where("image") == ("over.yaml", 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, 1),
        ({"scale": 2}, 2),
        ({"deploy": {"replicas": "3"}}, 3),
        ({"deploy": {"mode": "global", "replicas": 3}}, 1),
        ({"deploy": {"replicas": 0}}, 0),
        ({"deploy": {"replicas": "many"}}, None),
        ({"deploy": None}, 1),
    ],
)
def test_the_number_of_replicas(data: dict[str, Any], expected: int | None) -> None:
    """CP-03: from scale, deploy.replicas, or one."""
    assert ResolvedService("a", data, "f", 1).replicas == expected


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"test": ["CMD", "x"]}, True),
        ({"test": "x"}, True),
        ({"test": ["NONE"]}, False),
        ({"test": "NONE"}, False),
        ({"disable": True, "test": "x"}, False),
        ({"interval": "1s"}, False),
        (None, False),
    ],
)
def test_whether_there_is_a_health_check(check: Any, expected: bool) -> None:
    """CP-03: one that is off counts for none."""
    assert ResolvedService("a", {"healthcheck": check}, "f", 1).has_health_check is expected


def test_every_file_that_was_read_is_known(tmp_path: Path) -> None:
    """CP-06: what a campaign pins: compose files, those that they extend or include, and files of variables."""
    write_files(
        tmp_path,
        {
            "compose.yaml": "include: [more.yaml]\nservices:\n  a:\n    extends: {file: base.yaml, service: b}\n"
            "    env_file: [a.env]\n",
            "more.yaml": "services: {}\n",
            "base.yaml": "services:\n  b: {image: x}\n",
            "a.env": "A=1\n",
            ".env": "B=1\n",
            "other.yaml": "",
        },
    )
    found = {path.name for path in resolved(tmp_path).paths}
    assert found == {"compose.yaml", "more.yaml", "base.yaml", "a.env", ".env"}
