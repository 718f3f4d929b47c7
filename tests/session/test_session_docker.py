"""The demo's campaign in containers of a real engine: every version and mode, from the repository's own workspace."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from running import (
    DEADLINE_S,
    NO_PAGE,
    QUICK,
    QUICK_LOAD,
    await_phase,
    await_that,
    environment,
    folder_of,
    lease_of,
    read_aggregate,
    read_summaries,
    run_campaign,
    started_campaign,
)
from workspaces import CALM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

from dockering import Engine, start_engine  # noqa: E402

DOCKER = ("--staging-target", "docker", "--candidate", "nodelay")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return start_engine()


@pytest.fixture(scope="module")
def sample(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the sample workspace with a second of load per cell; its images go away with it."""
    root = tmp_path_factory.mktemp("docker") / "workspace"
    for name in ("versions", "benchmark"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("images", ".lock"))
    (root / "pytest.ini").write_text(NO_PAGE)
    shorten_load(root)
    yield root
    for manifest in root.glob("versions/*/images/manifest.json"):
        for entry in json.loads(manifest.read_text())["images"]:
            if engine("image", "ls", "--quiet", entry["image_ref"]):
                engine("image", "rm", entry["image_ref"])


def shorten_load(root: Path) -> None:
    """A second of load per cell, by a program that takes little of the CPUs that the containers need."""
    load = {"warm_up_s": 0.3, "duration_s": 0.7, "generator_limits": CALM}
    change_benchmark(root, load={**load, **QUICK, "tool_version": ">=1"})
    shutil.copy(QUICK_LOAD, root / "benchmark")


def change_benchmark(root: Path, **changes: dict[str, object]) -> None:
    path = root / "benchmark" / "benchmark.yaml"
    data = yaml.safe_load(path.read_text())
    for key, values in changes.items():
        data[key] = {**data.get(key, {}), **values}
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def manage(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_staging", *arguments]
    return subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=300)


def containers_of(engine: Engine, root: Path) -> list[str]:
    """Every container that a campaign of this workspace made and that is still there."""
    lease = f"label=pytest-staging.lease={lease_of(root) / 'local.lease'}"
    return engine("ps", "--all", "--quiet", "--filter", lease).split()


@pytest.fixture(scope="module")
def campaign(sample: Path) -> Path:
    done = run_campaign(sample, *DOCKER, "--runs=2")
    assert done.returncode == 0, done.stdout
    assert "docker" in done.stdout
    return sample


def test_the_demo_runs_in_containers(engine: Engine, campaign: Path) -> None:
    """SM-05, SM-07: every cell ran the image that the manifest and the engine itself name, by its id."""
    cells = read_summaries(campaign)
    assert len(cells) == 8
    assert {cell["outcome"] for cell in cells.values()} == {"passed"}
    for cell in cells.values():
        folder = campaign / "versions" / cell["version_slug"] / "images"
        entries = json.loads((folder / "manifest.json").read_text())["images"]
        entry = next(one for one in entries if one["mode"] == cell["platform_mode"])
        assert cell["artifact"]["id"] == entry["image_id"] == engine.inspect("image", entry["image_ref"])["Id"]
        assert cell["host"]["engine"] == f"Docker {engine.version}"
        assert cell["metrics"]["heap_peak"] > 0
    assert read_aggregate(campaign)["complete"]


def test_a_version_is_built_once(campaign: Path) -> None:
    """SM-05: the second run found what the first had built."""
    logs = sorted(path.parent.name for path in folder_of(campaign).glob("runs/*/*/build.log"))
    assert logs == ["baseline__jvm", "baseline__native", "nodelay__jvm", "nodelay__native"]


def test_nothing_is_left(engine: Engine, campaign: Path) -> None:
    """SM-07: no container stays when the campaign is over."""
    assert containers_of(engine, campaign) == []


def test_workers_share_engine_and_images(engine: Engine, campaign: Path) -> None:
    """PT-04: with -n 2 the cells run one after another in containers, from the images that are there."""
    done = run_campaign(campaign, *DOCKER, "-n", "2", campaign_id="workers")
    assert done.returncode == 0, done.stdout
    cells = list(read_summaries(campaign, "workers").values())
    assert [cell["outcome"] for cell in cells] == ["passed"] * 4
    assert all(one["finished_at"] <= other["started_at"] for one, other in itertools.pairwise(cells))
    assert list(folder_of(campaign, "workers").glob("runs/*/*/build.log")) == []
    assert containers_of(engine, campaign) == []


def test_promotion_asks_the_engine(engine: Engine, campaign: Path) -> None:
    """SM-09: evidence holds only while the images that were measured are still what would run."""
    asking = ("promote", "--candidate", "nodelay", "--campaign-id", "c", "--dry-run")
    assert "the build of" not in manage(campaign, *asking).stderr
    entries = json.loads((campaign / "versions" / "nodelay" / "images" / "manifest.json").read_text())["images"]
    ref, old = next((one["image_ref"], one["image_id"]) for one in entries if one["mode"] == "native")
    engine("tag", "staging-lab/jre:17", ref)
    try:
        refused = manage(campaign, *asking)
    finally:
        engine("tag", old, ref)
    assert refused.returncode == 1
    assert "the build of nodelay in mode native" in refused.stderr


