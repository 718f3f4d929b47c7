"""The sample system on a real engine: its three profiles from start to evidence and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockering import Engine
from operating import Place, sample_system
from workspaces import wait_for


@pytest.fixture(scope="module")
def place(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with sample_system(tmp_path_factory.mktemp("sample") / "workspace", engine) as found:
        yield found


def enqueue(place: Place, count: int) -> None:
    url = f"http://127.0.0.1:{place.environment['WORD_STATS_PORT']}/invoke/word-stats-async"
    with httpx.Client(timeout=20, trust_env=False) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(url, json={"text": "one two two"}).status_code, range(count)))
    assert set(answers) == {202}


def newest(place: Place) -> Path:
    return max((place.root / "capacity" / place.project / "evidence").iterdir())


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_three_profiles_from_start_to_evidence_and_back(place: Place, engine: Engine) -> None:
    """CP-04: start, status, evidence and rollback of baseline, observability and scale-out; nothing is left."""
    done = place("start", "baseline", "--build")
    assert done.returncode == 0, done.stdout + done.stderr
    done = place("start", "observability")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place("status", "scale-out").returncode == 3, "its three replicas do not run, and are not core"
    prometheus = f"http://127.0.0.1:{place.environment['PROMETHEUS_PORT']}"

    def dashboard() -> str | None:
        text = httpx.get(f"{prometheus}/consoles/word-stats.html", timeout=20, trust_env=False).text
        return text if "<td>1</td>" in text and "worker" in text else None

    assert "in hand" in wait_for(dashboard, 60), "the provisioned dashboard shows what Prometheus has scraped"
    done = place("start", "scale-out")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(place("status", "scale-out", "--json").stdout)
    assert {one["service"] for one in told["services"]} == {
        "word-stats", "rabbitmq", "worker", "worker-1", "worker-2", "worker-3",
    }  # fmt: skip
    enqueue(place, 300)
    done = place("evidence", "scale-out")
    assert done.returncode == 0, done.stdout + done.stderr
    check_evidence(place, newest(place))
    done = place("rollback", "scale-out")
    assert (done.returncode, "from scale-out to observability" in done.stdout) == (0, True), done.stdout + done.stderr
    assert place("status", "observability").returncode == 0
    assert place("clean", "observability").returncode == 0
    assert place.left(engine) == []


def check_evidence(place: Place, folder: Path) -> None:
    manifest = read(folder, "manifest.json")
    assert (manifest["profile"], manifest["state"], manifest["incomplete"]) == ("scale-out", "healthy", [])
    assert (manifest["complete"], [one.partition(":")[0] for one in manifest["absent"]]) == (False, ["comparison"])
    hashed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == hashed
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    for name, digest in manifest["inputs"].items():
        assert hashlib.sha256((place.root / name).read_bytes()).hexdigest() == digest
    assert set(manifest["inputs"]) == {"deploy/capacity.yaml", "deploy/compose.yaml", "deploy/compose.build.yaml"}
    drained = {one["queue"]: one for one in read(folder, "queue-drain.json")}
    assert set(drained) == {"word-stats", "enrichment"}
    assert all(one["problem"] == "" and one["depths"][-1][1] == 0 for one in drained.values())
    assert read(folder, "readiness.json")["state"] == "healthy"
    way_back = read(folder, "rollback.json")
    assert (way_back["running"]["profile"], way_back["previous"]["profile"]) == ("scale-out", "observability")
    assert manifest["rollback"] == way_back["command"]
    assert way_back["command"][-4:] == ["rollback", "scale-out", "--env", "dev"]
    everything = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "sample-dev" not in everything, "the broker's password"
