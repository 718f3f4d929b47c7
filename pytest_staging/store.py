"""The workspace on disk: where versions, the benchmark and campaigns lie, and how they are read and written."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import ValidationError

from pytest_staging import contract, durable
from pytest_staging.contract.parsing import adapter
from pytest_staging.fingerprint import TreeIndex
from pytest_staging.inventory import inventory_of, with_defaults
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import (
    CAMPAIGN_SCHEMA_VERSION,
    CELL_SCHEMA_VERSION,
    Campaign,
    CellSummary,
)
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.model.inventory import Inventory
from pytest_staging.model.names import require_safe
from pytest_staging.model.script import ScriptSpec
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.model.version import ServiceSpec, Status, Version, VersionMetadata
from pytest_staging.yamltext import dotted

T = TypeVar("T")


@dataclass(frozen=True)
class Workspace:
    """A folder with `versions/`, `benchmark/` and `campaigns/`. Paths of names from files are made here only."""

    root: Path

    @property
    def benchmark_path(self) -> Path:
        return self.root / "benchmark" / "benchmark.yaml"

    @property
    def versions_folder(self) -> Path:
        return self.root / "versions"

    @property
    def campaigns_folder(self) -> Path:
        return self.root / "campaigns"

    def version_folder(self, slug: str) -> Path:
        return self.versions_folder / require_safe("version", slug)

    def snapshot(self, slug: str) -> Path:
        return self.version_folder(slug) / "snapshot"

    def campaign_folder(self, campaign_id: str) -> Path:
        return self.campaigns_folder / require_safe("campaign id", campaign_id)

    def shown(self, path: Path) -> str:
        """`path` as people see it: relative to the workspace when it lies inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def read_text(path: Path, what: str, advice: str) -> str:
    """Raises WorkspaceError naming `what` when the file is missing or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorkspaceError(f"{what} {path} does not exist. {advice}") from error
    except UnicodeDecodeError as error:
        raise WorkspaceError(f"{what} {path} is not UTF-8 text. {advice}") from error
    except OSError as error:
        raise WorkspaceError(f"{what} {path} cannot be read: {error.strerror}. {advice}") from error


def load_benchmark(path: Path, shown: str, required_modes: Collection[str] = contract.REQUIRED_MODES) -> Benchmark:
    """Raises ContractError or WorkspaceError. Every payload and script that the benchmark names must be there."""
    text = read_text(path, "benchmark", "Write one, or name it with --benchmark-path.")
    benchmark = contract.parse_benchmark(text, shown, required_modes)
    for name in benchmark_inputs(benchmark):
        if not os.path.isfile(path.parent / name):  # unlike Path.is_file it takes a name that is too long
            raise WorkspaceError(f"{shown}: {name} is named there and does not exist in {path.parent}.")
    return benchmark


def benchmark_inputs(benchmark: Benchmark) -> list[str]:
    """The files beside benchmark.yaml that a campaign copies and pins."""
    names = {benchmark.payloads[function] for function in benchmark.selected_functions}
    scripts = {benchmark.load.script, *(source.script for source in benchmark.sources)}
    return sorted(names | {script for script in scripts if script})


def load_inventory(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> Inventory:
    """targets.yaml, or the host that E2E_* variables describe. Raises ContractError, UsageProblem or WorkspaceError."""
    path = workspace.root / "targets.yaml"
    if not path.exists() and (found := inventory_of(environment)):
        return found
    advice = "Write it (staging-manager schema targets shows its shape), or set E2E_VM_HOST."
    text = read_text(path, "inventory", advice)
    return with_defaults(contract.parse_inventory(text, workspace.shown(path)), environment)


def load_script_target(workspace: Workspace) -> ScriptSpec:
    """deploy/script-target.yaml. Raises ContractError or WorkspaceError."""
    path = workspace.root / "deploy" / "script-target.yaml"
    text = read_text(path, "script target", "Write it: docs/k3s.md says what goes into it.")
    return contract.parse_script_target(text, workspace.shown(path))


def read_policy_text(workspace: Workspace) -> str:
    """The text of deploy/throughput.yaml, which is good. Raises as `load_throughput`."""
    load_throughput(workspace)
    return (workspace.root / "deploy" / "throughput.yaml").read_text(encoding="utf-8")


def load_throughput(workspace: Workspace, named: Path | None = None) -> ThroughputPolicy:
    """deploy/throughput.yaml, or the file that is `named`. Raises ContractError or WorkspaceError."""
    path = named or workspace.root / "deploy" / "throughput.yaml"
    text = read_text(path, "throughput policy", "Write it: docs/throughput.md says what goes into it.")
    return contract.parse_throughput(text, workspace.shown(path))


def version_slugs(workspace: Workspace) -> list[str]:
    """Folders below versions/ that hold a version.yaml, sorted. Hidden ones are what a killed create-version left."""
    if not workspace.versions_folder.is_dir():
        return []
    visible = (one for one in workspace.versions_folder.iterdir() if not one.name.startswith("."))
    return sorted(one.name for one in visible if (one / "version.yaml").is_file())


def load_metadata(workspace: Workspace, slug: str) -> VersionMetadata:
    """Raises WorkspaceError for an unknown slug (with the nearest known), ContractError for a bad file."""
    path = workspace.version_folder(slug) / "version.yaml"
    if not path.is_file():
        known = version_slugs(workspace)
        near = difflib.get_close_matches(slug, known, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise WorkspaceError(
            f"there is no version {slug!r} in {workspace.versions_folder}. {hint}Known: {', '.join(known) or 'none'}."
        )
    text = read_text(path, "version", "")
    return contract.parse_version(text, workspace.shown(path), folder=slug)


def load_all_metadata(workspace: Workspace) -> list[VersionMetadata]:
    """Metadata of every version; raises for the first broken file."""
    return [load_metadata(workspace, slug) for slug in version_slugs(workspace)]


def load_service(workspace: Workspace, slug: str) -> ServiceSpec:
    """Raises WorkspaceError or ContractError."""
    path = workspace.snapshot(slug) / "service.yaml"
    text = read_text(path, "service description", "It says how the version is built and started; see docs/files.md.")
    return contract.parse_service(text, workspace.shown(path))


def load_version(workspace: Workspace, slug: str, indexed: bool = False) -> Version:
    """Metadata, service and fingerprint of the snapshot. A link that leaves the snapshot is refused.

    `indexed` keeps an index beside the images, for callers that come again and again: unchanged files are not re-read.
    """
    metadata = load_metadata(workspace, slug)
    service = load_service(workspace, slug)
    snapshot = workspace.snapshot(slug)
    if link := durable.escaping_link(snapshot):
        shown = workspace.shown(snapshot)
        raise WorkspaceError(f"{shown}/{link} is a link that leaves the snapshot. Copy the file in.")
    if indexed:
        fingerprint = TreeIndex(workspace.version_folder(slug) / "images" / ".snapshot.index").fingerprint(snapshot)
    else:
        fingerprint = durable.fingerprint_tree(snapshot)
    return Version(metadata=metadata, service=service, snapshot_fingerprint=fingerprint)


def find_baseline(workspace: Workspace) -> str:
    """The one version with status baseline. Raises WorkspaceError when there is none, or two."""
    found = [one.slug for one in load_all_metadata(workspace) if one.status is Status.BASELINE]
    if not found:
        where = workspace.versions_folder
        raise WorkspaceError(f"no version in {where} has status baseline. Name one with --baseline.")
    if len(found) > 1:
        raise WorkspaceError(f"{len(found)} versions have status baseline: {', '.join(found)}. Only one may.")
    return found[0]


def metadata_fields(metadata: VersionMetadata) -> dict[str, Any]:
    """version.yaml as plain data: required fields first, optional ones only when they say something."""
    raw = asdict(metadata)
    required = {key: raw[key] for key in ("slug", "kind", "status", "parent", "created_at")}
    optional = {key: value for key, value in raw.items() if key not in required and value not in (None, (), [])}
    return dict(json.loads(json.dumps({**required, **optional})))


def render_metadata(metadata: VersionMetadata) -> str:
    """version.yaml's text."""
    return str(yaml.safe_dump(metadata_fields(metadata), sort_keys=False, allow_unicode=True, width=100))


