"""Planning: everything that can be wrong before anything runs, and what a plan pins."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from workspaces import make_version, make_workspace, write_benchmark

from pytest_staging import wiring
from pytest_staging.campaign.planning import (
    CampaignRequest,
    create_folder,
    load_pinned_benchmark,
    parse_runs,
    parse_seed,
    plan_campaign,
)
from pytest_staging.model.errors import PinChanged, StorageError, UsageProblem, WorkspaceError
from pytest_staging.store import Workspace
from pytest_staging.targets.local import LocalTarget


@pytest.fixture
def root(tmp_path):
    """A workspace with a baseline and two candidates."""
    return make_workspace(tmp_path / "w", candidates=("faster", "smaller"))


def plan(root: Path, runs: int = 2, **request):
    """A campaign planned in the workspace."""
    return plan_campaign(Workspace(root), CampaignRequest(runs=runs, **request), wiring.make_load_tool, LocalTarget())


def refused(root: Path, **request) -> str:
    """The message with which planning refuses; nothing may be written."""
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageProblem) as caught:
        plan(root, **request)
    assert sorted(root.rglob("*")) == before
    assert caught.value.exit_code == 2
    return str(caught.value)


def edit_service(root: Path, slug: str, change) -> None:
    """Applies `change` to a version's service.yaml."""
    path = root / "versions" / slug / "snapshot" / "service.yaml"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_plan_pins_everything_that_decides_the_result(root):
    """SM-07: campaign.json pins benchmark, payloads, seed, order, versions and tool."""
    campaign = plan(root, seed=5, campaign_id="c")
    benchmark = (root / "benchmark" / "benchmark.yaml").read_bytes()
    assert campaign.benchmark_sha256 == hashlib.sha256(benchmark).hexdigest()
    assert campaign.benchmark_files == {"payloads/echo.json": hashlib.sha256(b"{}").hexdigest()}
    assert (campaign.seed, campaign.order, campaign.runs) == (5, "balanced", 2)
    assert (campaign.baseline_slug, campaign.candidate_slugs) == ("baseline", ("faster", "smaller"))
    assert len(set(campaign.versions.values())) == 3
    assert campaign.load_tool["name"] == "locust"
    assert len(campaign.cells) == 2 * 2 * 3


def test_a_seed_that_is_not_given_is_drawn_and_recorded(root):
    """SM-07: without --staging-seed the order differs from campaign to campaign, and each records its seed."""
    campaigns = [plan(root) for _ in range(5)]
    assert len({campaign.seed for campaign in campaigns}) > 1
    for campaign in campaigns:
        assert plan(root, seed=campaign.seed).cells == campaign.cells


def test_named_versions_win_over_statuses(root):
    """PT-01: --baseline and --candidate choose any version, whatever its status."""
    campaign = plan(root, baseline="faster", candidates=["baseline"])
    assert campaign.slugs == ("faster", "baseline")


def test_a_baseline_by_name_is_no_candidate_by_status(root):
    """PT-01: with --baseline faster the candidates are the others with that status."""
    assert plan(root, baseline="faster").candidate_slugs == ("smaller",)


def test_an_unknown_version_is_named_with_the_nearest(root):
    """SM-07: an unknown slug says which are known."""
    message = refused(root, candidates=["fastr"])
    assert "'fastr'" in message
    assert "Did you mean 'faster'?" in message
    assert "baseline, faster, smaller" in message
    assert "'nope'" in refused(root, baseline="nope")


@pytest.mark.parametrize("slug", ["../baseline", "a/b", ".hidden", "-x", "x" * 101, "a b", "a\0b"])
def test_an_unsafe_slug_never_becomes_a_path(root, slug):
    """SM-02: a slug that could leave its folder is refused before any file is looked at."""
    assert "version" in refused(root, candidates=[slug])


def test_a_version_is_not_compared_with_itself(root):
    """SM-07: the baseline cannot be the candidate."""
    assert "not compared with itself" in refused(root, candidates=["baseline"])
    assert "not compared with itself" in refused(root, baseline="faster", candidates=["faster"])


