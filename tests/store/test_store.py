"""The workspace on disk: names to paths, reading with clear errors, and writing what reads back as the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workspaces import make_version, make_workspace, write_benchmark

from pytest_staging import store
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import ContractError, UnsafeName, WorkspaceError
from pytest_staging.model.version import Status, VersionMetadata
from pytest_staging.store import Workspace

CAMPAIGN = Campaign(
    campaign_id="c1", created_at="2026-01-01T00:00:00Z", baseline_slug="baseline", candidate_slugs=("faster",),
    platform_modes=("jvm", "native"), functions=("echo",), runs=1, seed=7, order="balanced", smoke=False,
    target="local", benchmark_path="/w/benchmark/benchmark.yaml", benchmark_sha256="ab", benchmark_files={"a": "cd"},
    versions={"baseline": "1", "faster": "2"}, load_tool={"name": "locust", "version": "2"},
    cells=(Cell(1, "native", "faster", 0), Cell(1, "native", "baseline", 1), Cell(1, "jvm", "baseline", 0)),
)  # fmt: skip
SUMMARY = CellSummary(
    campaign_id="c1", run_index=1, version_slug="faster", platform_mode="native", attempt=1, outcome="passed",
    started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z", metrics={"p95": 1.5, "gc_pause": None},
    missing={"gc_pause": "why"}, inapplicable=("gc_pause",), phases={"load": 1.0},
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(make_workspace(tmp_path))


def test_versions(workspace: Workspace) -> None:
    """SM-02: metadata is read strictly, and the one baseline is found."""
    assert store.version_slugs(workspace) == ["baseline", "faster"]
    assert store.find_baseline(workspace) == "baseline"
    assert [one.status for one in store.load_all_metadata(workspace)] == [Status.BASELINE, Status.CANDIDATE]
    version = store.load_version(workspace, "faster")
    assert version.slug == "faster"
    assert set(version.service.modes) == {"jvm", "native"}
    assert len(version.snapshot_fingerprint) == 64


def test_what_a_killed_command_left_is_no_version(workspace: Workspace) -> None:
    """SM-03: a half-made version is hidden, and no later command stumbles over it."""
    half = workspace.versions_folder / ".pool.abc123.tmp"
    half.mkdir()
    (half / "version.yaml").write_text("slug: pool\n")
    assert store.version_slugs(workspace) == ["baseline", "faster"]
    assert store.find_baseline(workspace) == "baseline"


def test_no_versions_at_all(tmp_path: Path) -> None:
    assert store.version_slugs(Workspace(tmp_path)) == []
    with pytest.raises(WorkspaceError, match=r"no version in .* has status baseline"):
        store.find_baseline(Workspace(tmp_path))


def test_two_baselines(workspace: Workspace) -> None:
    make_version(workspace.root, "other", "baseline")
    with pytest.raises(WorkspaceError, match="2 versions have status baseline: baseline, other"):
        store.find_baseline(workspace)


def test_an_unknown_slug(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"no version 'fastr' .* Did you mean 'faster'"):
        store.load_metadata(workspace, "fastr")


@pytest.mark.parametrize("name", ["../baseline", "/etc", "", ".hidden"])
def test_unsafe_names_make_no_path(workspace: Workspace, name: str) -> None:
    """SM-02: a name from outside never becomes part of a path unchecked."""
    for make in (workspace.version_folder, workspace.snapshot, workspace.campaign_folder):
        with pytest.raises(UnsafeName):
            make(name)


def test_a_broken_version_file_names_itself(workspace: Workspace) -> None:
    """SM-02: file and field."""
    path = workspace.version_folder("faster") / "version.yaml"
    path.write_text(path.read_text().replace("slug: faster", "slug: slower"))
    with pytest.raises(ContractError, match=r"^versions/faster/version\.yaml: line 1: slug: 'slower' does not match"):
        store.load_metadata(workspace, "faster")


def test_files_that_are_no_text(workspace: Workspace) -> None:
    """SM-02: not UTF-8, not a file, not there."""
    path = workspace.snapshot("faster") / "service.yaml"
    path.write_bytes(b"functions: [caf\xe9]\n")
    with pytest.raises(WorkspaceError, match=r"service\.yaml is not UTF-8 text"):
        store.load_service(workspace, "faster")
    path.unlink()
    with pytest.raises(WorkspaceError, match=r"service\.yaml does not exist"):
        store.load_service(workspace, "faster")
    path.mkdir()
    with pytest.raises(WorkspaceError, match=r"service\.yaml cannot be read: Is a directory"):
        store.load_service(workspace, "faster")


def test_a_link_that_leaves_the_snapshot(workspace: Workspace) -> None:
    """SM-03: refused when the version is used, too."""
    (workspace.snapshot("faster") / "data").symlink_to("../../baseline")
    with pytest.raises(WorkspaceError, match=r"versions/faster/snapshot/data is a link that leaves the snapshot"):
        store.load_version(workspace, "faster")


def test_payloads_must_be_there(workspace: Workspace) -> None:
    """SM-04: what the benchmark names is checked when it is read."""
    path = workspace.benchmark_path
    assert store.benchmark_inputs(store.load_benchmark(path, "b")) == ["payloads/echo.json"]
    for missing in ("payloads/none.json", "x" * 5000, "payloads"):
        write_benchmark(workspace.root, payloads={"echo": missing})
        with pytest.raises(WorkspaceError, match=r"^b: .* is named there and does not exist"):
            store.load_benchmark(path, "b")


def test_metadata_reads_back(workspace: Workspace) -> None:
    """SM-02: required fields first, optional ones only when they say something."""
    metadata = VersionMetadata(
        slug="faster", kind="generic-service", status=Status.CANDIDATE, parent=None,
        created_at="2026-01-31T12:00:00Z", notes="ümlaut: and 'quotes'\nsecond line", override_why=("a", "b"),
    )  # fmt: skip
    text = store.render_metadata(metadata)
    assert [line.split(":")[0] for line in text.splitlines()][:5] == [
        "slug", "kind", "status", "parent", "created_at",
    ]  # fmt: skip
    assert "campaign_id" not in text
    (workspace.version_folder("faster") / "version.yaml").write_text(text)
    assert store.load_metadata(workspace, "faster") == metadata


def test_a_campaign_reads_back(tmp_path: Path) -> None:
    store.save_campaign(tmp_path, CAMPAIGN)
    assert store.load_campaign(tmp_path) == CAMPAIGN
    assert [cell.position for cell in store.load_campaign(tmp_path).cells] == [0, 1, 0]


def test_summaries_read_back_in_the_campaigns_order(tmp_path: Path) -> None:
    """SM-07: the folder's name is deterministic; cells without a result are left out."""
    baseline = replace(SUMMARY, version_slug="baseline")
    path = store.save_summary(tmp_path, SUMMARY)
    store.save_summary(tmp_path, baseline)
    assert path == tmp_path / "runs" / "run-001" / "faster__native" / "cell-summary.json"
    assert list(store.load_summaries(tmp_path, CAMPAIGN)) == [SUMMARY, baseline]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"cells": 5}', '{"colour": "red"}'])