def test_an_interrupt_leaves_no_container(engine: Engine, campaign: Path) -> None:
    """SM-07: Ctrl-C in the middle of the load ends the container too."""
    text = (campaign / "benchmark" / "benchmark.yaml").read_text()
    # Nobody waits for its end.
    (campaign / "benchmark" / "long.yaml").write_text(text.replace("duration_s: 0.7", "duration_s: 60"))
    given = (*DOCKER, "--benchmark-path", "benchmark/long.yaml")
    with started_campaign(campaign, *given, campaign_id="interrupted") as process:
        await_phase(campaign, process, "baseline", "load", "interrupted")
        assert len(containers_of(engine, campaign)) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 2
    assert containers_of(engine, campaign) == []


def test_a_killed_campaign_is_cleaned_up_by_the_next(engine: Engine, campaign: Path) -> None:
    """SM-07: nobody can clean up after `kill -9`, so the next campaign on the host does, by label."""
    with started_campaign(campaign, *DOCKER, campaign_id="killed") as process:
        await_that(lambda: containers_of(engine, campaign), "a container")
        process.kill()
        process.wait(DEADLINE_S)
    left = containers_of(engine, campaign)
    assert len(left) == 1
    done = run_campaign(campaign, *DOCKER, "--staging-resume", "killed", campaign_id="killed")
    assert done.returncode == 0, done.stdout
    assert containers_of(engine, campaign) == []
    assert [one["outcome"] for one in read_summaries(campaign, "killed").values()] == ["passed"] * 4


def test_too_little_memory(engine: Engine, sample: Path, tmp_path: Path) -> None:
    """SM-07: a container that the kernel killed for its memory fails its cell, which says so; it can be kept."""
    root = tmp_path / "workspace"
    shutil.copytree(sample, root, ignore=shutil.ignore_patterns("campaigns"))
    change_benchmark(root, containers={"cpus": 1, "memory_mb": 20})
    done = run_campaign(root, *DOCKER, "--staging-keep-failed", "-k", "jvm-baseline")
    assert done.returncode == 1
    (cell,) = read_summaries(root).values()
    assert "it needed more than its memory limit of 20 MiB" in cell["reason"]
    assert "it needed more than its memory limit of 20 MiB" in done.stdout


def test_without_an_engine(sample: Path) -> None:
    """SM-07: one clear line that says how to start it, exit code 2, and no campaign folder."""
    done = run_campaign(sample, *DOCKER, campaign_id="none", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert done.returncode == 2
    assert "no Docker engine answers at unix:///nowhere/docker.sock" in done.stdout
    assert "systemctl start docker" in done.stdout
    assert "Traceback" not in done.stdout
    assert not folder_of(sample, "none").exists()


def test_a_mode_without_an_image(sample: Path, tmp_path: Path) -> None:
    """SM-07: a version that cannot run on this target is refused before anything is built."""
    root = tmp_path / "workspace"
    shutil.copytree(sample, root, ignore=shutil.ignore_patterns("campaigns", "images"))
    path = root / "versions" / "nodelay" / "snapshot" / "service.yaml"
    path.write_text(path.read_text().replace("    image: {dockerfile: Dockerfile.native, port: 8080}\n", ""))
    done = run_campaign(root, *DOCKER)
    assert "mode 'native' has no image, which the target docker needs" in done.stdout
    assert list(root.glob("versions/*/images/*")) == []


DEPLOY = """#!/bin/sh
set -e
port=$STAGING_SERVICE_PORT
docker run -d --label "campaign=$STAGING_CAMPAIGN" --name "$NAMESPACE" -p "127.0.0.1::$port" \\
  -e STAGING_HOST=0.0.0.0 -e "STAGING_PORT=$port" -e "STAGING_MODE=$STAGING_MODE" "$STAGING_IMAGE_ID" >&2
echo "url=http://$(docker port "$NAMESPACE" "$port" | head -n 1)"
"""
DESTROY = """#!/bin/sh
docker rm -f -v "$NAMESPACE" >&2 || ! docker inspect "$NAMESPACE" >/dev/null 2>&1
"""


def test_scripts_of_the_users(sample: Path, engine: Engine) -> None:
    """SM-06: the target `script` measures what any pair of deploy and destroy programs puts up, and leaves nothing."""
    folder = sample / "deploy"
    folder.mkdir()
    for name, text in {"up": DEPLOY, "down": DESTROY}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = folder / "script-target.yaml"
    path.write_text("deploy: [deploy/up]\ndestroy: [deploy/down]\nlog: [sh, -c, 'docker logs $NAMESPACE 2>&1']\n")
    script = ("--staging-target", "script", "--candidate", "nodelay")
    result = run_campaign(sample, *script, campaign_id="scripted", env=engine.environment)
    assert result.returncode in (0, 1), result.stdout
    summaries = read_summaries(sample, "scripted")
    assert [one["reason"] for one in summaries.values() if one["outcome"] != "passed"] == []
    assert len(summaries) == 4
    assert engine("ps", "--all", "--quiet", "--filter", "label=campaign=scripted") == ""
    path.write_text("deploy: [deploy/upp]\ndestroy: [deploy/down]\n")
    result = run_campaign(sample, *script, campaign_id="typo", env=engine.environment)
    assert result.returncode == 2
    assert "deploy/upp is no program" in result.stdout