def write_json(path: Path, data: Any) -> None:
    """Sorted where the model has no order, two spaces, a newline at the end: the same data gives the same bytes."""
    durable.write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Raises WorkspaceError naming the file when it is missing or no JSON; NaN is none."""
    text = read_text(path, what, "")
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WorkspaceError(f"{what} {path} is not valid JSON: {error}") from error


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


def save_campaign(folder: Path, campaign: Campaign) -> None:
    """Writes campaign.json."""
    data = {"schema_version": campaign.schema_version, **asdict(campaign)}
    data["cells"] = [{"id": cell.cell_id, "block": cell.block_id, **asdict(cell)} for cell in campaign.cells]
    write_json(folder / "campaign.json", data)


def load_campaign(folder: Path) -> Campaign:
    """Raises WorkspaceError when the folder is no campaign or its campaign.json is broken."""
    path = folder / "campaign.json"
    return parse_campaign(read_json(path, "campaign"), str(path))


def parse_campaign(raw: Any, source: str) -> Campaign:
    """Raises WorkspaceError when `raw` does not have a campaign's fields, or is of a newer program."""
    _refuse_newer(raw, CAMPAIGN_SCHEMA_VERSION, source)
    campaign = _checked(Campaign, raw, f"{source} does not have the fields of this program's version")
    last = max((cell.run_index for cell in campaign.cells), default=0)
    if campaign.runs != last:  # whoever counts the runs would count for ever
        raise WorkspaceError(f"{source} is damaged: runs is {campaign.runs}, and its cells end with run {last}.")
    return campaign


