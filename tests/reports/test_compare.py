"""`staging-manager compare A B`: side by side what can be compared, refused with every reason what cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from html_cases import make_record
from made_up import slower

from pytest_staging.campaign.history import build_history, load_history
from pytest_staging.campaign.likeness import find_obstacles, put_beside
from pytest_staging.cli import main
from pytest_staging.model.campaign import CellSummary
from pytest_staging.reports.beside import render_beside
from pytest_staging.store import Workspace

RECORDED = Path(__file__).parent / "data" / "v1" / "campaigns" / "recorded"


def copy_as(root: Path, name: str, edit: Callable[[dict[str, Any]], None] | None = None,
            cell: Callable[[dict[str, Any]], None] | None = None) -> None:
    """The recorded campaign under another id; `edit` changes its campaign.json, `cell` each of its cells."""
    folder = root / "campaigns" / name
    shutil.copytree(RECORDED, folder)
    for path in [folder / "campaign.json", *folder.glob("runs/*/*/cell-summary.json")]:
        data = json.loads(path.read_text()) | {"campaign_id": name}
        change = edit if path.name == "campaign.json" else cell
        if change:
            change(data)
        path.write_text(json.dumps(data))


def run(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, str, str]:
    code = main(["--root", str(root), "compare", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def other_setup(data: dict[str, Any]) -> None:
    data["target"] = "docker"
    data["load_tool"] = {"name": "k6", "version": "1.1.0"}


def other_cpu(data: dict[str, Any]) -> None:
    data["host"]["cpu"] = "Other 9000"


def test_two_like_campaigns_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: both verdicts, each metric of both, and how versions that are the same in both were measured."""
    copy_as(tmp_path, "a")
    copy_as(tmp_path, "b", cell=lambda one: one["metrics"].update(p50=one["metrics"]["p50"] * 2))
    code, out, err = run(capsys, tmp_path, "a", "b")
    assert (code, err) == (0, "")
    assert out.startswith("A a: INCONCLUSIVE, eager-buffers against baseline, 3 runs")
    assert "B b: INCONCLUSIVE" in out
    level = next(line for line in out.splitlines() if line.startswith("| baseline ") and "| p50 " in line)
    assert level.endswith("|   2.000 |")


def test_every_reason_of_a_refusal_comes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: load tool, target and CPUs differ: exit code 1, three reasons, no table."""
    copy_as(tmp_path, "a")
    copy_as(tmp_path, "b", other_setup, other_cpu)
    code, out, err = run(capsys, tmp_path, "a", "b")
    assert (code, out) == (1, "")
    assert "a and b cannot be compared" in err
    assert "  - load tool: locust 2.47.0 and k6 1.1.0\n  - target: local and docker\n" in err
    assert "  - hosts' CPUs: 2 x AMD EPYC and 2 x Other 9000\n" in err
    code, out, err = run(capsys, tmp_path, "a", "b", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["comparable"] is False
    assert len(json.loads(out)["reasons"]) == 3


def test_json_holds_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: for scripts: a schema version, both heads, rows with both sides."""
    copy_as(tmp_path, "a")
    copy_as(tmp_path, "b")
    code, out, _ = run(capsys, tmp_path, "a", "b", "--json")
    data = json.loads(out)
    assert (code, data["comparable"], data["schema_version"]) == (0, True, 1)
    assert [one["campaign_id"] for one in data["campaigns"]] == ["a", "b"]
    assert all(row["first"] == row["second"] for row in data["rows"])
    assert all(one["ratio"] in (1.0, None) for one in data["levels"])


def test_an_unknown_campaign_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: exit code 2 and its name."""
    copy_as(tmp_path, "a")
    code, _, err = run(capsys, tmp_path, "a", "nope")
    assert code == 2
    assert "there is no campaign 'nope'" in err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"benchmark_sha256": "1" * 64}, "benchmark's benchmark.yaml: sha256 000000000000 and sha256 111111111111"),
        ({"benchmark_files": {"body.json": "2" * 64}}, "benchmark's body.json: not there and sha256 222222222222"),
        ({"target_files": {"compose.yaml": "2" * 64}}, "target's compose.yaml: not there and sha256 222222222222"),
        ({"policy_presets": {"baseline": "low", "fast": "high"}}, "throughput presets: none and low against high"),
        ({"platform_modes": ("jvm",)}, "modes: jvm, native and jvm"),
        ({"smoke": True}, "d is a smoke campaign"),
    ],
)
def test_what_makes_campaigns_incomparable(change: dict[str, Any], reason: str) -> None:
    """XP-04: benchmark, its files, the target's, presets, modes, smoke: each alone is a reason."""
    one, other = make_record(3), make_record(3, campaign_id="d", **change)
    assert find_obstacles(one, other) == [reason]
    marks = build_history([one, other], [], [], None).campaigns
    in_one_series = "platform_modes" in change or "smoke" in change  # a series is of one mode; load_history drops smoke
    assert (marks[0].yardstick == marks[1].yardstick) == in_one_series
    assert in_one_series or "benchmark_files" in change or marks[0].yardstick_text != marks[1].yardstick_text


