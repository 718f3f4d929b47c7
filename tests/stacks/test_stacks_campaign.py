"""A campaign under capacity profiles: the same snapshot under two of them, compared like two versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from dockering import Engine
from operating import Place, sample_system
from running import lease_of, run_campaign
from systems import require_compose
from workspaces import CALM

from pytest_staging.store import Workspace
from pytest_staging.targets.docker import DockerTarget
from pytest_staging.wiring import make_target

PROFILES = "compose:baseline,wide=scale-out"
GIVEN = ("--candidate", "wide", "--runs=1", "--benchmark-path", "benchmark/queue.yaml", "--campaign-id", "two")


@pytest.fixture(scope="module")
def place(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with sample_system(tmp_path_factory.mktemp("campaign") / "workspace", engine) as found:
        root = found.root
        found.environment |= require_compose(2)[1]  # v1 is a Python program, and slow to start
        (root / "pytest.ini").write_text("[pytest]\nstaging_required_modes = native\n")
        path = root / "benchmark" / "queue.yaml"
        data = yaml.safe_load(path.read_text())
        # More than two at a time can take off, however slowly a busy machine publishes; and in a longer window it
        # publishes something, even where it stands still for a second.
        data["load"] |= {"duration_s": 4.0, "rate": 60, "generator_limits": CALM}
        path.write_text(yaml.safe_dump({**data, "platform_modes": ["native"]}, sort_keys=False))
        compose = root / "deploy" / "compose.yaml"
        compose.write_text(compose.read_text().replace("ENRICHMENT_MS:-20", "ENRICHMENT_MS:-100"))
        engine("build", "--quiet", "--tag", found.environment["WORKER_IMAGE"], str(root / "deploy" / "worker"))
        # An image is named by its content: of the sample as it is, another test may run this one, or remove it.
        (root / "versions" / "baseline" / "snapshot" / "of-this-test").write_text(uuid4().hex)
        shutil.copytree(root / "versions" / "baseline", root / "versions" / "wide")
        version = root / "versions" / "wide" / "version.yaml"
        text = (
            version.read_text().replace("slug: baseline", "slug: wide").replace("status: baseline", "status: candidate")
        )
        version.write_text(text)
        yield found
        remove_images(root, engine)


def remove_images(root: Path, engine: Engine) -> None:
    for manifest in root.glob("versions/*/images/manifest.json"):
        for entry in json.loads(manifest.read_text())["images"]:
            if engine("image", "ls", "--quiet", entry["image_ref"]):
                engine("image", "rm", entry["image_ref"])


@contextmanager
def seen(engine: Engine, *arguments: str) -> Iterator[list[str]]:
    """What the engine's events say from before the block to its end, in the list when the block has ended."""
    told: list[str] = []
    listener = subprocess.Popen(
        ["docker", "events", *arguments], env=dict(engine.environment), stdout=subprocess.PIPE, text=True
    )
    try:
        yield told
    finally:
        listener.terminate()
        told.append(listener.communicate(timeout=30)[0])


def run(place: Place, *arguments: str, generation: int = 2) -> Any:
    more = {"RABBITMQ_USER": "sample", "RABBITMQ_PASSWORD": "sample-dev", **require_compose(generation)[1]}
    return run_campaign(place.root, *arguments, env={**place.environment, **more}, timeout_s=590)


def labels(place: Place, campaign: str) -> list[str]:
    """By which an engine finds what a campaign's cells made; another run on this machine may call one the same."""
    ours = (f"campaign={campaign}", f"lease={lease_of(place.root) / 'local.lease'}")
    return [word for one in ours for word in ("--filter", f"label=pytest-staging.{one}")]


def stacks(engine: Engine, place: Place, campaign: str) -> list[str]:
    """What is left of a campaign's cells."""
    ours = labels(place, campaign)
    found = engine("ps", "--all", "--quiet", *ours).split()
    return found + engine("network", "ls", "--quiet", *ours).split()


