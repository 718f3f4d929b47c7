"""The sample's worker with a real broker: how much it has in hand follows what limits.parallelism says, at once."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from dockering import Engine
from systems import ROOT
from workspaces import free_port, wait_for

LOGIN = ("worker", "secret")
PUBLISH = {"properties": {}, "routing_key": "enrichment", "payload": "{}", "payload_encoding": "string"}


@dataclass
class Work:
    """A worker whose limit is what stands in a file."""

    limit: Path
    worker: str
    api: str

    def in_hand(self) -> int:
        text = httpx.get(f"{self.worker}/metrics", timeout=20, trust_env=False).text
        return int(re.findall(r'worker_tasks_active\{class="enrichment"\} (\d+)', text)[0])

    def publish(self, count: int) -> None:
        url = f"{self.api}/api/exchanges/%2f/amq.default/publish"
        with httpx.Client(auth=LOGIN, timeout=20, trust_env=False) as client:
            for _ in range(count):
                assert client.post(url, json=PUBLISH).json()["routed"]


@pytest.fixture
def work(engine: Engine, tmp_path: Path) -> Iterator[Work]:
    name = f"staging-test-{uuid4().hex[:8]}"
    ports = [str(free_port()), str(free_port())]
    for file in (ROOT / "deploy" / "worker").glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "limits.py").write_text("def parallelism(name): return int(open('/app/limit').read() or 1)\n")
    (tmp_path / "limit").write_text("1")
    engine("network", "create", name)
    try:
        login = ["-e", f"STAGING_RABBITMQ_USER={LOGIN[0]}", "-e", f"STAGING_RABBITMQ_PASSWORD={LOGIN[1]}"]
        where = ["--network", name, "--network-alias", "broker", "-p", f"127.0.0.1:{ports[0]}:15672"]
        engine("run", "-d", "--name", f"{name}-broker", *where, *login, "staging-lab/rabbitmq:3")
        login = ["-e", "AMQP_HOST=broker", "-e", f"AMQP_USER={LOGIN[0]}", "-e", f"AMQP_PASSWORD={LOGIN[1]}"]
        where = ["--network", name, "-p", f"127.0.0.1:{ports[1]}:9100", "-v", f"{tmp_path}:/app:ro"]
        program = ["-e", "ENRICHMENT_MS=500", "staging-lab/python:3", "python3", "/app/worker.py"]
        engine("run", "-d", "--name", f"{name}-worker", *where, *login, *program)
        found = Work(tmp_path / "limit", f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[0]}")

        def connected() -> bool:
            try:
                return httpx.get(f"{found.worker}/healthz", timeout=5, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(connected, 90)
        yield found
    finally:
        engine("rm", "--force", "--volumes", f"{name}-worker", f"{name}-broker")
        engine("network", "rm", name)


def test_what_a_worker_has_in_hand_follows_its_limit(work: Work) -> None:
    """CP-06: more when the limit grows, less when it shrinks, without a restart; the broker it waited for came late."""
    work.publish(150)
    assert wait_for(lambda: work.in_hand() == 1, 30)
    work.limit.write_text("8")
    assert wait_for(lambda: work.in_hand() == 8, 30)
    work.limit.write_text("2")
    assert wait_for(lambda: work.in_hand() == 2, 30)
