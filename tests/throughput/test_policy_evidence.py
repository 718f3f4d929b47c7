"""Evidence as a user gathers it: a real campaign takes the status, `evidence` collects and checks, `promote` asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from policies import policy_data
from serving import FakeBroker, Served, fake_broker, manager, manager_here, quick_policy, served
from workspaces import make_workspace, wait_for, write_benchmark

from pytest_staging.model.campaign import Cell
from pytest_staging.model.errors import CellFailure
from pytest_staging.throughput.client import PolicyClient
from pytest_staging.throughput.conditions import UnderPreset
from pytest_staging.throughput.watching import read_snapshots

EVIDENCE: dict[str, Any] = {
    "kpis": [{"metric": "p95", "improve_by": 0.05}],
    "queue_metrics": ["fail_rate"],  # any metric of a cell: a queue of the real broker is tested in the end-to-end test
    "rollback_triggers": [{"name": "errors", "metric": "fail_rate", "above": 0.5},
                          {"name": "still-critical", "when": "after", "pressure": "critical"}],
}  # fmt: skip


def campaign(root: Path, campaign_id: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = [word for name in ("locust", "hypothesispytest", "anyio", "schemathesis") for word in ("-p", f"no:{name}")]
    command = ["-m", "pytest", *quiet, "-q", "--staging-campaign", "--runs", "1", "--campaign-id", campaign_id]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run([sys.executable, *command, "--staging-seed", "7", *arguments], cwd=root, env=kept,
                          capture_output=True, text=True, timeout=300)  # fmt: skip


@pytest.fixture(scope="module")
def broker() -> Iterator[FakeBroker]:
    with fake_broker() as one:
        yield one


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, broker: FakeBroker) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("policy-api"), quick_policy(broker.url, evidence=EVIDENCE)) as one:
        wait_for(lambda: not one.status()["fail_safe"])
        yield one


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, api: Served, broker: FakeBroker) -> Path:
    """A workspace with a campaign that took the policy's status, the queue being critical at its end."""
    root = make_workspace(tmp_path_factory.mktemp("measured"), duration_s=1.0)
    write_benchmark(root, duration_s=1.0, platform_modes=["native"], policy_evidence=True)
    (root / "pytest.ini").write_text("[pytest]\nstaging_required_modes = native\n")
    (root / "deploy").mkdir()
    (root / "deploy" / "throughput.yaml").write_text(yaml.safe_dump(policy_data(evidence=EVIDENCE), sort_keys=False))
    api.call("PUT", "preset", {"preset": "aggressive"})
    broker.depths["jobs.heavy"] = 500
    wait_for(lambda: api.status()["queue_pressure_level"] == "critical")
    done = campaign(root, "c", "--staging-policy-api", api.url)
    assert (root / "campaigns" / "c" / "aggregate-comparison.json").is_file(), done.stdout
    return root


