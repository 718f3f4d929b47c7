"""One authenticated SSH transport: dialled, its host verified, tuned. And what paramiko needs to be safe with threads.

Measured on loopback: TCP_NODELAY takes a kept command from 47 ms to 4, aes128-gcm a 200 MB file from 0.7 s to 0.4.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST

from pytest_staging.model.errors import HostKeyRefused, HostUnreachable, StagingError
from pytest_staging.ssh import hostkeys
from pytest_staging.ssh.config import Endpoint
from pytest_staging.ssh.line import Line, connect_tcp, start_proxy
from pytest_staging.ssh.login import log_in

LOG = "pytest_staging.ssh"
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
WINDOW_BYTES = 8 << 20
PACKET_BYTES = 1 << 15
PUSH_TICK_S = 0.25
# paramiko starts a new key exchange each 512 MB, and one that meets a channel that the host closes blocks the transport
# for 30 s and loses it (paramiko#822). The host still starts its own.
REKEY_BYTES = 1 << 36

logging.getLogger(LOG).addHandler(logging.NullHandler())


class GuardedTransport(paramiko.Transport):
    """A transport whose channels tell by which signal a command ended, and are never written to after their end."""

    _channel_handler_table = {  # noqa: RUF012
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_REQUEST: lambda channel, message: _on_request(channel, message),
        MSG_CHANNEL_CLOSE: lambda channel, message: _on_close(channel, message),
    }


class Gate:
    """Keeps the end of a channel and a message to it in order.

    paramiko answers the host's CLOSE in its own thread. A message that another thread sends at that moment would reach
    the host after that answer, and sshd ends the whole connection for it. So what is sent passes this gate, and a
    CLOSE that arrives meanwhile is answered by the sender afterwards: nobody waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sending = False
        self._pending: list[Any] = []

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around each message to the host."""
        with self._lock:
            self._sending = True
        try:
            yield
        finally:
            with self._lock:
                self._sending = False
                pending, self._pending = self._pending, []
            for answer in pending:
                answer()

    def closing(self, answer: Any) -> None:
        """Calls `answer` now, or lets the sender do it."""
        with self._lock:
            if self._sending:
                self._pending.append(answer)
                return
        answer()


def push(channel: paramiko.Channel, gate: Gate, data: bytes, is_stopped: Callable[[], bool]) -> bool:
    """Sends all of `data`; False when the channel ended or `is_stopped` said so. Raises what paramiko raises."""
    view = memoryview(data)
    while view:
        with channel.lock:
            channel.out_buffer_cv.wait_for(lambda: channel.closed or channel.out_window_size > 0, PUSH_TICK_S)
            ready = channel.out_window_size > 0
        if channel.closed or is_stopped():
            return False
        if ready:
            with gate.sending():
                # paramiko sends at most a packet and says how much that was.
                view = view[channel.send(bytes(view[:PACKET_BYTES])) :]
    return True


def _on_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """paramiko passes over how a command was killed."""
    start = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()  # type: ignore[attr-defined]
        channel.status_event.set()
    message.packet.seek(start)
    channel._handle_request(message)  # type: ignore[attr-defined]


def _on_close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    gate = getattr(channel, "gate", None)
    if gate is None:
        channel._handle_close(message)  # type: ignore[attr-defined]
    else:
        gate.closing(lambda: channel._handle_close(message))  # type: ignore[attr-defined]


class Dialled:
    """A transport to the last of the hosts in the way, and those before it. `line` tells when the host last spoke."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Raises HostUnreachable, HostKeyRefused or LoginRefused."""
        self._ways: list[GuardedTransport] = []
        try:
            for hop in (*endpoint.jumps, endpoint):
                self.line = self._reach(hop, timeout_s)
                carrier: Any = self.line  # paramiko asks for less than its stubs say
                self.transport = GuardedTransport(carrier, default_window_size=WINDOW_BYTES)
                self._ways.append(self.transport)
                _begin(self.transport, self.line, hop, timeout_s)
                log_in(self.transport, hop, timeout_s)
        except StagingError as error:
            self.close()
            if hop is not endpoint and isinstance(error, HostUnreachable):
                raise HostUnreachable(f"{endpoint}: its jump host does not answer. {error}") from error
            raise
        except BaseException:
            self.close()
            raise

    def _reach(self, hop: Endpoint, timeout_s: float) -> Line:
        if self._ways:
            return Line(_through(self._ways[-1], hop, timeout_s))
        if hop.proxy_command:
            return start_proxy(hop)
        return Line(connect_tcp(hop, timeout_s))

    def close(self) -> None:
        """Ends everything on the way. May be called twice and from any thread."""
        for transport in reversed(self._ways):
            with suppress(OSError, EOFError, paramiko.SSHException):
                transport.close()
        if line := getattr(self, "line", None):
            line.close()


def _through(before: paramiko.Transport, hop: Endpoint, timeout_s: float) -> paramiko.Channel:
    try:
        return before.open_channel(
            "direct-tcpip", (hop.address, hop.port), ("127.0.0.1", 0), window_size=WINDOW_BYTES, timeout=timeout_s
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise HostUnreachable(f"{hop}: the jump host cannot reach it: {error}. Is it up, and sshd there?") from error


def _begin(transport: GuardedTransport, line: Line, endpoint: Endpoint, timeout_s: float) -> None:
    """Key exchange and host key."""
    transport.set_log_channel(LOG)
    transport.banner_timeout = timeout_s + 1.0  # the wait below ends first
    transport.packetizer.REKEY_BYTES = REKEY_BYTES
    options = transport.get_security_options()
    options.ciphers = tuple(dict.fromkeys([*(one for one in CIPHERS if one in options.ciphers), *options.ciphers]))
    known = hostkeys.known_keys(endpoint)
    if wanted := [one for one in hostkeys.algorithms(known) if one in options.key_types]:
        # Asked for any key, the host would show one of another type than the known one.
        options.key_types = tuple(wanted)
    _exchange_keys(transport, line, endpoint, wanted, timeout_s)
    key = transport.get_remote_server_key()
    hostkeys.require_known(endpoint, hostkeys.HostKey(key.get_name(), key.get_base64()))


def _exchange_keys(
    transport: GuardedTransport, line: Line, endpoint: Endpoint, wanted: list[str], timeout_s: float
) -> None:
    # Not start_client(timeout=): when that is over it returns, and the login fails with "No existing session".
    done = threading.Event()
    transport.start_client(event=done)
    until = time.monotonic() + timeout_s
    while not done.wait(0.02) and transport.is_active() and time.monotonic() < until:
        pass
    error = transport.get_exception()
    if transport.is_active() and done.is_set():
        return
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer) and wanted:
        raise HostKeyRefused(
            f"{endpoint}: the host has no key of the types that known_hosts holds for it ({', '.join(wanted)}). "
            f"If it was really made anew: ssh-keygen -R '{endpoint.key_name}'"
        ) from error
    if error is None:
        said = f"takes connections, but said nothing for {timeout_s:g} s. Is it sshd, and is the host overloaded?"
        raise HostUnreachable(f"{endpoint}: the host {said}")
    if ending := line.proxy_ending():
        raise HostUnreachable(
            f"{endpoint}: its ProxyCommand ({endpoint.proxy_place}) {ending} before the SSH connection was set up. "
            f"`ssh {endpoint.alias}` shows what it says."
        ) from error
    raise HostUnreachable(f"{endpoint}: the SSH connection could not be set up: {_words(error)}.") from error


def _words(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
