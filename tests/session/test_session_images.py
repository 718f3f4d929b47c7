"""Images in pytest sessions: the fixture `staging_images` in ordinary tests, and builds that a campaign forces."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from running import NO_PAGE, make_small, read_summaries, run_campaign, run_pytest
from workspaces import make_version

from pytest_staging.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))

from image_workspaces import ImageWorkspace, find_engine, image_workspace

COUNTING = ["sh", "-c", "echo $STAGING_VERSION $STAGING_MODE >> $COUNT; cp service.py {artifact}/"]
USING = """
import json, os
import pytest

def note(image, worker):
    path = None if image.path is None else str(image.path)
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps({"id": image.id, "ref": image.ref, "path": path, "worker": worker}) + "\\n")

@pytest.mark.parametrize("number", range(2))
def test_uses_it(staging_images, number):
    image = staging_images("baseline", "native"TARGET)
    note(image, os.environ.get("PYTEST_XDIST_WORKER", ""))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageWorkspace]:
    with image_workspace(tmp_path / "workspace", find_engine(), monkeypatch) as found:
        yield found


def write_project(root: Path, target: str = "") -> None:
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_project.py").write_text(USING.replace("TARGET", target))


def counting(root: Path) -> Path:
    """A workspace for campaigns whose versions note each build in the file that COUNT names."""
    make_small(root, modes=("jvm", "native"), ini=NO_PAGE)
    make_version(root, "baseline", "baseline", build=[COUNTING])
    make_version(root, "faster", "candidate", build=[COUNTING])
    return root


def built(count: Path) -> list[str]:
    return sorted(count.read_text().splitlines()) if count.exists() else []


EVERY = ["baseline jvm", "baseline native", "faster jvm", "faster native"]


def test_an_image_in_an_ordinary_test(place: ImageWorkspace, tmp_path: Path) -> None:
    """PT-02: an id that the engine knows; two workers build it once and get the same."""
    place.write()
    write_project(place.root)
    notes = tmp_path / "notes"
    done = run_pytest(place.root, "-n", "2", env={"NOTES": str(notes)})
    assert done.returncode == 0, done.stdout
    images = [json.loads(line) for line in notes.read_text().splitlines()]
    assert {one["worker"] for one in images} == {"gw0", "gw1"}
    (found,) = {one["id"] for one in images}
    assert place.engine.inspect("image", images[0]["ref"])["Id"] == found
    assert images[0]["path"] is None
    assert [entry["image_id"] for entry in place.entries()] == [found]
    assert (place.images() / "native.log").read_text().count("Step 1/") == 1


def test_files_in_an_ordinary_test(tmp_path: Path) -> None:
    """PT-02: target="local" gives a folder of built files; two workers build once, and a later session not at all."""
    root = counting(tmp_path / "workspace")
    write_project(root, target=', target="local"')
    notes, count = tmp_path / "notes", tmp_path / "count"
    for workers in ("2", "0"):
        done = run_pytest(root, "-n", workers, env={"NOTES": str(notes), "COUNT": str(count)})
        assert done.returncode == 0, done.stdout
        assert built(count) == ["baseline native"]
    images = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(images) == 4
    (path,) = {one["path"] for one in images}
    assert Path(path) == root / "versions" / images[0]["ref"]
    assert (Path(path) / "service.py").exists()
    assert list((root / "campaigns").iterdir()) == []


def test_the_target_of_the_command_line(tmp_path: Path) -> None:
    """PT-02: --staging-target is the fixture's too."""
    root = counting(tmp_path / "workspace")
    write_project(root)
    count = tmp_path / "count"
    done = run_pytest(root, "--staging-target=local", env={"NOTES": str(tmp_path / "notes"), "COUNT": str(count)})
    assert done.returncode == 0, done.stdout
    assert built(count) == ["baseline native"]


WRONG = {
    "mode": (
        '"baseline", "nativ", "local"',
        "UsageProblem: staging_images: version 'baseline' has no mode 'nativ'; it",
    ),
    "version": ('"basline", "native", "local"', "there is no version 'basline'"),
    "target": ('"baseline", "native", "lokal"', "'lokal' is not known. Did you mean 'local'?"),
    "hosts": ('"baseline", "native", "ssh"', "UsageProblem: staging_images: target ssh: each host builds its own"),
    "engine": ('"baseline", "native"', "EngineMissing: no Docker engine answers at unix:///none.sock"),
    "build": ('"faster", "native", "local"', "BuildFailed: build of faster in mode native: false ended with status 1"),
}


