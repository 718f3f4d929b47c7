"""The sample's function that puts work into a queue, with a real RabbitMQ."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from workspaces import give_up, wait_for

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "metrics"))

from brokering import PASSWORD, USER, Broker, running_broker  # noqa: E402
from test_service import free_port  # noqa: E402

VERSIONS = ("baseline", "nodelay", "eager-buffers")
TEXT = {"text": "one two, two " + "x" * 1000}
Program = tuple[list[str], Path]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("rabbitmq")) as found:
        yield found


@pytest.fixture(scope="module", params=["jvm", "native"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The baseline's program, built as its service.yaml says; the other versions have the same lines."""
    mode = request.param
    snapshot = ROOT / "versions" / "baseline" / "snapshot"
    artifact = tmp_path_factory.mktemp(mode)
    spec = yaml.safe_load((snapshot / "service.yaml").read_text())["modes"][mode]
    filled = [[part.replace("{artifact}", str(artifact)) for part in line] for line in (*spec["build"], spec["start"])]
    for command in filled[:-1]:
        try:
            subprocess.run(command, cwd=snapshot, check=True, capture_output=True, timeout=120)
        except FileNotFoundError:
            give_up(f"the sample service needs {command[0]}, which is not on PATH")
    return filled[-1], artifact


@contextmanager
def running(program: Program, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    port = free_port()
    own = {"PATH": os.environ["PATH"], "STAGING_HOST": "127.0.0.1", "STAGING_PORT": str(port), **environment}
    process = subprocess.Popen(program[0], env=own, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:

            def answers() -> bool:
                try:
                    return client.get("/healthz").status_code == 200
                except httpx.HTTPError:
                    return False

            wait_for(answers, 60)
            yield client
    finally:
        process.kill()
        process.wait(20)


def settings(broker: Broker, queue: str) -> dict[str, str]:
    return {
        "STAGING_BROKER_API": broker.url,
        "STAGING_BROKER_USER": USER,
        "STAGING_BROKER_PASSWORD": PASSWORD,
        "STAGING_BROKER_QUEUE": queue,
    }


def test_a_task_is_queued_as_it_came(program: Program, broker: Broker) -> None:
    """CP-06: 202, and the body is in the queue byte for byte, whatever its length; the metrics count it."""
    with broker.queue() as queue, running(program, settings(broker, queue)) as client:
        bodies = [json.dumps({"text": "é" * length}, ensure_ascii=False).encode() for length in (0, 1, 2, 3, 50_000)]
        for body in bodies:
            answer = client.post("/invoke/word-stats-async", content=body)
            assert (answer.status_code, answer.json()) == (202, {"queued": True})
        path = f"queues/%2f/{queue.replace('/', '%2F')}/get"
        found = broker.call("POST", path, {"count": 9, "ackmode": "ack_requeue_false", "encoding": "base64"})
        assert [base64.b64decode(one["payload"]) for one in found] == bodies
        counted = '_count{outcome="SUCCESS",status="202",uri="/invoke/word-stats-async"} 5\n'
        assert counted in client.get("/metrics").text
        assert client.post("/invoke/word-stats-async", content=b'{"text": 1}').status_code == 400
        assert client.get("/invoke/word-stats-async").status_code == 405


def test_without_a_broker_it_is_not_available(program: Program, broker: Broker) -> None:
    """CP-06: 503 when no broker is named, none answers, its password is wrong, or nobody has the queue."""
    with running(program, {}) as client:
        answer = client.post("/invoke/word-stats-async", json=TEXT)
        assert (answer.status_code, "STAGING_BROKER_API is not set" in answer.text) == (503, True)
        assert client.post("/invoke/word-stats", json=TEXT).status_code == 200
    wrong = [
        {**settings(broker, "nobody"), "STAGING_BROKER_API": "http://127.0.0.1:9"},
        {**settings(broker, "nobody"), "STAGING_BROKER_PASSWORD": "wrong"},
        settings(broker, "nobody"),
    ]
    for environment in wrong:
        with running(program, environment) as client:
            answer = client.post("/invoke/word-stats-async", json=TEXT)
            assert (answer.status_code, "the broker did not take it" in answer.text) == (503, True)


def test_the_default_benchmark_does_not_use_it() -> None:
    """CP-06: whoever has no broker measures as before."""
    data = yaml.safe_load((ROOT / "benchmark" / "benchmark.yaml").read_text())
    assert "word-stats-async" not in data["payloads"]


@pytest.mark.parametrize(
    ("file", "first", "last"),
    [
        ("native/service.c", "/* Asking somebody", "/* HTTP. */"),
        ("java/Service.java", "private static Reply enqueue", "private static Reply collatz"),
    ],
)
def test_every_version_has_the_same_lines_of_it(file: str, first: str, last: str) -> None:
    """CP-06: a version's difference from its parent is what its hypothesis says, and not this."""
    texts = [(ROOT / "versions" / slug / "snapshot" / file).read_text() for slug in VERSIONS]
    parts = {text[text.index(first) : text.index(last, text.index(first))] for text in texts}
    assert len(parts) == 1
