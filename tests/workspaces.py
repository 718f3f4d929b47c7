"""Small real workspaces for tests: the service is a Python program, so that a cell takes a second."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import yaml

T = TypeVar("T")

CALM = {"cpu_share": 1000.0, "wait_share": 1000.0}
SERVICE = textwrap.dedent(
    """
    import http.server, json, os, signal, socketserver, sys, time
    DELAY_S = 0.0
    JVM = os.environ["STAGING_MODE"] == "jvm"
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        def do_GET(self):
            if self.path == "/metrics" and JVM:
                self.answer(200, b'jvm_memory_used_bytes{area="heap",id="Eden"} 1000\\n'
                                 b'jvm_memory_used_bytes{area="nonheap",id="Code"} 77\\n')
            else:
                self.answer(200 if self.path == "/healthz" else 404, b"up")
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(DELAY_S)
            self.answer(200, b"{}")
        def log_message(self, *args):
            pass
    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
    EXTRA = None
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server((os.environ["STAGING_HOST"], int(os.environ["STAGING_PORT"])), Handler).serve_forever()
    """
)


def make_workspace(root: Path, *, candidates: tuple[str, ...] = ("faster",), duration_s: float = 0.4) -> Path:
    """baseline and candidates, modes jvm and native, one function."""
    write_benchmark(root, duration_s=duration_s)
    for slug in ("baseline", *candidates):
        make_version(root, slug, "baseline" if slug == "baseline" else "candidate")
    (root / "campaigns").mkdir(exist_ok=True)
    return root


def write_benchmark(root: Path, duration_s: float = 0.4, **changes: Any) -> Path:
    """benchmark/benchmark.yaml with its payload; `changes` replace top-level keys."""
    folder = root / "benchmark"
    (folder / "payloads").mkdir(parents=True, exist_ok=True)
    (folder / "payloads" / "echo.json").write_text("{}")
    data: dict[str, Any] = {
        "platform_modes": ["jvm", "native"],
        # Tests share the machine with others: a generator that has to wait for a CPU is nothing that they find out.
        "load": {"shape": "closed", "users": 2, "warm_up_s": 0.1, "duration_s": duration_s, "generator_limits": CALM},
        "payloads": {"echo": "payloads/echo.json"},
        "metrics": {
            "p95": {"unit": "ms", "direction": "lower", "tolerance": 0.5},
            "fail_rate": {"unit": "share", "direction": "lower", "absolute_tolerance": 0.01},
            "throughput": {"unit": "requests/s", "direction": "higher", "tolerance": 0.5},
            "heap_peak": {"unit": "bytes", "direction": "lower", "tolerance": 0.5},
            "gc_pause": {"unit": "ms", "direction": "lower", "tolerance": 0.5, "advisory": True},
        },
        **changes,
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def make_version(root: Path, slug: str, status: str, service: str = SERVICE, **changes: Any) -> Path:
    """A version whose service is the Python program `service`; `changes` go into every mode."""
    folder = root / "versions" / slug
    snapshot = folder / "snapshot"
    snapshot.mkdir(parents=True, exist_ok=True)
    parent = "null" if status == "baseline" else "baseline"
    (folder / "version.yaml").write_text(
        f"slug: {slug}\nkind: generic-service\nstatus: {status}\nparent: {parent}\ncreated_at: '2026-01-01T00:00:00Z'\n"
    )
    (snapshot / "service.py").write_text(f"# {slug}\n{service}")
    mode = {
        "build": [["cp", "service.py", "{artifact}/service.py"]],
        "start": [sys.executable, "-I", "{artifact}/service.py"],
        # Python's start has taken more than 10 s in one of six containers that shared two busy CPUs.
        "ready_timeout_s": 60,
        "stop_timeout_s": 2,
        **changes,
    }
    modes = {"jvm": {"runtime": "jvm", "metrics": "/metrics", **mode}, "native": {"runtime": "native", **mode}}
    (snapshot / "service.yaml").write_text(json.dumps({"functions": ["echo"], "modes": modes}))
    return folder


def wait_for(what: Callable[[], T], deadline_s: float = 20.0) -> T:
    """The first true value of `what()`. Fails the test when there is none by the deadline."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.005)
    pytest.fail(f"still waiting after {deadline_s:g} s")


def free_port() -> int:
    """A port for a server that takes one by its number a while later.

    None of those that the kernel gives to whoever asks for any: until then one of them may be another test's.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def give_up(reason: str) -> NoReturn:
    """Skips a test that this machine cannot run; fails it where STAGING_REQUIRE_LAB=1 promises that it can."""
    if os.environ.get("STAGING_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
