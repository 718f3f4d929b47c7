"""nominate, promote, reject, rollback, list, show, lineage over real campaign folders."""

from __future__ import annotations

import json
import shutil

import pytest
from crafted import fill, passing, plan, regressing, summarised, up_to, wavering, without
from deciding import content, make_passing, manage, promotion_of, read_version, states
from running import run_campaign
from workspaces import make_version

from pytest_staging import store


def test_a_version_from_staging_to_baseline_and_back(root, capsys):
    """SM-09: nominate, promote, rollback; the campaign, the verdict and the instants stay in the metadata."""
    make_version(root, "faster", "staging")
    assert manage(root, *promotion_of()) == 1
    assert "Allowed from staging: candidate, rejected" in capsys.readouterr().err
    assert manage(root, "nominate", "faster") == 0
    assert manage(root, *promotion_of()) == 0
    output = capsys.readouterr().out
    assert "baseline: baseline -> archived-baseline" in output
    assert "faster: candidate -> baseline" in output
    promoted = read_version(root, "faster")
    assert (promoted["campaign_id"], promoted["verdict"], promoted["replaced"]) == ("c", "pass", "baseline")
    assert "archived_at" in read_version(root, "baseline")
    assert manage(root, "rollback", "--why", "p99 on the big hosts") == 0
    assert states(root, capsys) == {"baseline": "baseline", "faster": "rejected"}
    gone = read_version(root, "faster")
    assert (gone["campaign_id"], gone["notes"]) == ("c", "p99 on the big hosts")
    assert "archived_at" not in read_version(root, "baseline")


def recampaign(fate, **keywords):
    """A campaign `d` of its own for the case."""
    return lambda root: fill(root, plan(root, campaign_id="d", **keywords), fate)


def edit_snapshot(slug):
    def edit(root):
        with (root / "versions" / slug / "snapshot" / "service.py").open("a") as file:
            file.write("# changed\n")
    return edit


def edit_cells(**changes):
    """Every cell of campaign `c` says something else than was measured."""
    def edit(root):
        folder = root / "campaigns" / "c"
        campaign = store.load_campaign(folder)
        for cell in campaign.cells:
            store.save_summary(folder, summarised(campaign, cell, passing(cell), **changes))
    return edit


def new_baseline(root):
    make_version(root, "baseline", "archived-baseline")
    make_version(root, "other", "baseline")


def about_another(root):
    make_version(root, "other", "candidate")
    fill(root, plan(root, campaign_id="d", candidates=("other",)), passing)


def edit_benchmark(root):
    path = root / "campaigns/c/benchmark/benchmark.yaml"
    path.write_text(f"{path.read_text()}# changed\n")


def edit_payload(root):
    (root / "campaigns/c/benchmark/payloads/echo.json").write_text("[]")


def one_cell(root):
    """One cell of `c` says what it really measured again."""
    campaign = store.load_campaign(root / "campaigns" / "c")
    fill(root, campaign, lambda cell: passing(cell) if cell.run_index == 1 else None)


