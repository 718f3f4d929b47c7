"""What version.yaml looks like after a change, and the commands that only look."""

from __future__ import annotations

import json

import pytest
import yaml
from deciding import manage, promotion_of, read_version
from workspaces import make_version

FACTS = "kind: generic-service\nstatus: {status}\nparent: baseline\ncreated_at: '2026-01-01T00:00:00Z'\n"


def write_version(root, slug, text):
    make_version(root, slug, "candidate")
    (root / "versions" / slug / "version.yaml").write_text(text)


def test_comments_survive_every_change(root):
    """SM-09: what a person wrote into version.yaml stays: comments, order, quoting."""
    text = ("# Pools of 32 connections.\nslug: faster  # as in the ticket\nkind: generic-service\n"
            "status: candidate # nominated by Ann\nparent: baseline\n\n# When:\ncreated_at: '2026-01-01T00:00:00Z'\n"
            "notes: \"quoted # not a comment\"\n")
    write_version(root, "faster", text)
    assert manage(root, *promotion_of()) == 0
    assert manage(root, "rollback", "--why", "why: because # really") == 0
    after = (root / "versions/faster/version.yaml").read_text()
    for line in ("# Pools of 32 connections.", "slug: faster  # as in the ticket", "# When:",
                 "created_at: '2026-01-01T00:00:00Z'", "status: rejected # nominated by Ann"):
        assert line in after.splitlines()
    assert read_version(root, "faster")["notes"] == "quoted # not a comment / why: because # really"


@pytest.mark.parametrize("notes", [
    '"goes on\n  below"', "'it''s: a long note\n  over two lines'", "|\n  one\n  two\n", "plain that\n  goes on",
    ">\n  folded: text\n  'and so on'\n", '"tab\\tand \\u2028 separator"', '"\\x7f \\x85 \\u00a0"', "''", "'null'", "~",
])  # fmt: skip
@pytest.mark.parametrize("arguments", [
    ("nominate", "odd"), ("reject", "odd", "--why", "slow \x7f \u2028 'quoted' \"too\""),
])  # fmt: skip
def test_every_way_to_write_notes_is_kept(root, notes, arguments):
    """SM-09: a value over several lines, or with odd characters, is neither lost nor a traceback."""
    write_version(root, "odd", f"slug: odd\n{FACTS.format(status='staging')}notes: {notes}\n")
    before = read_version(root, "odd")["notes"]
    assert manage(root, *arguments) == 0
    after = read_version(root, "odd")
    if arguments[0] == "nominate":
        assert (after["status"], after.get("notes")) == ("candidate", before)
    else:
        notes = f"{before} / {arguments[-1]}" if before else arguments[-1]
        assert (after["status"], after["notes"]) == ("rejected", notes)


def test_list_shows_every_version(root, capsys):
    """SM-09: list has a row per version, and as JSON the same facts for programs."""
    assert manage(root, "list") == 0
    table = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["baseline", "faster"]
    assert manage(root, "list", "--json") == 0
    assert [(one["slug"], one["status"]) for one in json.loads(capsys.readouterr().out)] == [
        ("baseline", "baseline"), ("faster", "candidate"),
    ]


def test_show_has_the_metadata_the_modes_and_the_fingerprint(root, capsys):
    """SM-09: show prints what is known of one version; an unknown slug is a usage error naming the nearest."""
    assert manage(root, "show", "faster", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["slug"] == "faster"
    assert len(shown["snapshot_fingerprint"]) == 64
    assert manage(root, "show", "faster") == 0
    assert "jvm, native" in capsys.readouterr().out
    assert manage(root, "show", "fastr") == 2
    assert "Did you mean 'faster'?" in capsys.readouterr().err


def test_lineage_is_a_tree(root, capsys):
    """SM-09: children stand below their parents."""
    write_version(root, "next", f"slug: next\n{FACTS.format(status='staging').replace('baseline', 'faster', 1)}")
    assert manage(root, "lineage") == 0
    assert capsys.readouterr().out.splitlines() == [
        "baseline (baseline)", "  faster (candidate)", "    next (staging)",
    ]


def test_lineage_without_the_parent(root, capsys):
    """SM-09: a version whose parent is gone stands at the root and says so."""
    write_version(root, "lost", f"slug: lost\n{FACTS.format(status='staging').replace('baseline', 'deleted', 1)}")
    assert manage(root, "lineage") == 0
    assert "lost (staging, parent deleted is gone)" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("circle", [("one",), ("one", "two"), ("one", "two", "three")])
def test_lineage_that_goes_round(root, capsys, circle):
    """SM-09: versions that are each other's parents are each shown once; the command ends."""
    for slug, parent in zip(circle, circle[1:] + circle[:1], strict=True):
        write_version(root, slug, f"slug: {slug}\n{FACTS.format(status='staging').replace('baseline', parent, 1)}")
    assert manage(root, "lineage") == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == sorted(["baseline", "faster", *circle])


@pytest.mark.parametrize("command", ["list", "lineage"])
def test_a_broken_version_is_named(root, capsys, command):
    """SM-02: one clear error that names the file and the field."""
    data = yaml.safe_load((root / "versions/faster/version.yaml").read_text())
    (root / "versions/faster/version.yaml").write_text(yaml.safe_dump({**data, "status": "canditate"}))
    assert manage(root, command) == 2
    error = capsys.readouterr().err
    assert "versions/faster/version.yaml" in error
    assert "did you mean 'candidate'" in error
