"""Builds that are interrupted, killed, run twice at once, or side by side: real processes on a real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from image_workspaces import DEADLINE_S, FAILING, PLAIN, SLEEPING, ImageWorkspace
from workspaces import wait_for

from pytest_staging.cli import main
from pytest_staging.cli.jobs import STOP_S


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed; fails when it shows a traceback."""
    out, error = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in error, error
    return out, error


def assert_works(place: ImageWorkspace) -> None:
    """The next build finds no lock held, no entry, and builds."""
    assert place.entries() == []
    place.write()
    done = place.build("--json")
    assert done.returncode == 0, done.stderr
    assert [(row["cache"], row["reason"]) for row in json.loads(done.stdout)] == [("miss", "never built")]


def test_ctrl_c(place: ImageWorkspace) -> None:
    """SM-05: exit code 130 and one line; the engine gives up, there is no entry, and the next build works."""
    place.write(SLEEPING)
    with place.building() as process:
        place.await_build()
        process.send_signal(signal.SIGINT)
        assert finish(process) == ("", "staging-manager: interrupted\n")
    assert process.returncode == 130
    place.await_quiet()
    assert_works(place)


def test_kill(place: ImageWorkspace) -> None:
    """SM-05: a killed build leaves no entry and no lock; the engine gives up by itself."""
    place.write(SLEEPING)
    with place.building() as process:
        place.await_build()
        process.kill()
    place.await_quiet()
    assert_works(place)


def test_two_processes_build_once(place: ImageWorkspace) -> None:
    """SM-05: one builds, the other waits, finds the image, and leaves the log of the one that built alone."""
    slow = 'FROM staging-lab/cc:12\nCOPY data /data\nRUN ["cc", "--version"]\n'
    place.write(slow)
    with place.building("--json") as one, place.building("--json") as other:
        rows = [json.loads(finish(process)[0])[0] for process in (one, other)]
    assert sorted(row["cache"] for row in rows) == ["hit", "miss"]
    assert rows[0]["id"] == rows[1]["id"]
    assert len(place.entries()) == 1
    log = (place.images() / "native.log").read_text()
    assert log.count("Step 1/") == log.count("Successfully built") == 1


def test_waiting_changes_nothing(
    place: ImageWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SM-05: while one builds nobody else does; who waits leaves its log alone, and has a deadline."""
    place.write(SLEEPING, build_timeout_s=DEADLINE_S)
    with place.building() as process:
        place.await_build()
        log = place.images() / "native.log"
        wait_for(lambda: "begun" in log.read_text())
        monkeypatch.setattr("pytest_staging.images.cache.LOCK_MARGIN_S", 0.2 - DEADLINE_S)
        assert main(["--root", str(place.root), "build-images", "--target", "docker"]) == 1
        assert "baseline in mode native is being built elsewhere for over 0.2 s" in capsys.readouterr().err
        assert "begun" in log.read_text()
        assert len(place.processes()) == 1
        process.send_signal(signal.SIGINT)
        finish(process)
    place.await_quiet()


def three(place: ImageWorkspace, *dockerfiles: str) -> None:
    """Versions a, b, c."""
    for slug, dockerfile in zip("abc", dockerfiles, strict=True):
        place.write(dockerfile, slug, status="candidate")


def test_jobs(place: ImageWorkspace) -> None:
    """SM-05: rows in the order of the versions; one that fails is reported, and the others are built all the same."""
    three(place, PLAIN, FAILING, PLAIN)
    done = place.build("--jobs", "2", "--json")
    assert done.returncode == 1
    assert [(row["version"], row["reason"]) for row in json.loads(done.stdout)] == [
        ("a", "never built"),
        ("c", "never built"),
    ]
    assert done.stderr.startswith("staging-manager: build of b in mode native: the engine says: ")
    assert "why it failed" in done.stderr
    assert done.stderr.count("staging-manager: ") == 1
    assert [len(place.entries(slug)) for slug in "abc"] == [1, 0, 1]


def test_jobs_run_side_by_side(place: ImageWorkspace) -> None:
    """SM-05: --jobs 2 has two builds under way; a Ctrl-C of the terminal ends them all, and what waits never begins.

    A terminal's Ctrl-C reaches the whole group at once.
    """
    three(place, SLEEPING, SLEEPING, SLEEPING)
    with place.building("--jobs", "2") as process:
        wait_for(lambda: len(place.processes()) == 2, DEADLINE_S)
        listed = ["ps", "-o", "pgid=", "--ppid", str(process.pid)]
        groups = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        started = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        out, error = finish(process)
        assert time.monotonic() - started < STOP_S, "the builds end when they are asked to, and are not killed"
    assert len(groups) == 2
    assert str(process.pid) not in groups, "a second Ctrl-C would break off what the first one cleans up"
    assert (process.returncode, out) == (130, "")
    assert error == "staging-manager: interrupted\n"
    place.await_quiet()
    assert [place.entries(slug) for slug in "abc"] == [[], [], []]
    assert not (place.images("c") / "native.log").exists()


def test_jobs_without_an_engine(place: ImageWorkspace, tmp_path: Path) -> None:
    """SM-05: one clear error and exit code 2, as without --jobs."""
    three(place, PLAIN, PLAIN, PLAIN)
    done = place.build("--jobs", "2", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode == 2
    assert done.stderr.startswith(f"staging-manager: no Docker engine answers at unix://{tmp_path}/none.sock: ")
    assert done.stderr.endswith("Start it (sudo systemctl start docker), or name another with DOCKER_HOST.\n")
    assert done.stderr.count("staging-manager: ") == 1


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_no_number_of_jobs(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-05: refused before anything is looked at."""
    with pytest.raises(SystemExit) as caught:
        main(["build-images", f"--jobs={jobs}"])
    assert caught.value.code == 2
    assert f"'{jobs}' is no number of jobs; write for example 2" in capsys.readouterr().err