def test_a_candidate_given_twice_is_refused(root):
    """XP-07: every candidate is there once."""
    assert "--candidate faster is given twice" in refused(root, candidates=["faster", "smaller", "faster"])


def test_two_baselines_are_an_error_that_names_both(root):
    """SM-07: with two versions of status baseline the user has to say which."""
    make_version(root, "other", "baseline")
    message = refused(root)
    assert "2 versions have status baseline: baseline, other" in message
    assert plan(root, baseline="other").baseline_slug == "other"


def test_no_baseline_is_an_error_with_the_option_to_use(root):
    """SM-07: without a version of status baseline the user is told what to do."""
    shutil.rmtree(root / "versions" / "baseline")
    assert "--baseline" in refused(root)


def test_no_candidate_is_an_error_with_the_option_to_use(root):
    """SM-07: without a version of status candidate the user is told what to do."""
    for slug in ("faster", "smaller"):
        shutil.rmtree(root / "versions" / slug)
    assert "--candidate" in refused(root)


def test_no_versions_at_all_is_an_error(tmp_path):
    """SM-07: an empty workspace says what is missing."""
    write_benchmark(tmp_path)
    assert "baseline" in refused(tmp_path)


def test_a_mode_that_a_version_lacks_names_version_and_mode(root):
    """SM-07: every version must have every mode of the benchmark."""
    edit_service(root, "faster", lambda data: data["modes"].pop("native"))
    message = refused(root)
    assert "versions/faster/snapshot/service.yaml" in message
    assert "mode 'native'" in message


def test_a_function_that_a_version_lacks_names_version_and_function(root):
    """SM-07: every version must answer every function of the benchmark."""
    edit_service(root, "smaller", lambda data: data.update(functions=["other"]))
    message = refused(root)
    assert "versions/smaller/snapshot/service.yaml" in message
    assert "function 'echo'" in message


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "1.5", "1e3", "100001", "nan"])
def test_runs_must_be_a_sensible_whole_number(text):
    """SM-07: --runs N needs a whole number from 1 on, and the message gives an example."""
    with pytest.raises(UsageProblem, match=r"--runs .*whole number.*--runs 10"):
        parse_runs(text)


def test_runs_is_respected(root):
    """SM-07: --runs N gives N runs."""
    for runs in (1, 3):
        assert {cell.run_index for cell in plan(root, runs=runs).cells} == set(range(1, runs + 1))


@pytest.mark.parametrize("text", ["x", "", "1.5"])
def test_a_seed_must_be_a_whole_number(text):
    """SM-07: --staging-seed says what it needs."""
    with pytest.raises(UsageProblem, match="--staging-seed"):
        parse_seed(text)


def test_an_existing_campaign_is_never_written_over(root):
    """SM-07: an id that exists is refused, and the campaign there stays as it is."""
    create_folder(Workspace(root), plan(root, campaign_id="c"))
    assert "campaign 'c' exists already" in refused(root, campaign_id="c")


@pytest.mark.parametrize("campaign_id", ["../c", "a/b", ".c", "-c", "", "c" * 101])
def test_an_unsafe_campaign_id_is_refused(root, campaign_id):
    """SM-02: an id that could leave campaigns/ is refused."""
    assert "campaign id" in refused(root, campaign_id=campaign_id)


def test_a_tool_version_that_does_not_fit_is_refused(root):
    """SM-04: the contract's tool version is checked against what is installed."""
    load = {"shape": "closed", "users": 1, "duration_s": 1, "tool_version": "<1"}
    write_benchmark(root, load=load)
    message = refused(root)
    assert "locust <1" in message
    write_benchmark(root, load={**load, "tool_version": ">=1"})
    assert plan(root).load_tool["version"]


def test_an_unknown_tool_names_the_known_ones(root):
    """SM-04: a load tool that nobody knows is refused."""
    write_benchmark(root, load={"shape": "closed", "users": 1, "duration_s": 1, "tool": "locst"})
    assert "Did you mean 'locust'?" in refused(root)


