"""What a new version is made of, as pure functions: its source, its metadata, the text of its first files."""

from __future__ import annotations

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.version import KIND, Status, VersionMetadata

HYPOTHESIS_SECTIONS = ("Context", "Differences from parent", "Hypotheses", "Risks", "Expected impact")

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


def render_hypothesis(slug: str, parent: str | None) -> str:
    """hypothesis.md with a question under each heading."""
    lines = [f"# {slug}", ""]
    for section in HYPOTHESIS_SECTIONS:
        prompt = _PROMPTS[section].format(parent=f"`{parent}`" if parent else "nothing: this version has no parent")
        lines += [f"## {section}", "", prompt, ""]
    return "\n".join(lines)
