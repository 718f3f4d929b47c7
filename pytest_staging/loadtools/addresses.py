"""Where programs of one load listen on this machine."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_addresses(processes: int) -> list[str]:
    """One for each, different from each other: no probe is closed before the last is bound."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(processes)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