def test_a_host_with_more_cpus_is_another_measure() -> None:
    """XP-04: of one model, too; other memory is none."""
    def grown(one: CellSummary) -> CellSummary:
        return replace(one, host={**one.host, "cpus": 4, "memory_bytes": 1})

    one, other = make_record(3), make_record(3, campaign_id="d", alter=grown)
    assert find_obstacles(one, other) == ["hosts' CPUs: 2 x Made Up 3000 and 4 x Made Up 3000"]
    marks = build_history([one, other], [], [], None).campaigns
    assert marks[0].yardstick != marks[1].yardstick
    assert marks[1].yardstick_text.endswith("4 x Made Up 3000")


def test_presets_of_other_candidates_are_one_measure() -> None:
    """XP-04: what counts is under which presets; a version in both campaigns was under one preset."""
    first = make_record(3, policy_presets={"baseline": "normal", "fast": "peak"})
    new = make_record(3, candidates=("new",), campaign_id="d", policy_presets={"baseline": "normal", "new": "peak"})
    assert find_obstacles(first, new) == []
    pairs = [("fast", "new"), ("new", "fast")]
    both = [
        make_record(3, candidates=("fast", "new"), campaign_id=name,
                    policy_presets={"baseline": "normal", one: "peak", two: "calm"})
        for name, (one, two) in zip("cd", pairs, strict=True)
    ]  # fmt: skip
    assert find_obstacles(*both) == ["preset of fast: peak and calm", "preset of new: calm and peak"]


def test_a_campaign_with_itself_and_one_without_results() -> None:
    """XP-04: neither says anything."""
    record = make_record(3)
    assert find_obstacles(record, record) == ["both are c"]
    empty = make_record(3, campaign_id="d", alter=lambda one: None)
    assert find_obstacles(record, empty) == ["d has no passed cell"]


def test_intervals_that_lie_apart_are_told() -> None:
    """XP-04: a candidate that was worse in one of the two campaigns only."""
    first, second = make_record(10), make_record(10, campaign_id="d", change=slower())
    data = put_beside(first, second)
    apart = {(row["platform_mode"], row["metric"]) for row in data["rows"] if row["agree"] is False}
    assert apart == {("jvm", "p95")}
    assert any("apart" in line for line in "\n".join(render_beside(data)).splitlines())


@pytest.mark.parametrize("width", [80, 40])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    """XP-04: both sides of each row below one another, and nothing is cut off."""
    data = put_beside(make_record(10), make_record(10, campaign_id="d", change=slower()))
    lines = [*render_beside(data, width)]
    assert max(map(len, lines)) <= width
    assert any(line.startswith("| baseline ") for line in lines) is (width == 80), "this one has room"
    place = lines.index("fast jvm p95: intervals apart")
    assert lines[place + 1].startswith("  A ")
    assert lines[place + 1].endswith("): pass")
    assert lines[place + 2].endswith("): regression")


def test_the_command_asks_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """XP-04: a pipe gets the whole table, a terminal what it has room for."""
    copy_as(tmp_path, "a")
    copy_as(tmp_path, "b")
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run(capsys, tmp_path, "a", "b")[1].splitlines())) > 80
    monkeypatch.setattr("pytest_staging.cli.compare.terminal_width", lambda: 80)
    assert max(map(len, run(capsys, tmp_path, "a", "b")[1].splitlines())) <= 80


def test_other_baselines_and_snapshots_are_noted() -> None:
    """XP-04: after a promotion the ratios have another denominator; a changed snapshot is another version."""
    first = make_record(3)
    changed = {**first.campaign.versions, "fast": "e" * 64}
    data = put_beside(first, make_record(3, campaign_id="d", versions=changed))
    assert data["notes"] == ["the snapshot of fast changed in between"]
    assert {row["version_slug"] for row in data["levels"]} == {"baseline"}


def damage(data: dict[str, Any], **fields: Any) -> None:
    data |= fields


@pytest.mark.parametrize("fields", [{"runs": "3"}, {"runs": 10**9}, {"created_at": 5}, {"seed": float("nan")}])
def test_a_damaged_campaign_does_not_hide_the_others(tmp_path: Path, fields: dict[str, Any]) -> None:
    """XP-04: it is left out with its file; so is one whose cell is damaged."""
    (tmp_path / "versions").mkdir()
    copy_as(tmp_path, "good")
    copy_as(tmp_path, "bad", lambda data: damage(data, **fields))
    copy_as(tmp_path, "worse", cell=lambda data: damage(data, metrics={"p95": "x"}))
    found = load_history(Workspace(tmp_path), None)
    assert [one.campaign_id for one in found.campaigns] == ["good"]
    assert [name for name, _ in found.left_out] == ["bad", "worse"]
    why = dict(found.left_out)
    assert "bad/campaign.json" in why["bad"]
    assert "cell-summary.json" in why["worse"]
    assert "metrics.p95" in why["worse"]
