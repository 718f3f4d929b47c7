"""Disks that are full or read-only: one clear message."""

from __future__ import annotations

import subprocess

import pytest
from running import make_small, marked_processes, mounted_tmpfs, run_campaign


def assert_clear_end(result, *words):
    """Exit code 1, a message that says what cannot be written, and nothing that looks like a crash."""
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout
    assert "INTERNALERROR" not in result.stdout
    endings = [line for line in result.stdout.splitlines() if "cannot write" in line]
    assert endings, result.stdout
    # The load tool's log may complain too, in its own words.
    assert any(all(word in ending for word in words) for ending in endings), result.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["serial", "n1"])
def test_a_full_disk_ends_the_campaign_with_one_message(tmp_path, workers):
    """SM-07: a disk that fills up in mid-campaign: one message that says so, exit code 1, nothing left running."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    with mounted_tmpfs(root / "campaigns", "size=100k"):
        result = run_campaign(root, "--runs=4", *workers)
        assert_clear_end(result, "No space left on device", "free some space")
        assert list((root / "campaigns" / "c").glob(".*.tmp")) == []
    assert marked_processes(root) == []


def test_a_disk_without_room_for_the_campaign_leaves_nothing(tmp_path):
    """SM-07: no room for campaign.json: one message, exit code 1, no half campaign."""
    root = make_small(tmp_path / "w")
    with mounted_tmpfs(root / "campaigns", "size=4k"):
        (root / "campaigns" / "filler").write_bytes(b"x" * 4096)
        assert_clear_end(run_campaign(root), "No space left on device")
        assert [path.name for path in (root / "campaigns").iterdir()] == ["filler"]


def test_a_read_only_folder_is_named(tmp_path):
    """SM-07: a read-only campaigns folder: one message that names it and says what to do, exit code 1."""
    root = make_small(tmp_path / "w")
    with mounted_tmpfs(root / "campaigns", "size=1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(root / "campaigns")], check=True, timeout=60)
        assert_clear_end(run_campaign(root), "Read-only file system", str(root / "campaigns"))


def test_a_campaigns_folder_that_is_a_file_is_named(tmp_path):
    """SM-07: campaigns is a file: one message, exit code 1."""
    root = make_small(tmp_path / "w")
    (root / "campaigns").rmdir()
    (root / "campaigns").write_text("")
    assert_clear_end(run_campaign(root), "campaigns")