LATER = {"created_at": "2999-01-01T00:00:00Z"}
REFUSED = {
    "incomplete": (recampaign(up_to(passing, 7)), "d", "2 of 16 cells have no passed result"),
    "failed cell": (recampaign(without(passing, "run002-native-faster", 0.0)), "d", "1 of 16 cells"),
    "failed baseline cell": (recampaign(without(passing, "run002-native-baseline", 0.0)), "d", "1 of 16 cells"),
    "nothing ran": (lambda root: plan(root, campaign_id="d"), "d", "16 of 16 cells"),
    "smoke": (recampaign(passing, smoke=True), "d", "it is a smoke campaign"),
    "regression": (recampaign(regressing), "d", "its verdict is regression"),
    "inconclusive": (recampaign(wavering), "d", "its verdict is inconclusive"),
    "too few runs": (recampaign(passing, runs=4), "d", "its verdict is inconclusive"),
    "candidate's snapshot": (edit_snapshot("faster"), "c", "the snapshot of faster is not what was measured"),
    "baseline's snapshot": (edit_snapshot("baseline"), "c", "the snapshot of baseline is not what was measured"),
    "version gone": (lambda root: shutil.rmtree(root / "versions/baseline/snapshot"), "c", "version baseline ("),
    "changed build": (lambda root: edit_cells(artifact={"fingerprint": "0" * 64})(root) or one_cell(root), "c",
                      "it changed within the campaign"),
    "another build": (edit_cells(artifact={"fingerprint": "0" * 64}), "c", "the build of faster in mode native"),
    "no build known": (edit_cells(artifact={}), "c", "the build of faster in mode native"),
    "another benchmark": (edit_cells(benchmark_sha256="0" * 64), "c", "the benchmark of 16 cells"),
    "superseded": (recampaign(wavering, **LATER), "c", "a later campaign of the same versions stands: d"),
    "superseded while it runs": (recampaign(without(regressing, "run008-native-faster"), **LATER), "c", "stands: d"),
    "no longer the baseline": (new_baseline, "c", "compared with baseline, and the baseline is other now"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_evidence_that_does_not_carry_is_refused(root, capsys, name):
    """SM-09: promotion is refused unless the campaign is complete, unfiltered, unchanged, current and passed."""
    break_it, campaign_id, words = REFUSED[name]
    break_it(root)
    before = content(root)
    assert manage(root, *promotion_of(campaign_id=campaign_id)) == 1
    assert words in capsys.readouterr().err
    assert content(root) == before


@pytest.mark.parametrize(("break_it", "campaign_id", "words"), [
    (edit_benchmark, "c", "benchmark.yaml"),
    (edit_payload, "c", "payloads/echo.json"),
    (lambda root: None, "unknown", "there is no campaign 'unknown'"),
    (lambda root: None, "../c", "campaign id"),
    (about_another, "d", "is not about 'faster'; its candidates are other"),
    (lambda root: (root / "campaigns/c/campaign.json").write_text("{"), "c", "is not valid JSON"),
    (lambda root: (root / "campaigns/c/runs/run-001/faster__native/cell-summary.json").write_text("{"), "c",
     "cell-summary.json is not valid JSON"),
])  # fmt: skip
def test_a_campaign_that_is_no_evidence_at_all(root, capsys, break_it, campaign_id, words):
    """SM-11: an unknown, foreign, broken or changed campaign is a usage error, which no override passes over."""
    break_it(root)
    before = content(root)
    for more in ((), ("--override", "--why", "please")):
        assert manage(root, *promotion_of(campaign_id=campaign_id), *more) == 2
        assert words in capsys.readouterr().err
    assert content(root) == before


@pytest.mark.parametrize("fate", [regressing, wavering, passing])
@pytest.mark.parametrize("kind", ["other baseline", "smoke", "earlier"])
def test_campaigns_that_do_not_supersede(root, fate, kind):
    """SM-09: a smoke campaign, one against another baseline, or an earlier one takes nothing from this verdict."""
    if kind == "other baseline":
        make_version(root, "baseline", "staging")
        make_version(root, "other", "baseline")
    when = {"created_at": "2000-01-01T00:00:00Z"} if kind == "earlier" else LATER
    fill(root, plan(root, campaign_id="d", candidates=("faster",), smoke=kind == "smoke", **when), fate)
    if kind == "other baseline":
        make_version(root, "other", "staging")
        make_version(root, "baseline", "baseline")
    assert manage(root, *promotion_of()) == 0


def test_a_filtered_campaign_is_refused(tmp_path, capsys):
    """SM-09: what -k left out was not measured, so the campaign carries nothing."""
    root = make_passing(tmp_path / "w")
    result = run_campaign(root, "--runs=1", "-k", "baseline", campaign_id="filtered")
    assert result.returncode == 0, result.stdout
    assert manage(root, *promotion_of(campaign_id="filtered")) == 1
    assert "1 of 2 cells have no passed result" in capsys.readouterr().err


def test_the_aggregate_on_disk_is_not_believed(root):
    """SM-09: the verdict is computed from the cells; an edited aggregate-comparison.json changes nothing."""
    fill(root, plan(root, campaign_id="d"), regressing)
    good = {"verdict": "pass", "complete": True, "candidates": {"faster": {"verdict": "pass", "reason": ""}}}
    (root / "campaigns/d/aggregate-comparison.json").write_text(json.dumps(good))
    assert manage(root, *promotion_of(campaign_id="d")) == 1


@pytest.mark.parametrize("arguments", [("--override",), ("--why", "x"), ("--override", "--why", "  ")])
def test_override_and_why_go_together(root, capsys, arguments):
    """SM-09: an override without a reason, or a reason without an override, is a usage error."""
    assert manage(root, *promotion_of(), *arguments) == 2
    assert "--override and --why TEXT go together" in capsys.readouterr().err


def test_an_override_is_recorded_for_ever(root, capsys):
    """SM-09: why the evidence was overridden, and against what, survives rollback and rewriting."""
    fill(root, plan(root, campaign_id="d"), regressing)
    assert manage(root, *promotion_of(campaign_id="d"), "--override", "--why", 'fixes "a bug": urgent # now') == 0
    (entry,) = read_version(root, "faster")["override_why"]
    assert 'campaign d: fixes "a bug": urgent # now (against: ' in entry
    assert "verdict is regression" in entry
    assert manage(root, "rollback", "--why", "it broke") == 0
    after = read_version(root, "faster")
    assert (after["override_why"], after["status"], after["verdict"]) == ([entry], "rejected", "regression")
    assert manage(root, "show", "faster") == 0
    assert entry in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    ("nominate", "fresh"), promotion_of(), ("reject", "faster", "--why", "slow"), ("rollback",),
    ("reject", "faster", "--campaign-id", "c"),
])  # fmt: skip
def test_a_dry_run_changes_nothing_and_says_what_would_change(root, capsys, arguments):
    """SM-09: --dry-run prints the same changes as the command itself and leaves every byte as it is."""
    make_version(root, "fresh", "staging")
    if arguments == ("rollback",):
        manage(root, *promotion_of())
    before = content(root)
    capsys.readouterr()
    assert manage(root, *arguments, "--dry-run") == 0
    said = [line.removeprefix("would change ") for line in capsys.readouterr().out.splitlines() if " -> " in line]
    assert said
    assert content(root) == before
    assert manage(root, *arguments) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if " -> " in line] == said
    assert content(root) != before
