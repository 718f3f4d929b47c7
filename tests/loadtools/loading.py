"""A small real HTTP server that counts and misbehaves on demand, and a way to run a load tool against it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.ports import LoadRequest, LoadTool
from pytest_staging.targets.local import LocalTarget

T = TypeVar("T")
ATTEMPTS = 4


class CountingServer(ThreadingHTTPServer):
    """`stall_at` is the number of the request during which everything stands still for `stall_s`.

    `instants` are the epoch seconds at which each of `paths` came.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, status: int = 200, delay_s: float = 0.0, stall_at: int | None = None, stall_s: float = 0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.delay_s, self.stall_at, self.stall_s = status, delay_s, stall_at, stall_s
        self.paths: list[str] = []
        self.instants: list[float] = []
        self.bodies: set[bytes] = set()
        self.gate = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def seen(self, start_s: float, end_s: float) -> int:
        """How many requests came in that time."""
        return sum(start_s <= instant < end_s for instant in self.instants)

    def handle_error(self, *_: object) -> None:
        """A load tool that ends resets its connections: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: CountingServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.gate:
            self.server.paths.append(self.path)
            self.server.instants.append(time.time())
            self.server.bodies.add(body)
            if len(self.server.paths) == self.server.stall_at:
                time.sleep(self.server.stall_s)
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.wfile.flush()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(**options: Any) -> Iterator[CountingServer]:
    with CountingServer(**options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """A URL at which nobody listens, and nobody else will: the port is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@dataclass
class Loaded:
    """What came of a run: its request, its exit status, its output, the instant at which all users sent, and how long
    the program ran."""

    request: LoadRequest
    status: int | None
    log: str
    ready_s: float | None
    lasted_s: float = 0.0


def make_request(folder: Path, url: str, script: str | None = None, **load: Any) -> LoadRequest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "body.json").write_text('{"text": "hello"}')
    values = {"shape": LoadShape.CLOSED, "users": 3, "duration_s": 0.8, "warm_up_s": 0.2, "request_timeout_s": 5.0}
    path = None
    if script is not None:
        path = folder / "mine.py"
        path.write_text(script)
    return LoadRequest(
        base_url=url, load=Load(**{**values, **load}), bodies={"echo": folder / "body.json"}, folder=folder, script=path
    )


def run_locust(request: LoadRequest) -> Loaded:
    return run_tool(LocustTool(), request)


def run_tool(tool: LoadTool, request: LoadRequest) -> Loaded:
    """To its end, as a cell does."""
    command = tool.build_command(request)
    began_s = time.monotonic()
    status = LocalTarget(request.folder).run(command.command, command.deadline_s)
    lasted_s = time.monotonic() - began_s
    ready_s = float(command.ready_file.read_text()) if command.ready_file.exists() else None
    return Loaded(request, status, command.command.log.read_text(), ready_s, lasted_s)


def at_once(spans: list[tuple[float, float]]) -> int:
    """How many of the requests were under way at the same time, at most; begin and end in seconds."""
    begun = [(begin_s, 1) for begin_s, _ in spans]
    # A user's next one begins when this one has ended, in the last digit that is kept perhaps before.
    ended = [(end_s - 2e-6, -1) for _, end_s in spans]
    return max(accumulate(change for _, change in sorted(begun + ended)))


def first_good(make: Callable[[Path], T], folder: Path, good: Callable[[T], bool]) -> T:
    """The first run that is `good`, of a few in folders of their own; else the last one, of which the test will tell.

    A load of a second may be over before a busy machine has given the tool a CPU. What a test says of every load it
    says of whichever comes of this; what it says of a load that could be made needs one that was.
    """
    for attempt in range(ATTEMPTS):
        made = make(folder / f"attempt-{attempt}")
        if good(made):
            break
    return made
