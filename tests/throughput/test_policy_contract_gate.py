"""The gate: commands, documents, the checklist of evidence and the rollback entries are what the program has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pytest_staging.cli import build_parser
from pytest_staging.model.throughput import Phase
from pytest_staging.throughput import bundle
from pytest_staging.throughput.client import BASE, FIELDS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "throughput.md").read_text()
POLICY = yaml.safe_load((ROOT / "deploy" / "throughput.yaml").read_text())


def commands_below(group: str) -> list[str]:
    with pytest.raises(SystemExit):
        build_parser().parse_args([group, "--nothing"])
    actions = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr, index, call-overload]
    return sorted(actions[group]._subparsers._group_actions[0].choices)


@pytest.mark.parametrize(
    ("group", "names"),
    [("policy", ["clear", "override", "serve", "set", "status"]), ("evidence", ["check", "collect"])],
)
def test_every_command_is_there_and_documented(group: str, names: list[str]) -> None:
    """TP-07: commands that the requirements name; each stands in the guide."""
    assert commands_below(group) == names
    assert [name for name in names if f"\nstaging-manager {group} {name}" not in GUIDE] == []


def test_every_file_of_the_evidence_is_on_the_checklist() -> None:
    """TP-07: what `evidence check` demands is what the guide lists."""
    demanded = [bundle.COMPARISON, bundle.DRAIN, bundle.CAMPAIGN, bundle.POLICY_COPY, bundle.MANIFEST]
    demanded += [f"policy-{phase.value}.json" for phase in Phase]
    checklist = GUIDE.partition("## Evidence")[2].partition("## Rollback triggers")[0]
    assert [name for name in demanded if f"`{name}`" not in checklist] == []


def test_every_rollback_trigger_has_its_entry() -> None:
    """TP-07: each trigger of the shipped file is explained, and none that is not there."""
    table = GUIDE.partition("## Rollback triggers")[2].partition("\n\nA trigger has")[0]
    explained = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert explained == [one["name"] for one in POLICY["evidence"]["rollback_triggers"]]


def test_every_key_and_field_is_documented() -> None:
    """TP-07: keys of the file, and fields and paths of the API."""
    keys = [key for key in POLICY if key != "schema_version"]
    assert [key for key in keys if f"`{key}" not in GUIDE] == []
    assert [name for name in FIELDS if f"`{name}`" not in GUIDE] == []
    assert [path for path in ("status", "evaluate", "override", "preset") if f"{BASE}/{path}`" not in GUIDE] == []


def test_the_guide_is_found() -> None:
    """TP-07: README leads to it."""
    assert "docs/throughput.md" in (ROOT / "README.md").read_text()
