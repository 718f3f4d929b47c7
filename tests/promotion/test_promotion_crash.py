"""Killed at every step, raced by another, confronted with a broken intent: exactly one baseline, nothing lost."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from crafted import fill, passing, plan
from deciding import announced, content, killed_at, manage, promotion_of, read_version, states
from filelock import FileLock
from workspaces import make_version

MANY = 40
DONE = {"baseline": "archived-baseline", "faster": "baseline"}
FRESH = {"baseline": "baseline", "faster": "candidate"}
BACK = {"baseline": "baseline", "faster": "rejected"}
INTENT = "versions/.intent.json"


def each_kill(copies, arguments):
    """(workspace, exit code) of the command killed at its first, second, ... step, up to the run that completes."""
    def run(step):
        root = copies(step)
        return root, killed_at(step, root, *arguments)

    with ThreadPoolExecutor(2) as pool:
        for root, code in pool.map(run, range(1, MANY)):
            yield root, code
            if code == 0:
                pool.shutdown(cancel_futures=True)
                return


@pytest.fixture
def copies(root, tmp_path):
    """Makes numbered copies of the workspace."""
    def copy(number):
        target = tmp_path / f"copy{number}"
        subprocess.run(["cp", "-a", str(root), str(target)], check=True)
        return target

    return copy


def no_leftovers(root):
    """Neither intent nor half-written file lies below versions/."""
    return [name for name in content(root) if name.endswith(".tmp") or name == INTENT] == []


@pytest.mark.parametrize(("arguments", "before", "after", "least"), [
    (promotion_of(), FRESH, DONE, 12), (("rollback", "--why", "x"), DONE, BACK, 12),
    (("reject", "faster"), FRESH, {**FRESH, "faster": "rejected"}, 8),
], ids=["promote", "rollback", "reject"])  # fmt: skip
def test_killed_at_every_step(root, copies, capsys, arguments, before, after, least):
    """SM-09: killed at any step, the next command finds the old state or the new one whole, and can go on from it."""
    path = root / "versions/faster/version.yaml"
    path.write_text(f"# Pools of 32.\n{path.read_text()}")
    if before == DONE:
        assert manage(root, *promotion_of()) == 0
    found = []
    for place, code in each_kill(copies, arguments):
        assert code in (0, -9)
        state = states(place, capsys)
        found.append(state)
        assert state in (before, after)
        assert list(state.values()).count("baseline") == 1
        assert no_leftovers(place)
        assert (place / "versions/faster/version.yaml").read_text().startswith("# Pools of 32.\nslug: faster\n")
        if state == before:
            assert manage(place, *arguments) == 0
            assert states(place, capsys) == after
        if after == DONE:
            assert manage(place, "rollback") == 0
            assert states(place, capsys) == BACK
    # Each step was really reached, and the change happened at one of them.
    assert code == 0
    assert len(found) > least
    assert found == sorted(found, key=lambda state: state == after)
    assert before in found


def test_two_promotions_at_once(tmp_path, capsys):
    """SM-09: of two candidates that are promoted at the same instant one wins; the other is refused by then."""
    root = tmp_path / "w"
    for slug in ("faster", "smaller"):
        campaign = plan(root, campaign_id=slug, candidates=(slug,)) if slug == "faster" else None
        if campaign is None:
            make_version(root, slug, "candidate")
            campaign = plan(root, campaign_id=slug, candidates=(slug,))
        fill(root, campaign, passing)
    # Both queue behind this lock, so that they really meet.
    with FileLock(str(root / "versions" / ".lock")):
        both = [announced(root, *promotion_of(slug, slug)) for slug in ("faster", "smaller")]
        assert [process.stdout.readline() for process in both] == ["waiting\n"] * 2
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "and the baseline is" in next(error for error in errors if error)
    state = states(root, capsys)
    winner = ("faster", "smaller")[both[1].returncode == 0]
    loser = ("faster", "smaller")[both[0].returncode == 0]
    assert state == {"baseline": "archived-baseline", winner: "baseline", loser: "candidate"}
    assert no_leftovers(root)


VALID = "slug: {}\nkind: generic-service\nstatus: {}\nparent: null\ncreated_at: '2026-01-01T00:00:00Z'\n"
BROKEN_INTENTS = {
    "empty": "",
    "truncated": '{"writes": {"faster": "slug: fas',
    "no JSON": "hello",
    "another program's": '{"intent": "world domination"}',
    "a list": "[]",
    "no writes": '{"writes": null}',
    "no text": '{"writes": {"faster": 5}}',
    "broken version": json.dumps({"writes": {"faster": "slug: faster\n"}}),
    "wrong folder": json.dumps({"writes": {"faster": VALID.format("other", "baseline")}}),
    "outside": json.dumps({"writes": {"../faster": VALID.format("../faster", "baseline")}}),
    "unknown version": json.dumps({"writes": {"ghost": VALID.format("ghost", "baseline")}}),
    "second is broken": json.dumps({"writes": {"baseline": VALID.format("baseline", "rejected"), "faster": "x"}}),
}

FOREIGN = ("another program's", "a list", "no writes", "no text")


@pytest.mark.parametrize("name", BROKEN_INTENTS)
@pytest.mark.parametrize("arguments", [("list",), promotion_of(), ("rollback",)])
def test_a_broken_intent_stops_everything_and_loses_nothing(root, capsys, name, arguments):
    """SM-09: an intent that cannot be trusted is an error that names the file; no version is touched."""
    (root / INTENT).write_text(BROKEN_INTENTS[name])
    before = content(root)
    assert manage(root, *arguments) == 2
    error = capsys.readouterr().err
    assert ".intent.json" in error
    assert ("is no intent of this program" in error) == (name in FOREIGN)
    assert content(root) == before
    (root / INTENT).unlink()
    assert states(root, capsys) == FRESH


def test_a_whole_intent_is_finished_by_whatever_command_comes_next(root, capsys):
    """SM-09: what was decided happens, even when only the intent was left of it."""
    writes = {slug: VALID.format(slug, status) for slug, status in DONE.items()}
    (root / INTENT).write_text(json.dumps({"writes": writes}))
    assert manage(root, "show", "faster") == 0
    assert read_version(root, "faster")["status"] == "baseline"
    assert no_leftovers(root)


def test_a_workspace_in_use_is_waited_for_and_then_named(root, capsys, monkeypatch):
    """SM-09: a command that never gets the lock says so and changes nothing."""
    monkeypatch.setattr("pytest_staging.campaign.transitions.LOCK_TIMEOUT_S", 0.05)
    before = content(root)
    with FileLock(str(root / "versions" / ".lock")):
        assert manage(root, *promotion_of()) == 1
    assert "is locked" in capsys.readouterr().err
    assert content(root) == before