def test_broken_records(tmp_path: Path, content: str) -> None:
    """A damaged file is named; it is never read as something."""
    (tmp_path / "campaign.json").write_text(content)
    with pytest.raises(WorkspaceError, match=r"campaign\.json"):
        store.load_campaign(tmp_path)
    path = store.save_summary(tmp_path, SUMMARY)
    path.write_text(content)
    with pytest.raises(WorkspaceError, match=r"cell-summary\.json"):
        list(store.load_summaries(tmp_path, CAMPAIGN))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("runs", '"3"'),
        ("runs", "1e400"),
        ("runs", "0"),
        ("runs", "true"),
        ("created_at", "5"),
        ("created_at", '"yesterday"'),
        ("versions", '{"baseline": 1}'),
        ("looks", '["6"]'),
        ("candidate_slugs", '"faster"'),
        ("cells", '[{"run_index": "1", "platform_mode": "jvm", "version_slug": "a"}]'),
    ],
)
def test_a_campaign_with_a_field_of_another_type(tmp_path: Path, where: str, value: str) -> None:
    """The error names the file and the field, where a traceback came later."""
    store.save_campaign(tmp_path, CAMPAIGN)
    path = tmp_path / "campaign.json"
    put_in(path, where, value)
    with pytest.raises(WorkspaceError, match=rf"campaign\.json does not have the fields .*: ({where}|Out of range)"):
        store.load_campaign(tmp_path)


def put_in(path: Path, where: str, value: str) -> None:
    """Takes the place of a field, as text: not all of it would be written by a JSON library."""
    data: dict[str, Any] = json.loads(path.read_text())
    assert where in data
    path.write_text(json.dumps({**data, where: "PLACE"}).replace('"PLACE"', value))


def test_a_campaign_that_counts_other_runs_than_its_cells(tmp_path: Path) -> None:
    """A number that is only large would be counted up to, again and again."""
    store.save_campaign(tmp_path, replace(CAMPAIGN, runs=10**9))
    with pytest.raises(WorkspaceError, match=r"campaign\.json is damaged: runs is 1000000000, and its cells end"):
        store.load_campaign(tmp_path)


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("metrics", '{"p95": "x"}', r"no cell summary .*: metrics\.p95: "),
        ("metrics", '{"p95": NaN}', "not valid JSON: NaN is no number"),
        ("host", '{"load": -Infinity}', "not valid JSON: -Infinity is no number"),
        ("host", '{"load": 1e400}', "no cell summary .*: Out of range"),
        ("phases", '{"zz": "a"}', r"no cell summary .*: phases\.zz: "),
        ("attempt", "1.5", "no cell summary .*: attempt: "),
        ("started_at", '"now"', "no cell summary .*: started_at: "),
        ("host", "[" * 100_000 + "]" * 100_000, "not valid JSON"),
    ],
)
def test_a_cell_with_a_field_of_another_type(tmp_path: Path, where: str, value: str, expected: str) -> None:
    """The error names the file and the field, where a traceback came later."""
    path = store.save_summary(tmp_path, SUMMARY)
    put_in(path, where, value)
    with pytest.raises(WorkspaceError, match=rf"cell-summary\.json .*{expected}"):
        list(store.load_summaries(tmp_path, CAMPAIGN))


def test_a_folder_in_place_of_a_cells_summary(tmp_path: Path) -> None:
    """It is damage, and not a cell that is still to be run."""
    (tmp_path / SUMMARY.cell.folder / "cell-summary.json").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"cell-summary\.json cannot be read: Is a directory"):
        list(store.load_summaries(tmp_path, CAMPAIGN))


def test_unknown_fields_of_a_newer_program(tmp_path: Path) -> None:
    store.save_campaign(tmp_path, CAMPAIGN)
    path = tmp_path / "campaign.json"
    data: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "colour": "red"}))
    with pytest.raises(WorkspaceError, match=r"does not have the fields of this program's version: .*colour"):
        store.load_campaign(tmp_path)


def test_json_is_deterministic_and_strict(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert "nan" not in (tmp_path / "a.json").read_text().lower()


def test_shown_paths(workspace: Workspace) -> None:
    assert workspace.shown(workspace.benchmark_path) == "benchmark/benchmark.yaml"
    assert workspace.shown(Path("/etc/hosts")) == "/etc/hosts"
