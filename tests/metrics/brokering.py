"""A real RabbitMQ of the tests' own, and a fake of its management API for what a real one does not do on demand."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from workspaces import give_up

SCRIPT = Path(__file__).parents[2] / "scripts" / "lab" / "rabbitmq.sh"
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
USER, PASSWORD = "tester", f"secret-{uuid.uuid4().hex}"
ENVIRONMENT = {"QUEUE_USER": USER, "QUEUE_PASSWORD": PASSWORD}


@dataclass(frozen=True)
class Broker:
    """Its management API. Messages come and go through that as well: slow, and no other program is needed.

    `environment` is what scripts/lab/rabbitmq.sh was started with.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/", auth=(USER, PASSWORD), timeout=20, trust_env=False)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with self.client() as client:
            answer = client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    @contextmanager
    def queue(self) -> Iterator[str]:
        name = f"orders/{uuid.uuid4().hex[:8]}"
        self.call("PUT", f"queues/%2f/{name.replace('/', '%2F')}", {"durable": False})
        try:
            yield name
        finally:
            self.call("DELETE", f"queues/%2f/{name.replace('/', '%2F')}")

    def publish(self, queue: str, count: int) -> None:
        message = {"properties": {}, "routing_key": queue, "payload": "x", "payload_encoding": "string"}
        with self.client() as client:
            for _ in range(count):
                assert client.post("exchanges/%2f/amq.default/publish", json=message).json()["routed"]

    def depth(self, queue: str) -> int:
        """As the broker tells it, some moments late."""
        told = self.call("GET", "queues/%2f?disable_stats=true&enable_queue_totals=true")
        return next(int(one.get("messages", 0)) for one in told if one["name"] == queue)

    def take(self, queue: str, count: int) -> int:
        """Takes at most so many messages for good; says how many there were."""
        wanted = {"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"}
        return len(self.call("POST", f"queues/%2f/{queue.replace('/', '%2F')}/get", wanted))


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Skips when RabbitMQ is not installed."""
    if not SERVER.exists():
        give_up("RabbitMQ is not installed; scripts/lab/rabbitmq.sh installs and starts it")
    port = free_ports()
    environment = {**os.environ, "STAGING_RABBITMQ_FOLDER": str(folder), "STAGING_RABBITMQ_PORT": str(port + 5),
                   "STAGING_RABBITMQ_API_PORT": str(port), "STAGING_RABBITMQ_USER": USER,
                   "STAGING_RABBITMQ_PASSWORD": PASSWORD, "STAGING_RABBITMQ_TIMEOUT_S": "200"}  # fmt: skip
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=240)
    try:
        if done.returncode:
            give_up(f"RabbitMQ cannot be started: {done.stderr[-500:]}")
        yield Broker(done.stdout.split()[1], environment)
    finally:
        subprocess.run([SCRIPT, "stop"], env=environment, capture_output=True, timeout=240, check=True)


def free_ports() -> int:
    """The first of ten ports that nobody has: others of this machine may have chosen some too."""
    while True:
        port = random.randrange(26000, 32000, 10)
        with ExitStack() as taken, suppress(OSError):
            for number in range(port, port + 10):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port


class Consumer(threading.Thread):
    """Takes `batch` messages every `pause_s`, from `go` on, until the queue is empty."""

    def __init__(self, broker: Broker, queue: str, batch: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._broker, self._queue, self._batch, self._pause_s = broker, queue, batch, pause_s
        # The last messages were taken between these two.
        self.go, self.asked_s, self.emptied_s = threading.Event(), 0.0, 0.0

    def run(self) -> None:
        self.go.wait(60)
        while True:
            asked_s = time.monotonic()
            if not self._broker.take(self._queue, self._batch):
                return
            self.asked_s, self.emptied_s = asked_s, time.monotonic()
            threading.Event().wait(self._pause_s)


def answer(depth: int, **more: Any) -> str:
    """What the API says about the queue `orders` when it has that depth."""
    counts = {"messages": depth, "messages_ready": depth, "messages_unacknowledged": 0}
    return json.dumps({"items": [{"name": "orders", **counts, **more}], "page": 1})