def test_two_profiles_are_compared_like_two_versions(place: Place, engine: Engine) -> None:
    """CP-06: each cell has a stack of its own under its version's profile; the wider one's queue stays shorter."""
    done = run(place, *GIVEN, "--staging-target", PROFILES)
    folder = place.root / "campaigns" / "two"
    cells = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/*/cell-summary.json")}
    assert {one["outcome"] for one in cells.values()} == {"passed"}, done.stdout
    narrow, wide = cells["baseline__native"], cells["wide__native"]
    assert narrow["metrics"]["queue_depth_end"] > wide["metrics"]["queue_depth_end"]
    assert narrow["metrics"]["queue_drain_time"] > wide["metrics"]["queue_drain_time"]
    assert narrow["artifact"]["id"] == wide["artifact"]["id"] or narrow["artifact"]["ref"] != wide["artifact"]["ref"]
    assert wide["host"]["capacity"]["profiles"] == {"default": "baseline", "wide": "scale-out"}
    campaign = json.loads((folder / "campaign.json").read_text())
    assert campaign["target"] == PROFILES
    assert campaign["versions"]["wide"] == campaign["versions"]["baseline"], "the same snapshot"
    assert set(campaign["target_files"]) == {"deploy/capacity.yaml", "deploy/compose.yaml"}
    assert stacks(engine, place, "two") == []
    compose = place.root / "deploy" / "compose.yaml"
    whole = compose.read_text()
    compose.write_text(whole + "# changed\n")
    refused = run(place, "--staging-resume", "two")
    compose.write_text(whole)
    assert refused.returncode == 2, refused.stdout
    assert "deploy/compose.yaml changed" in refused.stdout
    evidence = place("evidence", "baseline", "--campaign", "two")
    assert "evidence: " in evidence.stdout, evidence.stderr
    found = Path(evidence.stdout.rpartition("evidence: ")[2].strip())
    assert (found / "comparison" / "aggregate-comparison.md").read_text().startswith("#")
    assert evidence.returncode == 1, "nothing of the profile runs"


def test_a_stack_that_does_not_get_ready_fails_its_cell(place: Place, engine: Engine) -> None:
    """CP-06: the reason names the service and how it ended, long before the profile's deadline; nothing is left."""
    compose = place.root / "deploy" / "compose.yaml"
    whole = compose.read_text()
    head, worker, rest = whole.partition("  worker: &worker\n")
    rest = rest.replace("    depends_on:\n      rabbitmq: {condition: service_healthy}\n", "", 1)
    broken = '    entrypoint: [python3, -S, -c, "raise SystemExit(4)"]\n'
    compose.write_text(head + worker + broken + rest)
    given = ("--candidate", "wide", "--runs=1", "--campaign-id", "broken", "--benchmark-path", "benchmark/queue.yaml")
    try:
        done = run(place, *given, "--staging-target", "compose:baseline", "-x")
    finally:
        compose.write_text(whole)
    assert done.returncode == 1
    assert "profile baseline did not get ready: " in done.stdout, done.stdout
    assert "worker: ended with status 4" in done.stdout, done.stdout
    assert stacks(engine, place, "broken") == []
    assert [path.name for path in lease_of(place.root).glob("stack-*")] == []


def test_what_a_killed_campaign_left_is_removed(place: Place, engine: Engine, lease_folder: Path) -> None:
    """CP-06: whoever has the lease next removes containers, networks, volumes and files of the dead one's stack."""
    labels = [part for name, value in DockerTarget().lease_labels().items() for part in ("--label", f"{name}={value}")]
    name = f"staging-test-{uuid4().hex[:8]}"
    engine("create", "--name", name, *labels, "staging-lab/python:3", "python3")
    engine("network", "create", *labels, name)
    engine("volume", "create", *labels, name)
    (lease_folder / "stack-left").mkdir()
    with make_target(Workspace(place.root), "compose:baseline").lease("next", 10):
        assert engine("ps", "--all", "--quiet", "--filter", f"name={name}") == ""
        assert engine("network", "ls", "--quiet", "--filter", f"name={name}") == ""
        assert engine("volume", "ls", "--quiet", "--filter", f"name={name}") == ""
        assert not (lease_folder / "stack-left").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("compose", "there is no profile ''. Known: baseline, observability, scale-out"),
        ("compose:scaleout", "there is no profile 'scaleout'"),
        ("docker:scale-out", "'docker:scale-out' is not known"),
    ],
)
def test_a_wrong_target_is_refused(target: str, words: str, place: Place) -> None:
    """CP-06: exit code 2 and the names that there are."""
    done = run(place, "--candidate", "wide", "--staging-target", target, "--collect-only")
    assert done.returncode == 2, done.stdout
    assert words in done.stdout


def test_a_cell_under_the_profile_that_is_watched(place: Place, engine: Engine) -> None:
    """CP-06: whatever a profile adds belongs to the cell's stack, Prometheus too, and goes with it; with v1 as well."""
    given = ("--candidate", "wide", "--runs=1", "--campaign-id", "watched", "-k", "baseline")
    data = yaml.safe_load((place.root / "benchmark" / "queue.yaml").read_text())
    data["load"]["rate"] = 10  # so that the queue need not be waited for
    (place.root / "benchmark" / "watched.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    ours = ("label=com.docker.compose.service=prometheus", "event=start")
    # Listened to while it happens: an engine remembers only its last 256 events, and other tests make some too.
    filters = [*labels(place, "watched"), *(part for one in ours for part in ("--filter", one))]
    with seen(engine, "--since", f"{time.time() - 1:.0f}", *filters) as told:
        target = ("--benchmark-path", "benchmark/watched.yaml", "--staging-target", "compose:observability")
        done = run(place, *given, *target, generation=1)
    (path,) = (place.root / "campaigns" / "watched").glob("runs/*/*/cell-summary.json")
    cell = json.loads(path.read_text())
    assert cell["outcome"] == "passed", done.stdout
    assert cell["host"]["capacity"]["profiles"] == {"default": "observability"}
    assert "prometheus" in "".join(told), "it was there"
    assert stacks(engine, place, "watched") == []
