"""capacity.yaml as a contract: strict, all errors at once, with a schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from systems import CAPACITY, ROOT

from pytest_staging.contract import build_schema, parse_capacity
from pytest_staging.model.errors import ContractError


def changed(**changes: Any) -> str:
    return yaml.safe_dump({**CAPACITY, **changes})


def profile(**changes: Any) -> str:
    return changed(profiles={"small": {"services": ["api", "store"], **changes}})


def test_the_samples_profiles_are_there() -> None:
    """CP-01: baseline, observability and scale-out are profiles of deploy/capacity.yaml; it fits the shipped schema."""
    text = (ROOT / "deploy" / "capacity.yaml").read_text()
    capacity = parse_capacity(text)
    assert list(capacity.profiles) == ["baseline", "observability", "scale-out"]
    assert capacity.profiles["scale-out"].variables["WORKER_MAX_PARALLEL"] == "8"
    assert {"worker-1", "worker-2", "worker-3"} <= set(capacity.profiles["scale-out"].services)
    Draft202012Validator(build_schema("capacity")).validate(yaml.safe_load(text))


BAD = {
    "unknown key": (changed(projct="x"), ["projct: unknown key; did you mean 'project'?"]),
    "unknown key of a profile": (profile(service=["api"]), ["profiles.small.service: unknown key"]),
    "empty": ("", ["is empty"]),
    "no YAML": ("project: [", ["is not valid YAML"]),
    "missing": ("project: x\n", ["compose_files: is missing", "profiles: is missing", "environments: is missing"]),
    "name": (changed(project="Bad Name"), ["project: must be lower case"]),
    "path": (changed(compose_files=["/etc/passwd"]), ["compose_files[0]: must be a path relative"]),
    "option as a path": (changed(compose_files=["-x"]), ["compose_files[0]: must be a path relative"]),
    "core": (profile(core=["db"]), ["profiles.small.core[0]: 'db' is not among the profile's services"]),
    "replicas": (profile(replicas={"db": 2}), ["profiles.small.replicas.db: is not among"]),
    "twice": (profile(services=["api", "api"]), ["profiles.small.services[1]: 'api' stands twice"]),
    "queues": (profile(queues=["q"]), ["profiles.small.queues: needs broker"]),
    "variable": (profile(variables={"A-B": "1"}), ["'A-B' is no name of an environment variable"]),
    "Compose's own": (profile(variables={"COMPOSE_FILE": "x"}), ["steers Compose itself"]),
    "number": (profile(variables={"PARALLEL": 2}), ["profiles.small.variables.PARALLEL"]),
    "profile name": (changed(profiles={"../x": {"services": ["api"]}}), ["profile name starts with '.'"]),
    "schema": (changed(schema_version=9), ["schema_version: 9 is not known here"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_error_with_all_of_it(case: str) -> None:
    """CP-01: every mistake is named with its key; the advice names the schema."""
    text, expected = BAD[case]
    with pytest.raises(ContractError) as caught:
        parse_capacity(text)
    for words in expected:
        assert words in str(caught.value)
    assert "staging-manager schema capacity" in str(caught.value)


def test_every_key_of_the_sample_is_needed_or_known(tmp_path: Path) -> None:
    """CP-01: a truncated file is refused at each line, never half read."""
    lines = (ROOT / "deploy" / "capacity.yaml").read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.strip() and not line.startswith("#")]
    first = next(index for index, line in enumerate(whole) if line.startswith("profiles:"))
    for end in range(1, first + 2):
        with pytest.raises(ContractError):
            parse_capacity("".join(whole[:end]))
