"""The real program serving a policy, as a user starts it; and a fake of a broker's management API that obeys."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from policies import policy_data
from workspaces import wait_for

from pytest_staging.cli import main

PROGRAM = (sys.executable, "-m", "pytest_staging", "--root")
BASE = "/workflows/throughput-policy"
LOGIN = {"POLICY_USER": "operator", "POLICY_PASSWORD": "secret-of-the-broker"}


class FakeBroker:
    """Tells `depths` of queues at the path of RabbitMQ's list of queues; `how` makes it sick: status, delay."""

    def __init__(self) -> None:
        self.depths: dict[str, int] = {"jobs.quick": 0, "jobs.heavy": 0}
        self.status, self.delay_s, self.asked = 200, 0.0, 0
        self._ended = threading.Event()
        broker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                broker.asked += 1
                broker._ended.wait(broker.delay_s)
                items = [{"name": name, "messages": depth} for name, depth in broker.depths.items()]
                body = json.dumps({"items": items, "page": 1}).encode()
                self.send_response(broker.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a poller that gave up on a slow answer

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def fake_broker() -> Iterator[FakeBroker]:
    broker = FakeBroker()
    try:
        yield broker
    finally:
        broker.close()


@dataclass
class Served:
    """A running `staging-manager policy serve`."""

    process: subprocess.Popen[str]
    url: str
    root: Path
    token: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def client(self, token: str | None = None, **more: Any) -> httpx.Client:
        token = token or self.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False, **more)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with self.client() as client:
            answer = client.request(method, f"{BASE}/{path}", json=body)
            answer.raise_for_status()
            return answer.json()

    def status(self) -> dict[str, Any]:
        return self.call("GET", "status")

    def policy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, "STAGING_POLICY_API": self.url}
        return manager(self.root, "policy", *arguments, environment=environment)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def manager(
    root: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **(environment or {})}
    return subprocess.run([*PROGRAM, str(root), *arguments], env=env, capture_output=True, text=True, timeout=120)


def manager_here(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same program in this process, many times as fast."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            code = main(["--root", str(root), *arguments])
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def quick_policy(url: str, max_age_s: float = 10.0, **changes: Any) -> dict[str, Any]:
    """Windows of a second or less. A reading holds for much longer: a busy machine may not poll for a second or two."""
    quick = {
        "pressure": {"sustained_s": 0.6, "cooldown_s": 0.8},
        "telemetry": {"url": url, "interval_s": 0.1, "timeout_s": 0.5, "max_age_s": max_age_s},
    }
    return policy_data(**{**quick, **changes})


@contextmanager
def served(
    root: Path, policy: Mapping[str, Any], arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Writes the policy and serves it on a free port; killed at the end."""
    path = root / "deploy" / "throughput.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(policy))
    command = [*PROGRAM, str(root), "policy", "serve", "--port", "0", *arguments]
    log = root / "serve.log"
    env = {**os.environ, **LOGIN, **(environment or {})}
    with log.open("a") as errors:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("serving http"), log.read_text()
        yield Served(process, line.split()[1], root)
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout
        process.stdout.close()


def refused(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What `policy serve` says when it does not start; exit 2."""
    done = manager(root, "policy", "serve", "--port", "0", *arguments, environment={**LOGIN, **(environment or {})})
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stdout
    return done.stderr


def active(served: Served) -> dict[str, Any]:
    """The status, once the policy is active and not in its fail-safe."""
    return wait_for(lambda: (lambda s: s if s["policy_active"] and not s["fail_safe"] else None)(served.status()))


def calm(served: Served) -> dict[str, Any]:
    """The status, once no policy is active."""
    return wait_for(lambda: (lambda s: None if s["policy_active"] else s)(served.status()))