def test_no_image_to_be_had(tmp_path: Path) -> None:
    """PT-02: each test fails with one sentence that says why."""
    root = counting(tmp_path / "workspace")
    (root / "pytest.ini").write_text("[pytest]\n")
    make_version(root, "faster", "candidate", build=[["false"]])
    image = {"runtime": "native", "image": {"dockerfile": "Dockerfile"}, "start": ["true"]}
    (root / "versions/baseline/snapshot/Dockerfile").write_text("FROM scratch\n")
    service = {"functions": ["echo"], "modes": {"native": image}}
    (root / "versions/baseline/snapshot/service.yaml").write_text(json.dumps(service))
    tests = [f"def test_{name}(staging_images):\n    staging_images({given})\n" for name, (given, _) in WRONG.items()]
    (root / "test_project.py").write_text("\n".join(tests))
    done = run_pytest(root, "--tb=short", env={"DOCKER_HOST": "unix:///none.sock", "DOCKER_BUILDKIT": "0"})
    assert f"{len(WRONG)} failed" in done.stdout
    for _, said in WRONG.values():
        assert said in done.stdout


def test_forced_builds_of_a_campaign(tmp_path: Path) -> None:
    """SM-05: each version and mode is built exactly once, before the first cell; a resumed campaign cannot do that."""
    root = counting(tmp_path / "workspace")
    count = tmp_path / "count"
    done = run_campaign(root, "--force-rebuild-images", env={"COUNT": str(count)})
    assert done.returncode == 0, done.stdout
    assert built(count) == EVERY
    folder = root / "campaigns/c"
    logs = sorted((folder / "builds").iterdir())
    assert [log.name for log in logs] == [f"{one.replace(' ', '__')}.log" for one in EVERY]
    first = min(datetime.fromisoformat(one["started_at"]) for one in read_summaries(root).values())
    assert max(log.stat().st_mtime for log in logs) <= first.timestamp() + 1  # it may be in whole seconds
    assert list(folder.glob("runs/*/*/build.log")) == [], "a cell builds nothing any more"
    for option in ("--force-rebuild-images", "--force-rebuild-mode=jvm"):
        done = run_pytest(root, "--staging-campaign", "--staging-resume=c", option, env={"COUNT": str(count)})
        assert done.returncode == 2, done.stdout
        assert "--force-rebuild-* does not go with --staging-resume" in done.stdout
    assert built(count) == EVERY


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_what_would_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]) -> None:
    """SM-05: --staging-build-dry-run says what would be built and why, and runs nothing."""
    root = counting(tmp_path / "workspace")
    monkeypatch.setenv("COUNT", str(tmp_path / "before"))
    assert main(["--root", str(root), "build-images", "--slug", "baseline"]) == 0
    count = tmp_path / "count"
    given = ("--staging-build-dry-run", "--force-rebuild-mode=jvm", *workers)
    done = run_campaign(root, *given, env={"COUNT": str(count)})
    assert done.returncode == 0, done.stdout
    said = done.stdout.partition("= builds =")[2]
    assert re.findall(r"^(\w+ \w+): (hit|miss) \((.*)\), (.*)$", said, re.MULTILINE) == [
        ("baseline jvm", "miss", "forced", "to be built"),
        ("baseline native", "hit", "fingerprints match", "nothing to build"),
        ("faster jvm", "miss", "forced", "to be built"),
        ("faster native", "miss", "never built", "to be built"),
    ]
    assert built(count) == []
    assert list((root / "campaigns").iterdir()) == []


def test_one_forced_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: --force-rebuild-mode builds that mode alone, once however often it is named; the other is found."""
    root = counting(tmp_path / "workspace")
    before, count = tmp_path / "before", tmp_path / "count"
    monkeypatch.setenv("COUNT", str(before))
    assert main(["--root", str(root), "build-images"]) == 0
    assert built(before) == EVERY
    done = run_campaign(root, *["--force-rebuild-mode=jvm"] * 2, "-n", "2", env={"COUNT": str(count)})
    assert done.returncode == 0, done.stdout
    assert built(count) == ["baseline jvm", "faster jvm"]


def test_a_forced_build_that_fails(tmp_path: Path) -> None:
    """SM-05: the campaign ends before its first cell, and names the log."""
    root = counting(tmp_path / "workspace")
    make_version(root, "faster", "candidate", build=[["false"]])
    done = run_campaign(root, "--force-rebuild-mode=native", env={"COUNT": str(tmp_path / "count")})
    assert done.returncode not in (0, 5), done.stdout
    assert "build of faster in mode native: false ended with status 1" in done.stdout
    assert "Traceback" not in done.stdout
    assert list((root / "campaigns/c").glob("runs/*/*/cell-summary.json")) == []


def test_a_mode_that_cannot_be_forced(tmp_path: Path) -> None:
    """SM-05: exit code 2, the known modes are named, and nothing is built."""
    root = counting(tmp_path / "workspace")
    count = tmp_path / "count"
    done = run_campaign(root, "--force-rebuild-mode=nativ", env={"COUNT": str(count)})
    assert done.returncode == 2, done.stdout
    assert "--force-rebuild-mode nativ: the benchmark has jvm, native." in done.stdout
    assert built(count) == []
