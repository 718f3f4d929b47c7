"""A load tool at work: from its start over the warm-up and the load window to its end, each with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_staging import durable
from pytest_staging.campaign.health import GeneratorUse, use_of
from pytest_staging.model.errors import LoadFailed
from pytest_staging.model.ports import LoadCommand, Process

POLL_S = 0.005
LONG_POLL_S = 0.05
WATCHED_SHARE = 0.9


class RunningLoad:
    """`process` runs `load`'s command. `require_service` is asked all the while, and raises when nobody answers it."""

    def __init__(self, load: LoadCommand, process: Process, require_service: Callable[[], None]) -> None:
        self.process = process
        self._load = load
        self._require_service = require_service

    def await_ready(self) -> float:
        """The epoch instant at which the tool says that all its users send. Raises LoadFailed."""
        deadline = time.monotonic() + self._load.deadline_s
        while not self._load.ready_file.exists():
            self._require_running()
            if time.monotonic() > deadline:
                raise LoadFailed("the load tool never began to send", self._tail())
            time.sleep(POLL_S)
        try:
            return float(self._load.ready_file.read_text())
        except ValueError as error:
            raise LoadFailed(f"{self._load.ready_file.name} holds no instant: {error}") from error

    def await_instant(self, instant_s: float) -> None:
        """Returns at that epoch instant. Raises LoadFailed when the tool has ended before."""
        while (left_s := instant_s - time.time()) > 0:
            self._require_running()
            time.sleep(min(left_s, LONG_POLL_S))

    def watch_use(self, until_s: float) -> GeneratorUse:
        """As `await_instant`, and what the tool used from now until shortly before: some end at that very instant."""
        began_s, before = time.time(), self.process.cpu_time()
        self.await_instant(began_s + WATCHED_SHARE * (until_s - began_s))
        seconds, after = time.time() - began_s, self.process.cpu_time()
        self.await_instant(until_s)
        parts = {part.place.name: part.cpus for part in self._load.parts}
        usable = sum(one or 0.0 for one in parts.values()) or self._load.cpus
        return use_of(before, after, seconds, usable, parts)

    def await_end(self) -> None:
        """Returns when the tool has ended well. Raises LoadFailed."""
        deadline = time.monotonic() + self._load.deadline_s
        while (status := self.process.poll()) is None:
            self._require_service()
            if time.monotonic() > deadline:
                raise LoadFailed("the load tool did not end after its load", self._tail())
            time.sleep(POLL_S)
        if status != 0:
            raise LoadFailed(f"the load tool ended with status {status}", self._tail())

    def _require_running(self) -> None:
        self._require_service()
        if (status := self.process.poll()) is not None:
            raise LoadFailed(f"the load tool ended early with status {status}", self._tail())

    def _tail(self) -> str:
        return durable.read_tail(self._load.command.log)