@pytest.fixture
def workspace(measured: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(measured, tmp_path / "workspace", symlinks=True)


def evidence(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In this process; one test asks the program itself."""
    return manager_here(root, "evidence", *arguments, "--campaign-id", "c")


def test_a_campaign_takes_the_status_before_during_and_after(measured: Path, api: Served) -> None:
    """TP-05: by itself, with the preset that is set, and the policy's file as it was when it began."""
    folder = measured / "campaigns" / "c"
    taken = read_snapshots(folder / "policy-status.jsonl")
    phases = [one["phase"] for one in taken]
    assert (phases[0], phases[-1], set(phases[1:-1])) == ("before", "after", {"during"})
    assert all(one["status"]["requested_preset"] == "aggressive" for one in taken)
    assert taken[0]["preset"] == {"preset": "aggressive", "previous_preset": "balanced"}
    assert (folder / "throughput.yaml").read_text() == (measured / "deploy" / "throughput.yaml").read_text()


def test_collect_and_check(workspace: Path, api: Served) -> None:
    """TP-06: a breach is named, with the exact command that goes back; exit 1."""
    assert manager(workspace, "evidence", "collect", "--campaign-id", "c").returncode == 0
    folder = workspace / "campaigns" / "c" / "evidence"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted(files) == ["campaign.json", "comparison.json", "policy-after.json", "policy-before.json",
                             "policy-during.json", "queue-drain.json", "throughput.yaml"]  # fmt: skip
    done = manager(workspace, "evidence", "check", "--campaign-id", "c")
    assert done.returncode == 1
    assert done.stdout.startswith("roll back\n  trigger: still-critical: the queue pressure was critical at ")
    command = f"staging-manager policy set --preset balanced --api-base {api.url}"
    assert f"to go back:\n  {command}\n" in done.stdout
    assert json.loads(evidence(workspace, "check", "--json").stdout)["revert"] == [command]
    assert "--replace" in evidence(workspace, "collect").stderr
    assert evidence(workspace, "collect", "--replace").returncode == 0


@pytest.mark.parametrize("name", ["comparison.json", "policy-after.json", "manifest.json", "throughput.yaml"])
def test_evidence_that_was_changed_is_none(workspace: Path, name: str) -> None:
    """TP-05: what is not what was collected, or is gone, is incomplete: exit 3."""
    evidence(workspace, "collect")
    path = workspace / "campaigns" / "c" / "evidence" / name
    path.write_text(path.read_text().replace("critical", "normal") + " x")
    assert evidence(workspace, "check").returncode == 3
    path.unlink()
    done = evidence(workspace, "check")
    again = f"staging-manager --root {workspace} evidence collect --campaign-id c --replace\n"
    assert (done.returncode, done.stderr.endswith(again)) == (3, True)


def test_the_next_command_is_about_the_same_folder(workspace: Path, tmp_path: Path) -> None:
    """TP-05: --root and --folder are repeated in every command that is recommended, as they were given."""
    where = f"--campaign-id c --folder '{tmp_path}/kept here'"
    collected = evidence(workspace, "collect", "--folder", f"{tmp_path}/kept here").stdout
    assert collected.endswith(f"next: staging-manager --root {workspace} evidence check {where}\n")
    (tmp_path / "kept here" / "campaign.json").unlink()
    (workspace / "campaigns" / "c" / "policy-status.jsonl").unlink()
    evidence(workspace, "collect")
    back = json.loads(evidence(workspace, "check", "--json").stdout)["revert"]
    assert back == [f"staging-manager --root {workspace} reject faster --campaign-id c"]
    complaint = evidence(workspace, "check", "--folder", f"{tmp_path}/kept here").stderr
    assert complaint.endswith(f"staging-manager --root {workspace} evidence collect {where} --replace\n")


def test_a_campaign_without_a_policy_is_incomplete(workspace: Path) -> None:
    """TP-05: without statuses nothing is accepted; collect says how to get them."""
    (workspace / "campaigns" / "c" / "policy-status.jsonl").unlink()
    assert "--staging-policy-api URL" in evidence(workspace, "collect").stdout
    done = evidence(workspace, "check")
    assert (done.returncode, "no policy status was taken before" in done.stdout) == (3, True)


def test_no_evidence_at_all(workspace: Path) -> None:
    """TP-05: not collected is incomplete too; an unknown campaign is a usage error."""
    assert evidence(workspace, "check").returncode == 3
    assert manager_here(workspace, "evidence", "collect", "--campaign-id", "other").returncode == 2
    assert manager_here(workspace, "evidence", "check", "--campaign-id", "../c").returncode == 2
    done = manager_here(workspace, "evidence", "check", "--campaign-id", "cc")
    assert (done.returncode, "there is no campaign 'cc'" in done.stderr) == (2, True)
    assert "Did you mean c?" in done.stderr


def test_promote_demands_it_where_the_benchmark_declares_it(workspace: Path) -> None:
    """TP-05: `policy_evidence: true` in the benchmark, and no promotion without accepted evidence."""
    promote = ("promote", "--candidate", "faster", "--campaign-id", "c")
    refusal = manager_here(workspace, *promote).stderr
    assert "demands the policy's evidence: there is no" in refusal
    assert f"staging-manager --root {workspace} evidence collect --campaign-id c --replace" in refusal
    evidence(workspace, "collect")
    done = manager_here(workspace, *promote)
    assert (done.returncode, "says roll back: still-critical" in done.stderr) == (1, True)


def test_a_campaign_does_not_begin_blind(workspace: Path) -> None:
    """TP-05: an API that does not answer, or a missing policy, is said before any load."""
    done = campaign(workspace, "d", "--staging-policy-api", "http://127.0.0.1:9")
    assert "no policy API answers at http://127.0.0.1:9" in done.stdout + done.stderr
    assert not list((workspace / "campaigns" / "d").glob("runs/*/*/cell-summary.json"))
    (workspace / "deploy" / "throughput.yaml").unlink()
    done = campaign(workspace, "e", "--staging-policy-api", "http://127.0.0.1:9")
    assert (done.returncode, "docs/throughput.md" in done.stdout + done.stderr) == (2, True)


def test_two_presets_are_compared_like_two_versions(workspace: Path, api: Served) -> None:
    """TP-05: the same snapshot under two presets: pinned in campaign.json, in force while each cell is measured."""
    baseline, twin = (workspace / "versions" / slug / "snapshot" for slug in ("baseline", "faster"))
    shutil.copy(baseline / "service.py", twin / "service.py")
    shutil.rmtree(workspace / "campaigns" / "c")
    done = campaign(workspace, "p", "--staging-policy-api", api.url, "--staging-policy-preset",
                    "conservative,faster=aggressive")  # fmt: skip
    pinned = json.loads((workspace / "campaigns" / "p" / "campaign.json").read_text())
    assert pinned["policy_presets"] == {"baseline": "conservative", "faster": "aggressive"}
    assert pinned["versions"]["baseline"] == pinned["versions"]["faster"]
    cells = [json.loads(path.read_text()) for path in (workspace / "campaigns" / "p").rglob("cell-summary.json")]
    assert [one["outcome"] for one in cells] == ["passed", "passed"], done.stdout
    trail = [one for one in api.call("GET", "audit")["entries"] if "campaign p," in one.get("reason", "")]
    found = {(one["preset"], "faster" in one["reason"]) for one in trail}
    assert found == {("conservative", False), ("aggressive", True)}
    assert not api.call("GET", "override")["active"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--staging-policy-preset", "balanced"), "needs the API of the policy"),
        (("--staging-policy-api", "{url}", "--staging-policy-preset", "wild"), "known are conservative"),
        (("--staging-policy-api", "{url}", "--staging-policy-preset", "balanced,other=balanced"), "no version of this"),
        (("--staging-policy-api", "{url}", "--staging-policy-preset", "balanced,faster"), "is no VERSION=PRESET"),
    ],
)
def test_presets_that_cannot_be(workspace: Path, api: Served, arguments: tuple[str, ...], said: str) -> None:
    """TP-05: said before anything is measured."""
    done = campaign(workspace, "q", *(one.format(url=api.url) for one in arguments))
    assert (done.returncode, said in done.stdout + done.stderr) == (2, True), done.stdout


def test_an_override_that_somebody_ends_fails_the_cell(api: Served) -> None:
    """TP-05: a cell counts only when its preset was in force until its end; what others set is left alone."""
    under = UnderPreset(PolicyClient(api.url), "x", {"baseline": "conservative"})
    with pytest.raises(CellFailure, match="another one of loopback took its place"), under(Cell(1, "jvm", "baseline")):
        api.call("PUT", "override", {"preset": "aggressive", "ttl_seconds": 600})
    assert api.call("DELETE", "override")["active"] is False
    with pytest.raises(CellFailure, match="it is over"), under(Cell(1, "jvm", "baseline")):
        api.call("DELETE", "override")
