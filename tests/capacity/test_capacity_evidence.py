"""Evidence of a profile without an engine: what its manifest may call complete, and which campaigns belong to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from systems import write_system

from pytest_staging.campaign.evidence import load_record
from pytest_staging.capacity.showing import Invocation
from pytest_staging.engine import Engine
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.operating.control import Control
from pytest_staging.operating.describing import load_description
from pytest_staging.operating.evidence import gather
from pytest_staging.store import Workspace

TESTS = Path(__file__).parents[1]
sys.path += [path for folder in ("session", "verdict") if (path := str(TESTS / folder)) not in sys.path]

from crafted import Fate, fill, passing, plan, without  # noqa: E402

TARGET = "compose:wide,faster=small"


class FakeEngine:
    """Every service of `small` runs and is healthy."""

    address = "unix:///nowhere"

    def __init__(self) -> None:
        inspected = {"State": {"Status": "running", "Health": {"Status": "healthy"}}, "Name": "/x"}
        self.client = SimpleNamespace(
            api=SimpleNamespace(
                containers=lambda **_: [{"Id": name} for name in ("api", "store")],
                inspect_container=lambda name: {
                    **inspected,
                    "Id": name,
                    "Config": {"Labels": {"com.docker.compose.service": name}},
                },
            )
        )

    def require_answer(self) -> None:
        pass

    def call(self, what: str, function: Any, *given: Any, accept: object = (), **named: Any) -> Any:
        return function(*given, **named)


def control_of(root: Path) -> Control:
    workspace = Workspace(root)
    engine = cast(Engine, FakeEngine())
    return Control(workspace, load_description(workspace), Invocation("dev"), print, lambda: None, engine, ours={})  # type: ignore[arg-type,return-value]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """A system whose profile small has just got ready, after wide was."""
    found = control_of(write_system(tmp_path))
    for profile in ("wide", "small"):
        found.history.begin(profile, "dev", "start")
        found.history.mark_ready()
    return found


def compared(root: Path, target: str = TARGET, fate: Fate = passing, **keywords: Any) -> None:
    """A campaign `c` on that target."""
    campaign = plan(root, runs=2, **keywords)
    path = root / "campaigns" / "c" / "campaign.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target": target}))
    fill(root, campaign, fate)


def manifest_of(folder: Path) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], json.loads((folder / "manifest.json").read_text()))


def test_complete_evidence_has_the_comparison_and_the_way_back(control: Control) -> None:
    """CP-04: only then; the comparison is that of the cells, whatever lies beside them."""
    root = control.workspace.root
    compared(root)
    for name in ("aggregate-comparison.json", "aggregate-comparison.md"):
        (root / "campaigns" / "c" / name).write_text("junk")
    found = gather(control, "small", load_record(control.workspace, "c"), 1.0)
    told = manifest_of(found.folder)
    assert (told["complete"], told["incomplete"], told["absent"], told["state"]) == (True, [], [], "healthy")
    assert told["comparison"] == {"campaign_id": "c", "target": TARGET, "verdict": told["comparison"]["verdict"]}
    assert told["rollback"] == ["staging-manager", "capacity", "rollback", "small", "--env", "dev"]
    aggregate = json.loads((found.folder / "comparison" / "aggregate-comparison.json").read_text())
    assert (aggregate["campaign_id"], aggregate["verdict"]) == ("c", told["comparison"]["verdict"])
    assert (found.folder / "comparison" / "aggregate-comparison.md").read_text().startswith("# Campaign c: ")
    assert "comparison/campaign.json" in told["files"]


def test_evidence_without_them_says_so_and_is_not_called_complete(control: Control) -> None:
    """CP-04: no campaign and nothing to go back to are no mistakes, but no complete evidence either."""
    control.history.forget()
    control.history.begin("small", "dev", "start")
    found = gather(control, "small", None, 1.0)
    told = manifest_of(found.folder)
    assert (told["complete"], told["comparison"], told["rollback"]) == (False, None, None)
    assert [one.partition(":")[0] for one in told["absent"]] == ["comparison", "rollback"]
    assert (found.incomplete, "without comparison: no campaign was named (--campaign ID)" in found.notes) == ((), True)


def test_a_profile_that_does_not_run_has_no_way_back(control: Control) -> None:
    """CP-04: the command in rollback.json is one that is not refused."""
    told = manifest_of(gather(control, "wide", None, 1.0).folder)
    assert (told["rollback"], told["state"]) == (None, "degraded")


@pytest.mark.parametrize(
    ("target", "fate", "keywords", "words"),
    [
        ("local", passing, {}, "ran on local, and not under profile small"),
        ("compose:wide", passing, {}, "ran on compose:wide, and not under profile small"),
        ("compose:wide,small=wide@dev", passing, {}, "not under profile small"),
        (TARGET, without(passing, "run001-native-faster"), {}, "has results of 3 of 4 cells"),
        (TARGET, without(passing, "run001-native-faster", 0.0), {}, "has results of 3 of 4 cells"),
        (TARGET, passing, {"smoke": True}, "only checked the wiring"),
    ],
)
def test_a_campaign_that_proves_nothing_of_the_profile_is_refused(
    target: str, fate: Fate, keywords: dict[str, Any], words: str, control: Control
) -> None:
    """CP-04: another target, another profile, cells that are missing or failed, a smoke run: nothing is written."""
    compared(control.workspace.root, target, fate, **keywords)
    with pytest.raises(WorkspaceError, match="--staging-target compose:small") as caught:
        gather(control, "small", load_record(control.workspace, "c"), 1.0)
    assert words in str(caught.value)
    assert not (control.folder / "evidence").exists()


def test_files_that_only_look_like_a_campaign_are_refused(
    control: Control, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CP-04: three files of the right names are no comparison; the command ends with exit code 2."""
    from pytest_staging import wiring
    from pytest_staging.cli import main

    monkeypatch.setattr(wiring, "make_control", lambda *_: control)
    folder = control.workspace.root / "campaigns" / "c1"
    folder.mkdir(parents=True)
    for name in ("campaign.json", "aggregate-comparison.json", "aggregate-comparison.md"):
        (folder / name).write_text("junk")
    arguments = ["--root", str(control.workspace.root), "capacity", "evidence", "small", "--env", "dev"]
    assert main([*arguments, "--campaign", "c1"]) == 2
    assert "campaigns/c1/campaign.json" in capsys.readouterr().err
    assert main([*arguments, "--campaign", "none"]) == 2
    assert main(arguments) == 0, "what was not asked for is no fault"
