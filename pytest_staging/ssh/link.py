"""A dialled transport that is watched: a host that stops answering is found within `SILENCE_S`, whatever is going on.

SSH's own keepalive asks for no answer, and TCP does not notice a stopped sshd: its kernel goes on acknowledging.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import paramiko

from pytest_staging.ssh.config import Endpoint
from pytest_staging.ssh.transport import Dialled

TICK_S = 1.0
ASK_AFTER_S = 3
SILENCE_S = 10


class Link(Dialled):
    """An authenticated connection with its watchman."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        super().__init__(endpoint, timeout_s)
        self._reason = ""
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._watch_silence, name=f"ssh watch {endpoint.alias}", daemon=True)
        self._watch.start()

    @property
    def is_alive(self) -> bool:
        return not self._closed.is_set() and self.transport.is_active()

    @property
    def fell_silent(self) -> bool:
        """Whether it was given up because nothing came from the host."""
        return bool(self._reason)

    def lost_reason(self) -> str:
        """Why it ended, for the end of a sentence."""
        if self._reason:
            return self._reason
        error = self.transport.get_exception() if not self.transport.is_active() else None
        words = "" if error is None else str(error).strip().rstrip(".")
        if words:
            return f"the connection broke: {words[:1].lower()}{words[1:]}."
        return "the host closed the connection, or the channel, without saying how the command ended."

    def lose(self, reason: str) -> None:
        """Ends it, with a reason for everybody who waits."""
        self._reason = self._reason or reason
        self.close()

    def close(self) -> None:
        """May be called twice and from any thread."""
        if closed := getattr(self, "_closed", None):
            closed.set()
        super().close()
        watch = getattr(self, "_watch", None)
        if watch and watch is not threading.current_thread():
            watch.join(2 * TICK_S)

    def _watch_silence(self) -> None:
        """Counts its own ticks and not the clock: time in which this machine slept says nothing about the host."""
        silent, heard_at = 0, self.line.heard_at
        while not self._closed.wait(TICK_S) and self.transport.is_active():
            silent = silent + 1 if self.line.heard_at == heard_at else 0
            heard_at = self.line.heard_at
            if silent == ASK_AFTER_S:
                # It waits until the answer or the transport's end.
                threading.Thread(target=self._ask, name="ssh heartbeat", daemon=True).start()
            if silent >= SILENCE_S:
                self.lose(f"the host has not answered for {SILENCE_S} s. Is it stopped, overloaded, or cut off?")
                return

    def _ask(self) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError):
            self.transport.global_request("keepalive@openssh.com", wait=True)
