"""What a worker asks before it takes a job: how many jobs of its class may run now. This file needs nothing else.

It is made to be copied into a worker's container: only the standard library, no other module of the package. A thread
(or a task) asks the API every `refresh_s`; a check reads what was told last and takes no lock. When the API is silent
for `stale_s`, the limits fall to the fail-safe: the floors that were told last, else those given here, else one job.

A limit is for all workers of a class together. Where there are several, each gets its part: `worker=2, workers=5`.

    admission = Admission("http://127.0.0.1:8642")
    if admission.admits("expensive", running): take_a_job()
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

PATH = "/workflows/throughput-policy/status"
MAX_ANSWER_BYTES = 1 << 20
LAST_RESORT = 1


class Limits:
    """What was told last, and until when it holds. Shared by both kinds of client."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        fail_safe: Mapping[str, int] | None = None,
        refresh_s: float = 0.5,
        stale_s: float = 15.0,
        timeout_s: float = 2.0,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        """`fail_safe` maps classes to what they may do before the API was ever heard; `worker` counts from 0.

        Raises ValueError for settings that cannot be.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url}: is no http or https URL")
        if refresh_s <= 0 or timeout_s <= 0 or stale_s <= refresh_s:
            raise ValueError("refresh_s and timeout_s must be more than 0, and stale_s more than refresh_s")
        if not 0 <= worker < workers:
            raise ValueError(f"worker {worker} of {workers}: it counts from 0")
        self._place = (worker, workers)
        self.refresh_s, self.timeout_s, self.stale_s = refresh_s, timeout_s, stale_s
        self.problem = "the policy API was not asked yet"
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/") + PATH
        self._trust = ssl.create_default_context() if parts.scheme == "https" else None
        self._token = token
        self._limits: dict[str, int] = {}
        self._floors: dict[str, int] = self._parts(fail_safe or {})
        self._last_resort = self._part(LAST_RESORT)
        self._good_until = float("-inf")

    def limit(self, class_name: str) -> int:
        """Jobs of that class that this worker may run at once. Over all workers there is at least one."""
        if time.monotonic() < self._good_until:
            return self._limits.get(class_name, self._last_resort)
        return self._floors.get(class_name, self._last_resort)

    def admits(self, class_name: str, running: int) -> bool:
        """Whether one more job may begin while so many of the class run."""
        return running < self.limit(class_name)

    @property
    def fail_safe(self) -> bool:
        """Whether the limits are those of the fail-safe, because the API is silent; `problem` says why."""
        return time.monotonic() >= self._good_until

    def ask(self) -> bool:
        """One question to the API; blocks for at most about `timeout_s`. Says whether it was answered. Never raises."""
        asked_s = time.monotonic()
        try:
            self._take(self._fetch(asked_s + self.timeout_s), asked_s)
        except Exception as error:  # whatever a network does, a worker goes on with what it knows
            self.problem = f"the policy API does not tell: {str(error) or type(error).__name__}"
            return False
        self.problem = ""
        return True

    def _parts(self, limits: Mapping[str, int]) -> dict[str, int]:
        return {name: self._part(limit) for name, limit in limits.items()}

    def _part(self, limit: int) -> int:
        """The parts of all workers add up to the limit."""
        worker, workers = self._place
        return limit // workers + (worker < limit % workers)

    def _fetch(self, deadline_s: float) -> Any:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        # Directly, and no further than there: who may run jobs is nothing to ask through somebody else.
        where: Any = {"host": self._host, "port": self._port, "timeout": self.timeout_s}
        connection = (
            http.client.HTTPSConnection(**where, context=self._trust)
            if self._trust
            else http.client.HTTPConnection(**where)
        )
        connection.connect()
        # Its time limit holds for each read alone; this one is for the whole answer.
        timer = threading.Timer(max(0.0, deadline_s - time.monotonic()), _cut, [connection.sock])
        timer.daemon = True
        timer.start()
        try:
            connection.request("GET", self._path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES + 1)
        finally:
            timer.cancel()
            timer.join()
            connection.close()
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status}")
        if len(body) > MAX_ANSWER_BYTES or time.monotonic() > deadline_s:
            raise ValueError("the answer never ends")
        return json.loads(body)

    def _take(self, status: Any, asked_s: float) -> None:
        limits = {one["class_name"]: int(one["active_parallelism"]) for one in status["class_states"]}
        floors = {one["class_name"]: int(one["minimum_floor"]) for one in status["class_states"]}
        if not limits or min(limits.values()) < 1 or min(floors.values()) < 1:
            raise ValueError("the answer holds no limits")
        # Replaced as a whole: a check sees the old limits or the new ones.
        self._floors, self._limits = {**self._floors, **self._parts(floors)}, self._parts(limits)
        self._good_until = asked_s + self.stale_s


def _cut(link: socket.socket) -> None:
    """Wakes whoever reads from it."""
    with suppress(OSError):  # it is closed already
        # Not the shutdown of ssl.SSLSocket: after that, what another thread writes would go out in the clear.
        socket.socket.shutdown(link, socket.SHUT_RDWR)


class Admission(Limits):
    """For threads: asks from a thread of its own, from now until `close`."""

    def __init__(self, base_url: str, **settings: Any) -> None:
        super().__init__(base_url, **settings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; the limits go on to hold until they are stale."""
        self._ended.set()
        self._thread.join(self.timeout_s * 2)

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            self.ask()
            if self._ended.wait(self.refresh_s):
                return


class AsyncAdmission(Limits):
    """For asyncio: `async with AsyncAdmission(url) as admission`. Asks in a task, and blocks the loop at no time."""

    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncAdmission:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self.ask)
            await asyncio.sleep(self.refresh_s)
