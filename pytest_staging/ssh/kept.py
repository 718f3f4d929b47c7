"""The connection that is kept: dialled when it is needed, again when it was lost, with few sessions at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from pytest_staging.model.errors import ConnectionLost, HostBusy, RemoteFailed
from pytest_staging.ssh.config import Endpoint
from pytest_staging.ssh.link import Link
from pytest_staging.ssh.transport import WINDOW_BYTES

CONNECT_TIMEOUT_S = 10.0
# sshd allows 10 sessions on a connection; processes that run for long hold some of them.
SESSIONS_AT_ONCE = 4
BUSY_S = 15.0
# Whoever lost a connection has waited for that already.
REDIAL_S = 3.0
GONE = (paramiko.SSHException, EOFError, OSError)


class KeptConnection:
    """Sessions and tunnels to one host. Nothing is dialled before it is needed. Any number of threads may use it."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.endpoint = endpoint
        self.times_dialled = 0
        self.connect_timeout_s = connect_timeout_s
        self._link: Link | None = None
        self._dialling = threading.Lock()
        self._sessions = threading.BoundedSemaphore(SESSIONS_AT_ONCE)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint}>"

    def connect(self, timeout_s: float | None = None) -> Link:
        """Dials unless it is connected. Raises HostUnreachable, HostKeyRefused or LoginRefused."""
        with self._dialling:
            if self._link is None or not self._link.is_alive:
                if self._link:
                    self._link.close()
                self._link = None
                self._link = Link(self.endpoint, timeout_s or self.connect_timeout_s)
                self.times_dialled += 1
            return self._link

    @property
    def is_connected(self) -> bool:
        link = self._link
        return link is not None and link.is_alive

    def close(self) -> None:
        """Programs that were started go on: stop them first. May be called twice."""
        with self._dialling:
            if self._link:
                self._link.close()
            self._link = None

    def open_tunnel(self, host: str, port: int, timeout_s: float) -> paramiko.Channel:
        """A channel to a port as the host sees it. Raises ConnectionLost or RemoteFailed."""
        link = self.connect()
        try:
            return link.transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), window_size=WINDOW_BYTES, timeout=timeout_s
            )
        except GONE as error:
            if _is_refused(link, error):
                raise RemoteFailed(f"{self.endpoint}: cannot connect to {host}:{port}. Does it listen?") from error
            raise ConnectionLost(f"{self.endpoint}: no tunnel: {gone(link, error)}") from error

    def open_session(self, until: float, busy_s: float = BUSY_S) -> tuple[Link, paramiko.Channel]:
        """A session channel, asked for again for `busy_s` while the host has too many.

        Raises HostBusy or ConnectionLost.
        """
        patience = min(until, time.monotonic() + busy_s)
        pause_s, lost = 0.01, 0
        while True:
            link = self.connect(REDIAL_S if lost else None)
            try:
                timeout_s = max(0.1, min(until - time.monotonic(), self.connect_timeout_s))
                return link, link.transport.open_session(window_size=WINDOW_BYTES, timeout=timeout_s)
            except GONE as error:
                if _is_refused(link, error):
                    if time.monotonic() + pause_s > patience:
                        raise HostBusy(
                            f"{self.endpoint}: the host has opened no further session for {busy_s:g} s. Raise "
                            "MaxSessions in its sshd_config, or run fewer things there at once."
                        ) from error
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, 0.25)
                    continue
                # Nothing was asked for yet, so one more connection may be tried; not where a whole silence was waited
                # for already.
                lost += 1
                if lost > 1 or link.is_alive or link.fell_silent:
                    raise ConnectionLost(f"{self.endpoint}: no session: {gone(link, error)}") from error

    @contextmanager
    def session(self, until: float) -> Iterator[tuple[Link, paramiko.Channel]]:
        """As `open_session`, at most `SESSIONS_AT_ONCE`; others wait for their turn."""
        if not self._sessions.acquire(timeout=max(0.0, until - time.monotonic())):
            raise HostBusy(f"{self.endpoint}: {SESSIONS_AT_ONCE} commands run there already, and none has ended.")
        try:
            yield self.open_session(until)
        finally:
            self._sessions.release()


def _is_refused(link: Link, error: BaseException) -> bool:
    """Whether the host said no. Of refusals at the same time paramiko tells the reason to one thread only."""
    silent = "Timeout" in str(error)
    return isinstance(error, paramiko.SSHException) and link.transport.is_active() and not silent


def gone(link: Link, error: BaseException) -> str:
    """Why nothing more comes, for the end of a sentence."""
    if link.is_alive:
        return f"{str(error).rstrip('.') or type(error).__name__}."
    return link.lost_reason()
