"""The JSON Schemas that are printed for editors: they take the repository's own files and refuse broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pytest_staging.contract import SCHEMAS, build_schema

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    ("benchmark", ROOT / "benchmark" / "benchmark.yaml"),
    ("benchmark", ROOT / "benchmark" / "queue.yaml"),
    ("capacity", ROOT / "deploy" / "capacity.yaml"),
    ("script-target", ROOT / "deploy" / "script-target.yaml"),
    ("targets", ROOT / "deploy" / "targets.example.yaml"),
    ("throughput", ROOT / "deploy" / "throughput.yaml"),
    *(("service", path) for path in sorted(ROOT.glob("versions/*/snapshot/service.yaml"))),
    *(("version", path) for path in sorted(ROOT.glob("versions/*/version.yaml"))),
]


def validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = json.loads(json.dumps(build_schema(kind)))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_there_are_files_of_every_kind() -> None:
    assert {kind for kind, _ in FILES} == set(SCHEMAS)


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: str(value)[-40:])
def test_our_own_files_are_valid(kind: str, path: Path) -> None:
    """SM-04: the schema of every YAML file is shipped, and fits."""
    assert list(validator(kind).iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(("kind", "path"), FILES[:8], ids=lambda value: str(value)[-40:])
def test_an_unknown_key_is_refused(kind: str, path: Path) -> None:
    """SM-04: the schema is as strict as the program."""
    broken: dict[str, Any] = {**yaml.safe_load(path.read_text()), "colour": "red"}
    assert "colour" in " ".join(error.message for error in validator(kind).iter_errors(broken))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_missing_field_is_refused(kind: str) -> None:
    """SM-04: so are missing fields; the message names one that is required."""
    messages = " ".join(error.message for error in validator(kind).iter_errors({}))
    assert "is a required property" in messages
