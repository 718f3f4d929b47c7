"""Campaign, block, cell: what is to be run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Predicate

CELL_SCHEMA_VERSION = 1
CAMPAIGN_SCHEMA_VERSION = 1
STRICT: dict[str, Any] = {"strict": True, "allow_inf_nan": False}
CLOSED = {**STRICT, "extra": "forbid"}


def is_instant(text: str) -> bool:
    """ISO 8601 with a zone, as `2026-01-31T12:00:00.000Z`."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


Instant = Annotated[str, Predicate(is_instant)]


@dataclass(frozen=True, order=True)
class Cell:
    """Version × mode × run index. `position` is its place within its block, from 0."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT  # not closed: campaign.json says what follows from these too
    run_index: Annotated[int, Ge(1)]
    platform_mode: str
    version_slug: str
    position: int = field(default=0, compare=False)

    @property
    def cell_id(self) -> str:
        return f"run{self.run_index:03d}-{self.platform_mode}-{self.version_slug}"

    @property
    def block_id(self) -> str:
        """One run index in one mode: every version is measured back to back on one host."""
        return f"run{self.run_index:03d}-{self.platform_mode}"

    @property
    def folder(self) -> str:
        """The cell's folder below the campaign's, with '/' as separator."""
        return f"runs/run-{self.run_index:03d}/{self.version_slug}__{self.platform_mode}"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A declared matrix and everything that pins it; `campaign.json` holds exactly this.

    `benchmark_path` is relative to the workspace when it lies inside, so that a moved workspace can go on.
    `looks` are the numbers of runs at which a campaign with `--runs auto` may stop; empty for a fixed number.
    `target_files` are files of the workspace that the target reads (SHA-256), such as compose files.
    `hosts` are the names that --staging-hosts gave, with commas; empty for all. A resume may go on with others.
    `policy_presets` maps versions to the throughput presets under which they are measured, at the API `policy_api`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED
    campaign_id: str
    created_at: Instant
    baseline_slug: str
    candidate_slugs: tuple[str, ...]
    platform_modes: tuple[str, ...]
    functions: tuple[str, ...]
    runs: Annotated[int, Ge(1)]
    seed: int
    order: str
    smoke: bool
    target: str
    benchmark_path: str
    benchmark_sha256: str
    benchmark_files: Mapping[str, str]
    versions: Mapping[str, str]
    load_tool: Mapping[str, str]
    cells: tuple[Cell, ...]
    looks: tuple[int, ...] = ()
    target_files: Mapping[str, str] = field(default_factory=dict)
    hosts: str = ""
    policy_api: str | None = None
    policy_presets: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = CAMPAIGN_SCHEMA_VERSION

    @property
    def slugs(self) -> tuple[str, ...]:
        return (self.baseline_slug, *self.candidate_slugs)


@dataclass(frozen=True, kw_only=True)
class CellSummary:
    """`cell-summary.json`: one attempt at a cell. Instants are ISO 8601 UTC; phases are seconds.

    `metrics` has every metric of the benchmark; one that could not be had is None and `missing` says why;
    `inapplicable` are those that cannot exist in this mode at all.
    `outcome` is passed, failed or invalid (the load was not what it was to be).
    `host_lost`: not the version is at fault, its host went away.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED
    campaign_id: str
    run_index: Annotated[int, Ge(1)]
    version_slug: str
    platform_mode: str
    attempt: int
    outcome: str
    started_at: Instant
    finished_at: Instant
    reason: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    inapplicable: tuple[str, ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    load_tool: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    artifact: Mapping[str, str] = field(default_factory=dict)
    benchmark_sha256: str = ""
    smoke: bool = False
    log_tail: str = ""
    host_lost: bool = False
    schema_version: int = CELL_SCHEMA_VERSION

    @property
    def cell(self) -> Cell:
        return Cell(self.run_index, self.platform_mode, self.version_slug)

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def why(self) -> str | None:
        """The reason, and whether it is the load's fault."""
        return f"invalid: {self.reason}" if self.outcome == "invalid" else self.reason
