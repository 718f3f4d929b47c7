"""What carries an SSH connection: a TCP connection, a channel through another host, or a command's input and output."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

from pytest_staging.model.errors import HostUnreachable
from pytest_staging.ssh.config import Endpoint

# What was sent and is not acknowledged for so long shows a host that is gone; the system's own limit is 15 minutes.
USER_TIMEOUT_S = 4.0
PROXY_STOP_S = 2.0
PROXY_NOTICE_S = 1.0


class Line:
    """What paramiko needs of a socket, and when something last arrived (`heard_at`, monotonic seconds)."""

    def __init__(self, carrier: Any, proxy: subprocess.Popen[bytes] | None = None) -> None:
        self._carrier = carrier
        self._proxy = proxy
        self.heard_at = time.monotonic()
        self.send = carrier.send
        self.settimeout = carrier.settimeout

    def recv(self, size: int) -> bytes:
        data: bytes = self._carrier.recv(size)
        self.heard_at = time.monotonic()
        return data

    def proxy_ending(self) -> str:
        """How the proxy ended, for messages; nothing for one that goes on, or when there is none."""
        if self._proxy is None:
            return ""
        try:
            status = self._proxy.wait(PROXY_NOTICE_S)  # its output ends a little before it
        except subprocess.TimeoutExpired:
            return ""
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"

    def close(self) -> None:
        """May be called twice."""
        with suppress(OSError):
            self._carrier.close()
        if self._proxy is None:
            return
        self._proxy.terminate()
        try:
            self._proxy.wait(PROXY_STOP_S)
        except subprocess.TimeoutExpired:
            self._proxy.kill()
            self._proxy.wait(PROXY_STOP_S)

    @property
    def _closed(self) -> bool:
        """What paramiko asks before it waits for its thread."""
        return bool(self._carrier._closed)

    def getpeername(self) -> Any:
        return self._carrier.getpeername()


def connect_tcp(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    """A connection to the endpoint's port. Raises HostUnreachable with the reason and what to look at."""
    try:
        connection = socket.create_connection((endpoint.address, endpoint.port), timeout=timeout_s)
    except socket.gaierror as error:
        raise HostUnreachable(
            f"{endpoint}: no such host: {error.strerror}. Check the name, or its HostName in the SSH configuration."
        ) from error
    except TimeoutError as error:
        raise HostUnreachable(
            f"{endpoint}: no answer within {timeout_s:g} s. Is the host up, and does a firewall let port "
            f"{endpoint.port} through?"
        ) from error
    except OSError as error:
        raise HostUnreachable(
            f"{endpoint}: {(error.strerror or str(error)).lower()}. Is the host up, and does sshd listen on port "
            f"{endpoint.port}?"
        ) from error
    tune(connection)
    return connection


def tune(connection: socket.socket) -> None:
    """Small messages leave at once, and a connection that leads nowhere ends by itself."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_S * 1000))


def start_proxy(endpoint: Endpoint) -> Line:
    """The endpoint's ProxyCommand, with one end of a socket pair as its input and output: that can be waited for."""
    assert endpoint.proxy_command
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            # A command line by its definition. It gets a process of its own, so that ending it ends the program.
            process = subprocess.Popen(
                f"exec {endpoint.proxy_command}",
                shell=True,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return Line(ours, process)
