"""How far a host's clock is ahead of this machine's: of several round trips over the connection the quickest counts."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence

from pytest_staging.model.errors import RemoteFailed
from pytest_staging.model.placing import Clock
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S

ROUNDS = 12
ANSWER_S = 5.0
# $1 a Python. One line in, one instant out: a program that is already there answers in no time.
_ECHO = 'exec "$1" -I -S -c \'import sys, time\nwhile sys.stdin.readline(): print("%.6f" % time.time(), flush=True)\''
Trip = tuple[float, float, float]
"""When it was asked, what the other clock said, and when that was known: epoch seconds."""


def choose_clock(trips: Sequence[Trip]) -> Clock:
    """Of the quickest trip: the answer was given somewhere between question and reception. Needs one at least."""
    asked, said, heard = min(trips, key=lambda trip: trip[2] - trip[0])
    return Clock(ahead_s=said - (asked + heard) / 2, uncertainty_s=(heard - asked) / 2)


def measure_clock(connection: SshConnection, python: str) -> Clock:
    """Asks the host ROUNDS times. Raises RemoteFailed, ConnectionLost, and what connecting raises."""
    answers: queue.Queue[tuple[bytes, float]] = queue.Queue()
    trips: list[Trip] = []

    def ask() -> Iterator[bytes]:
        for _ in range(ROUNDS):
            asked = time.time()
            yield b"\n"
            try:
                said, heard = answers.get(timeout=ANSWER_S)
                trips.append((asked, float(said), heard))
            except (queue.Empty, ValueError):
                return

    def hear(data: bytes) -> None:
        answers.put((data, time.time()))

    result = connection.run_script(_ECHO, python, deadline_s=QUICK_S, feed=ask(), on_stdout=hear)
    result.require("reading the clock")
    if not trips:
        raise RemoteFailed(f"{connection.endpoint}: its clock could not be read with {python}.")
    return choose_clock(trips)