def _refuse_newer(raw: Any, newest: int, source: str) -> None:
    """Fields may mean something else there, even when all of them have the names that are known here."""
    version = raw.get("schema_version", newest) if isinstance(raw, Mapping) else newest
    if not isinstance(version, int) or version > newest:
        raise WorkspaceError(
            f"{source} has schema version {version!r}; this program reads up to {newest}. Use a newer pytest-staging."
        )


def save_summary(folder: Path, summary: CellSummary) -> Path:
    """Writes a cell's summary into the campaign's folder and says where."""
    path = folder / summary.cell.folder / "cell-summary.json"
    write_json(path, {"schema_version": summary.schema_version, **asdict(summary)})
    return path


def parse_summary(raw: Any, source: str) -> CellSummary:
    """Raises WorkspaceError when `raw` is no cell summary, or is of a newer program."""
    _refuse_newer(raw, CELL_SCHEMA_VERSION, source)
    return _checked(CellSummary, raw, f"{source} is no cell summary of this program's version")


def _checked(shape: type[T], raw: Any, complaint: str) -> T:
    """Every field has its type: what is computed from it later does not ask again."""
    try:
        # Through JSON, as in contract.parsing: strict mode takes a list for a tuple there only. 1e400 is refused here.
        return cast(T, adapter(cast(Any, shape)).validate_json(json.dumps(raw, allow_nan=False)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{dotted(first['loc'])}: " if first["loc"] else ""
        raise WorkspaceError(f"{complaint}: {where}{first['msg']}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkspaceError(f"{complaint}: {error}") from error


def load_summaries(folder: Path, campaign: Campaign) -> Iterator[CellSummary]:
    """The summaries of the campaign's cells that are there, in the campaign's order."""
    for cell in campaign.cells:
        path = folder / cell.folder / "cell-summary.json"
        if path.exists():  # a folder of that name is damage too, and not a cell that is still to be run
            summary = parse_summary(read_json(path, "cell summary"), str(path))
            if (summary.campaign_id, summary.cell) != (campaign.campaign_id, cell):
                raise WorkspaceError(
                    f"{path} is of {summary.campaign_id} {summary.cell.cell_id}. Remove it, and resume."
                )
            yield summary
