"""The API on a socket, until a signal ends it. Needs uvicorn (`pip install 'pytest-staging[policy]'`)."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.model.errors import UsageProblem
from pytest_staging.throughput.access import Token
from pytest_staging.throughput.door import Places, Threshold, protocol_with
from pytest_staging.throughput.gate import App, Gate

BACKLOG = 256
SHUTDOWN_S = 5
KEEP_ALIVE_S = 10
SPARE_FILES = 128


@dataclass(frozen=True)
class Tls:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def require_usable(self) -> None:
        """Raises UsageProblem for files that are no certificate and key, or not of each other."""
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise UsageProblem(f"--tls-cert and --tls-key cannot be used: {error.strerror or error}.") from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageProblem when it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageProblem(f"cannot listen on {host} port {port}: {why}. Give another --host or --port.") from error
    # Connections inherit it. asyncio would set it only where the protocol's number is named, and without it every
    # answer waits 40 ms for the client's acknowledgement: its head and its body are written one after the other.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(app: App, listening: socket.socket, tokens: Sequence[Token], tls: Tls | None, places: Places) -> None:
    """Returns after SIGTERM or SIGINT, when requests under way are answered."""
    import uvicorn

    _make_room(places.most)
    settings = uvicorn.Config(
        Gate(app, tokens),
        http=protocol_with(places),
        loop="asyncio",  # for the Threshold
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=16_384,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    uvicorn.Server(settings).run(sockets=[Threshold(listening, places) if tls else listening])


def _make_room(connections: int) -> None:
    """Connections are accepted before they can be refused, so more files may be open than there are places."""
    needed = connections + BACKLOG + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
