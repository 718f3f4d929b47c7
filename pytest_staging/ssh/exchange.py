"""One command on one channel: fed, drained, and asked how it ended. No wait here is without a deadline.

Both outputs are read in one loop, and input is written by a thread: a command that fills one of them while somebody
waits for another would stand still. The end is asked for only after the output.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import paramiko

from pytest_staging.ssh.transport import Gate, push

CHUNK_BYTES = 256 << 10
MAX_KEPT_BYTES = 64 << 20
MAX_CHATTER_BYTES = 1 << 20
# Somebody whom the command left behind may hold its output open.
LAST_WORDS_S = 0.5
_TICK_S = 0.25

Receiver = Callable[[bytes], None]


class Bell(threading.Event):
    """Rings when either of a channel's buffers has something.

    paramiko clears the event of a buffer that is empty, and would so silence the other one.
    """

    def clear(self) -> None:
        """Only `rest` does."""

    def rest(self) -> None:
        """Back to silence; look at the buffers afterwards."""
        super().clear()


class BoundedEvent(threading.Event):
    """An event whose waits end: paramiko waits for the answer to a request for ever."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def wait(self, timeout: float | None = None) -> bool:
        """Raises TimeoutError when the answer does not come."""
        if not super().wait(max(0.0, self._until - time.monotonic()) if timeout is None else timeout):
            raise TimeoutError("the host does not answer")
        return True


class Intake:
    """One output: what comes before the line `TOKEN PID` is chatter, the rest goes to a receiver or is kept."""

    def __init__(self, token: str, receiver: Receiver | None) -> None:
        self._line = re.compile(rb"%s (\d+)\n" % token.encode())
        self._receiver = receiver
        self._before = bytearray()
        self.pid: int | None = None
        self.kept = bytearray()

    def take(self, data: bytes) -> None:
        if self.pid is None:
            data = self._after_token(data)
        if not data:
            return
        if self._receiver:
            self._receiver(data)
        else:
            self.kept += data[: MAX_KEPT_BYTES - len(self.kept)]

    @property
    def chatter(self) -> str:
        """What was said before the command came to its turn, or instead of it."""
        return self._before.decode(errors="replace").strip()

    def _after_token(self, data: bytes) -> bytes:
        self._before += data
        found = self._line.search(self._before)
        if found is None:
            del self._before[:-MAX_CHATTER_BYTES]
            return b""
        self.pid = int(found[1])
        rest = bytes(self._before[found.end() :])
        del self._before[found.start() :]
        return rest


class Exchange:
    """A command that was asked for on `channel`. After `drain` said True, `status`, `signal` or neither (lost) hold."""

    def __init__(
        self, channel: paramiko.Channel, token: str, on_stdout: Receiver | None, on_stderr: Receiver | None
    ) -> None:
        self._channel = channel
        self._gate = Gate()
        channel.gate = self._gate  # type: ignore[attr-defined]
        channel.settimeout(0.0)
        self._bell = Bell()
        channel.in_buffer.set_event(self._bell)
        channel.in_stderr_buffer.set_event(self._bell)
        self.stdout = Intake(token, on_stdout)
        self.stderr = Intake(token, on_stderr)
        self._stopped = threading.Event()
        self._feeder: threading.Thread | None = None
        self.feed_error: BaseException | None = None

    def begin(self, line: str, feed: Iterable[bytes] | None, until: float) -> None:
        """Asks for the command. Raises TimeoutError, or paramiko's errors when the connection is gone."""
        self._channel.event = BoundedEvent(until)
        self._channel.exec_command(line)
        if feed is not None:
            self._feeder = threading.Thread(target=self._write, args=(feed,), name="ssh input", daemon=True)
            self._feeder.start()

    @property
    def pid(self) -> int | None:
        """Process id on the host, which is its session and group too; None before the command's own start."""
        return self.stdout.pid

    @property
    def status(self) -> int | None:
        code = self._channel.exit_status
        return None if code < 0 else code

    @property
    def signal(self) -> str | None:
        """Name without SIG, as SSH tells it."""
        found: str | None = getattr(self._channel, "exit_signal", None)
        return found

    def drain(self, until: float, started: bool = False) -> bool:
        """Reads until the command has ended (True) or the time is over. `started`: only until it has begun."""
        quiet_since = time.monotonic()
        while True:
            self._bell.rest()
            if self._take():
                quiet_since = time.monotonic()
            elif self._is_over(quiet_since):
                return True
            else:
                self._bell.wait(max(0.0, min(until - time.monotonic(), _TICK_S)))
            if started and self.pid is not None:
                return True
            if time.monotonic() > until:
                return False

    def close(self) -> None:
        """Ends the channel, not the command. May be called twice."""
        self._stopped.set()
        self._gate.closing(self._close_quietly)
        if self._feeder:
            self._feeder.join(5.0)

    def _close_quietly(self) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.close()

    def _take(self) -> bool:
        """One chunk of each output."""
        stdout = self._channel.recv(CHUNK_BYTES) if self._channel.recv_ready() else b""
        stderr = self._channel.recv_stderr(CHUNK_BYTES) if self._channel.recv_stderr_ready() else b""
        self.stdout.take(stdout)
        self.stderr.take(stderr)
        return bool(stdout or stderr)

    def _is_over(self, quiet_since: float) -> bool:
        ended = self._channel.status_event.is_set()
        whole = self._channel.closed or self._channel.eof_received
        if self._channel.recv_ready() or self._channel.recv_stderr_ready():
            return False
        return ended and (bool(whole) or time.monotonic() - quiet_since > LAST_WORDS_S)

    def _write(self, feed: Iterable[bytes]) -> None:
        try:
            for chunk in feed:
                if not self._send(chunk):
                    return
        except Exception as error:
            # A source that fails half way must not look like its end.
            self.feed_error = error
            self._gate.closing(self._close_quietly)
        else:
            self._send_end()
        finally:
            close: Any = getattr(feed, "close", None)
            if close:
                close()

    def _send(self, chunk: bytes) -> bool:
        try:
            return push(self._channel, self._gate, chunk, self._stopped.is_set)
        except (paramiko.SSHException, EOFError, OSError):
            return False

    def _send_end(self) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError), self._gate.sending():
            self._channel.shutdown_write()