def test_a_missing_payload_is_named(root):
    """SM-04: a payload that the benchmark names must be there."""
    (root / "benchmark" / "payloads" / "echo.json").unlink()
    assert "payloads/echo.json" in refused(root)


def test_a_missing_benchmark_says_how_to_name_another(root):
    """SM-04: no benchmark, no campaign."""
    (root / "benchmark" / "benchmark.yaml").unlink()
    assert "--benchmark-path" in refused(root)


def test_a_broken_version_is_named_with_file_and_field(root):
    """SM-02: a version.yaml that breaks its contract stops the campaign with file and field."""
    path = root / "versions" / "faster" / "version.yaml"
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**data, "status": "candidat", "colour": "red"}))
    message = refused(root)
    assert "versions/faster/version.yaml" in message
    assert "status" in message
    assert "colour" in message


def test_the_folder_holds_its_own_copy_of_the_benchmark(root):
    """SM-11: a campaign reads its own copy: what changes outside afterwards changes nothing in it."""
    campaign = plan(root, campaign_id="c")
    folder = create_folder(Workspace(root), campaign)
    write_benchmark(root, duration_s=99.0)
    (root / "benchmark" / "payloads" / "echo.json").write_text("[]")
    assert load_pinned_benchmark(folder, campaign).load.duration_s == 0.4
    assert (folder / "benchmark" / "payloads" / "echo.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["benchmark.yaml", "payloads/echo.json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_text("{ }"), lambda path: path.unlink()])
def test_a_changed_copy_of_the_benchmark_is_refused_by_name(root, name, damage):
    """SM-11: another hash fails and says which file changed."""
    campaign = plan(root, campaign_id="c")
    folder = create_folder(Workspace(root), campaign)
    damage(folder / "benchmark" / name)
    with pytest.raises(PinChanged, match=name):
        load_pinned_benchmark(folder, campaign)


def test_a_benchmark_that_changes_while_the_folder_is_made_is_refused(root):
    """SM-11: what is copied is what was pinned, or there is no campaign."""
    campaign = plan(root, campaign_id="c")
    write_benchmark(root, duration_s=99.0)
    with pytest.raises(PinChanged, match=r"benchmark\.yaml"):
        create_folder(Workspace(root), campaign)
    assert list((root / "campaigns").iterdir()) == []


def test_a_folder_that_cannot_be_made_leaves_nothing(root):
    """SM-07: a campaign's folder is whole or not there."""
    campaign = plan(root, campaign_id="c")
    (root / "benchmark" / "payloads" / "echo.json").unlink()
    with pytest.raises((StorageError, WorkspaceError, PinChanged), match=r"echo\.json"):
        create_folder(Workspace(root), campaign)
    assert list((root / "campaigns").iterdir()) == []


def test_a_smoke_campaign_is_marked_and_short(root):
    """PT-01: --staging-smoke shortens the load and leaves the pinned contract as it is."""
    write_benchmark(root, duration_s=30.0)
    campaign = plan(root, smoke=True)
    assert campaign.smoke
    assert campaign.campaign_id.endswith("-smoke")
    folder = create_folder(Workspace(root), campaign)
    assert load_pinned_benchmark(folder, campaign).load.duration_s <= 1.0
    assert "duration_s: 30.0" in (folder / "benchmark" / "benchmark.yaml").read_text()


def test_versions_and_modes_with_one_test_name_are_refused(root):
    """SM-07: two cells never share a name: mode `jvm` of `graal-x` and mode `jvm-graal` of `x`."""
    write_benchmark(root, platform_modes=["jvm", "native", "jvm-graal"])
    for slug in ("graal-x", "x"):
        make_version(root, slug, "candidate")
    for slug in ("baseline", "graal-x", "x"):
        edit_service(root, slug, lambda data: data["modes"].update({"jvm-graal": data["modes"]["jvm"]}))
    assert "run001-jvm-graal-x" in refused(root, candidates=["graal-x", "x"])
