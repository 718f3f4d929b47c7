"""The rules of a version's life, as data: every transition, and every reason against a promotion."""

from __future__ import annotations

import itertools

import pytest

from pytest_staging import contract, lineage, store
from pytest_staging.model.errors import PromotionRefused
from pytest_staging.model.version import KIND, Status, VersionMetadata
from pytest_staging.promotion import (
    Evidence,
    Override,
    check_transition,
    find_refusals,
    plan_nomination,
    plan_promotion,
    plan_rejection,
    plan_rollback,
)

NOW = "2026-02-01T00:00:00Z"
ALLOWED = {
    (Status.STAGING, Status.CANDIDATE), (Status.STAGING, Status.REJECTED), (Status.CANDIDATE, Status.BASELINE),
    (Status.CANDIDATE, Status.REJECTED), (Status.BASELINE, Status.ARCHIVED_BASELINE),
}  # fmt: skip
GOOD = Evidence(campaign_id="c", verdict="pass", reason="all", campaign_baseline="base")
BAD = {
    "smoke": ({"smoke": True}, "smoke"),
    "other baseline": ({"campaign_baseline": "older"}, "compared with older, and the baseline is base now"),
    "incomplete": ({"cells_missing": 2, "cells_planned": 8}, "2 of 8 cells"),
    "changed": ({"changed": ("the snapshot of fast",)}, "the snapshot of fast is not what was measured"),
    "superseded": ({"superseded_by": "later"}, "later campaign of the same versions stands: later"),
    "inconclusive": ({"verdict": "inconclusive"}, "its verdict is inconclusive"),
    "regression": ({"verdict": "regression"}, "its verdict is regression"),
}


def version(slug="fast", status=Status.CANDIDATE, **fields):
    return VersionMetadata(slug=slug, kind=KIND, status=status, parent=None, created_at=NOW, **fields)


BASE = version("base", Status.BASELINE)


@pytest.mark.parametrize(("status", "target"), list(itertools.product(Status, Status)))
def test_every_transition(status, target):
    """SM-09: staging -> candidate -> baseline -> archived-baseline, and -> rejected; the rest names what is allowed."""
    if (status, target) in ALLOWED:
        check_transition(version(status=status), target)
        return
    with pytest.raises(PromotionRefused) as refused:
        check_transition(version(status=status), target)
    allowed = [to.value for frm, to in ALLOWED if frm is status]
    assert f"fast is {status.value} and cannot become {target.value}" in str(refused.value)
    listed = str(refused.value).partition(f"Allowed from {status.value}: ")[2].rstrip(".")
    assert sorted(listed.split(", ")) == sorted(allowed or ["none"])


@pytest.mark.parametrize("name", BAD)
def test_each_flaw_alone_refuses(name):
    """SM-09: every flaw of the evidence refuses by itself, names itself, and yields to a recorded override only."""
    changes, words = BAD[name]
    evidence = Evidence(**{**vars(GOOD), **changes})
    with pytest.raises(PromotionRefused, match="--override --why") as refused:
        plan_promotion(version(), BASE, evidence, NOW, None)
    assert words in str(refused.value)
    promoted, archived = plan_promotion(version(override_why=("earlier",)), BASE, evidence, NOW, Override("I know"))
    assert (promoted.status, archived.status) == (Status.BASELINE, Status.ARCHIVED_BASELINE)
    assert promoted.override_why[0] == "earlier"
    assert "I know" in promoted.override_why[1]
    assert words in promoted.override_why[1]


def test_all_flaws_are_named_at_once():
    """SM-09: a refusal lists every reason, not only the first."""
    changes = {key: value for what, _ in BAD.values() for key, value in what.items()}
    assert len(find_refusals(Evidence(**{**vars(GOOD), **changes}), "base")) == len(BAD) - 1


def test_good_evidence_is_recorded():
    """SM-09: the campaign and its verdict stay in the metadata, and no override that was not needed."""
    promoted, archived = plan_promotion(version(), BASE, GOOD, NOW, Override("not needed"))
    assert (promoted.campaign_id, promoted.verdict, promoted.replaced) == ("c", "pass", "base")
    assert (promoted.promoted_at, archived.archived_at, promoted.override_why) == (NOW, NOW, ())


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.CANDIDATE])
def test_only_a_candidate_is_promoted(status):
    """SM-09: no evidence and no override makes another status a baseline."""
    with pytest.raises(PromotionRefused, match=f"fast is {status.value}"):
        plan_promotion(version(status=status), BASE, GOOD, NOW, Override("please"))


def test_nomination_and_rejection():
    """SM-09: nominate and reject change the status and keep the evidence and the reason."""
    assert plan_nomination(version(status=Status.STAGING)).status is Status.CANDIDATE
    gone = plan_rejection(version(notes="first"), NOW, GOOD, "too slow")
    assert (gone.status, gone.rejected_at, gone.notes) == (Status.REJECTED, NOW, "first / too slow")
    assert (gone.campaign_id, gone.verdict) == ("c", "pass")


@pytest.mark.parametrize(("replaced", "versions", "words"), [
    (None, {}, "replaced no other version"),
    ("base", {}, "which is gone"),
    ("base", {"base": version("base", Status.REJECTED)}, "which is rejected, not archived-baseline"),
])  # fmt: skip
def test_rollback_needs_what_was_replaced(replaced, versions, words):
    """SM-09: rollback restores the archived baseline or says why there is none."""
    now = version(status=Status.BASELINE, replaced=replaced)
    with pytest.raises(PromotionRefused, match=words):
        plan_rollback(now, versions, NOW, None)


COMMENTED = """\
# Why this version exists.
slug: fast          # do not rename
kind: generic-service
status: candidate   # by hand

parent: base
created_at: '2026-01-01T00:00:00Z'
notes: {notes}
"""


@pytest.mark.parametrize("notes", ["plain", "'it''s # quoted'", '"double # quoted"', "~"])
def test_editing_changes_only_what_changed(notes):
    """SM-09: the status is replaced in its line, new keys come last, and every other line stays as it was."""
    text = COMMENTED.format(notes=notes)
    after, _ = plan_promotion(contract.parse_version(text), BASE, GOOD, NOW, None)
    edited = lineage.edit_metadata(text, store.metadata_fields(after))
    assert contract.parse_version(edited) == after
    kept = [line for line in text.splitlines() if not line.startswith(("status", "notes: ~"))]
    found = [line for line in edited.splitlines() if not line.startswith("status")]
    assert found[: len(kept)] == kept
    assert "status: baseline   # by hand" in edited.splitlines()
