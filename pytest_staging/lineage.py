"""What a new version is made of, as pure functions: its source, its metadata, the text of its first files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.version import KIND, Status, VersionMetadata

HYPOTHESIS_SECTIONS = ("Context", "Differences from parent", "Hypotheses", "Risks", "Expected impact")

_OPTIONAL = (
    "source_commit",
    "notes",
    "campaign_id",
    "verdict",
    "promoted_at",
    "archived_at",
    "rejected_at",
    "replaced",
    "override_why",
)

_PROMPTS = {
    "Context": "What the service does today, and what makes this change worth trying.",
    "Differences from parent": "What is changed against {parent}, file by file.",
    "Hypotheses": "Which metrics will change, in which mode, and by how much.",
    "Risks": "What could get worse, and which metric would show it.",
    "Expected impact": "What users or operators gain if the hypotheses hold.",
}

SCAFFOLD_SERVICE = """\
# How this version is built and started, mode by mode. `staging-manager schema service` prints every key.
schema_version: 1
functions: [hello]
modes:
  jvm:
    runtime: jvm
    build:
      - [javac, -d, "{artifact}", Service.java]
    start: [java, -cp, "{artifact}", Service]     # listens on $STAGING_HOST:$STAGING_PORT
    health: /healthz
    metrics: /metrics
  native:
    runtime: native
    build:
      - [cc, -O2, -o, "{artifact}/service", service.c]
    start: ["{artifact}/service"]
    health: /healthz
"""


def parse_source(text: str) -> tuple[str, str | None]:
    """`baseline`, `none` or `version:SLUG` as (kind, slug). Raises UsageProblem."""
    if text in ("baseline", "none"):
        return text, None
    kind, colon, slug = text.partition(":")
    if kind == "version" and colon and slug:
        return kind, slug
    raise UsageProblem(f"--from {text}: write baseline, none, or version:SLUG.")


def new_metadata(
    slug: str, parent: str | None, created_at: str, notes: str | None = None, source_commit: str | None = None
) -> VersionMetadata:
    """A version always begins as staging."""
    return VersionMetadata(
        slug=slug,
        kind=KIND,
        status=Status.STAGING,
        parent=parent,
        created_at=created_at,
        notes=notes,
        source_commit=source_commit,
    )


def edit_metadata(text: str, fields: Mapping[str, Any]) -> str:
    """version.yaml with top-level keys set to `fields` and every other line, comments too, as it was.

    Knows keys whose value stands on their own line; the caller checks that the result reads as it should.
    """
    lines = [line for line in text.splitlines() if not _drops(line, fields)]
    for key, value in fields.items():
        entry = f"{key}: {_rendered(value)}"
        place = next((number for number, line in enumerate(lines) if line.startswith(f"{key}:")), None)
        if place is None:
            lines.append(entry)
        elif _scalar(lines[place]) != value:
            comment = re.search(r"\s+#.*$", lines[place])
            lines[place] = entry + (comment[0] if comment and '"' not in lines[place] else "")
    return "\n".join(lines) + "\n"


def _rendered(value: Any) -> str:
    """A plain word as it is, anything else as JSON, which is YAML too."""
    plain = isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def _drops(line: str, fields: Mapping[str, Any]) -> bool:
    """A key of ours that the version no longer has."""
    key = line.partition(":")[0]
    return key in _OPTIONAL and key not in fields


def _scalar(line: str) -> Any:
    """The value on the key's own line; Ellipsis, which equals no value, when it goes on below."""
    try:
        return yaml.safe_load(line.partition(":")[2])
    except (yaml.YAMLError, ValueError):
        return ...


def render_hypothesis(slug: str, parent: str | None) -> str:
    """hypothesis.md with a question under each heading."""
    lines = [f"# {slug}", ""]
    for section in HYPOTHESIS_SECTIONS:
        prompt = _PROMPTS[section].format(parent=f"`{parent}`" if parent else "nothing: this version has no parent")
        lines += [f"## {section}", "", prompt, ""]
    return "\n".join(lines)
