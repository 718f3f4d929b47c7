"""How a command on a host ended, and one that still runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pytest_staging.model.errors import ConnectionLost, RemoteFailed
from pytest_staging.ssh.exchange import Exchange

STOP_DEADLINE_S = 20.0
_TAIL_BYTES = 2000


@dataclass(frozen=True, kw_only=True)
class Result:
    """Exactly one of `status`, `signal` (a name without SIG), `lost` (why) and `timed_out` says how it ended.

    Of each output that nobody else took the first 64 MB are here.
    """

    host: str
    status: int | None = None
    signal: str | None = None
    lost: str | None = None
    timed_out: bool = False
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def code(self) -> int | None:
        """As subprocess has it: negative for a signal. None when it is lost or was over time."""
        return self.status if self.signal is None else -signal_number(self.signal)

    @property
    def ending(self) -> str:
        """For a sentence: `ended with status 3`."""
        if self.lost is not None:
            return f"was lost: {self.lost}"
        if self.timed_out:
            return f"was not done after {self.seconds:.1f} s, and was killed"
        return f"was killed by SIG{self.signal}" if self.signal else f"ended with status {self.status}"

    def require(self, what: str) -> Result:
        """Itself when the status is 0. Raises ConnectionLost, or RemoteFailed with the end of stderr."""
        if self.ok:
            return self
        if self.lost is not None:
            raise ConnectionLost(f"{self.host}: {what}: {self.lost}")
        words = (self.stderr or self.stdout)[-_TAIL_BYTES:].decode(errors="replace").strip()
        raise RemoteFailed(f"{self.host}: {what} {self.ending}" + (f": {words}" if words else "."), log_tail=words)


def signal_number(name: str) -> int:
    """Number of a signal that SSH names; 0 for one that this system does not have."""
    return getattr(signal, f"SIG{name}", 0)


class Owner(Protocol):
    """What a running command needs of its connection."""

    def send_signal(self, pid: int, name: str, deadline_s: float) -> None:
        """To the whole group."""

    def kill(self, token: str, pid: int | None, deadline_s: float) -> int:
        """Kills the session and all that carries the token; says how many there were."""


class RemoteProcess:
    """A program on a host, in a session of its own: `pid` is its process, its group and its session there."""

    def __init__(
        self, owner: Owner, host: str, exchange: Exchange, token: str, *, lost_reason: Callable[[], str]
    ) -> None:
        self._owner = owner
        self._lost_reason = lost_reason
        self._host = host
        self._exchange = exchange
        self._token = token
        self._ended_as = ""
        self._stopping = threading.Lock()
        self._receiver_error: BaseException | None = None
        assert exchange.pid is not None
        self.pid = exchange.pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"ssh process {self.pid}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<RemoteProcess {self.pid} on {self._host}>"

    @property
    def pgid(self) -> int:
        return self.pid

    @property
    def stdout(self) -> bytes:
        """What it has said so far, unless a receiver or a log took it: the first 64 MB."""
        return bytes(self._exchange.stdout.kept)

    @property
    def stderr(self) -> bytes:
        return bytes(self._exchange.stderr.kept)

    def poll(self) -> int | None:
        """Exit status (negative: killed by that signal), or None while it runs. Raises ConnectionLost."""
        if not self._over.is_set():
            return None
        if self._receiver_error is not None:
            raise self._receiver_error
        if self._exchange.signal is not None:
            return -signal_number(self._exchange.signal)
        if self._exchange.status is None:
            raise ConnectionLost(f"{self._host}: process {self.pid}: {self._lost_reason()}")
        return self._exchange.status

    def wait(self, deadline_s: float) -> int | None:
        """As `poll`, after the end or after `deadline_s`."""
        self._over.wait(deadline_s)
        return self.poll()

    def stop(self, grace_s: float) -> str:
        """Asks the group, waits `grace_s`, kills everything it started; says how it went. May be called twice.

        When the connection was lost this dials again. Raises HostUnreachable when that is not possible.
        """
        with self._stopping:
            if self._ended_as:
                return self._ended_as
            ran = not self._over.is_set()
            if ran and grace_s > 0:
                self._owner.send_signal(self.pid, "TERM", STOP_DEADLINE_S)
                self._over.wait(grace_s)
            stubborn = not self._over.is_set()
            left = self._owner.kill(self._token, self.pid, STOP_DEADLINE_S)
            self._over.wait(STOP_DEADLINE_S)
            self._exchange.close()
            self._thread.join(STOP_DEADLINE_S)
            if stubborn:
                self._ended_as = "killed"
            else:
                self._ended_as = f"ended, {left} left over killed" if left else "ended" if ran else "had ended"
            return self._ended_as

    def _follow(self) -> None:
        try:
            while not self._exchange.drain(time.monotonic() + 60.0):
                pass
        except BaseException as error:
            self._receiver_error = error
        finally:
            self._exchange.close()
            self._over.set()
