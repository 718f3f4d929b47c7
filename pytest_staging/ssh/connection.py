"""Commands on a host, over its one kept connection.

One costs about 4 ms, with a spawned ssh it would be 200.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from types import TracebackType

import paramiko

from pytest_staging.model.errors import ConnectionLost, HostBusy, RemoteFailed, StagingError
from pytest_staging.ssh import shell
from pytest_staging.ssh.commands import RemoteProcess, Result
from pytest_staging.ssh.exchange import Exchange, Receiver
from pytest_staging.ssh.kept import GONE, KeptConnection, gone
from pytest_staging.ssh.link import Link

KILL_DEADLINE_S = 20.0
# Added to a deadline that is over, on a host that answers no more.
QUIET_KILL_S = 5.0
# What has to be killed does not wait for others to end.
URGENT_BUSY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A line for the login shell, the token that marks what comes of it, and where input and output go."""

    line: str = field(repr=False)
    token: str
    deadline_s: float
    feed: Iterable[bytes] | None = None
    on_stdout: Receiver | None = None
    on_stderr: Receiver | None = None


class SshConnection(KeptConnection):
    """The host at an endpoint. Close it, or use it in a `with`. Any number of threads may use it."""

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        on_stdout: Receiver | None = None,
        on_stderr: Receiver | None = None,
    ) -> Result:
        """Runs a program to its end; how it ended, a lost connection included, is in the result.

        Status 125: there is no folder `cwd`; 127: no such program. When the deadline is over, everything that it
        started is killed. Raises RemoteFailed when the login shell does not get to it, HostBusy, and what `connect`
        raises.
        """
        token = secrets.token_hex(16)
        marked = {**(env or {}), shell.PROCESS_MARK: token}
        script = shell.program(argv, cwd=cwd, env=marked, reads=stdin is not None)
        line = shell.command_line(shell.introduced(token, script))
        feed = None if stdin is None else [stdin]
        job = _Job(line=line, token=token, deadline_s=deadline_s, feed=feed, on_stdout=on_stdout, on_stderr=on_stderr)
        return self._run(job)

    def run_script(
        self,
        script: str,
        *arguments: str,
        deadline_s: float,
        feed: Iterable[bytes] | None = None,
        on_stdout: Receiver | None = None,
    ) -> Result:
        """Runs text of ours with /bin/sh; `arguments` are its $1 and on, `feed` its input. Else as `run`."""
        return self._run(_script_job(script, arguments, deadline_s, feed, on_stdout))

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        log: str | None = None,
        on_stdout: Receiver | None = None,
        on_stderr: Receiver | None = None,
        deadline_s: float = 30.0,
    ) -> RemoteProcess:
        """Starts a program and returns when the host has begun it.

        Its output goes to the end of the file `log` on the host, or to the receivers, which are called by a thread of
        its own. The program outlives the connection: `stop` it. Raises RemoteFailed when the login shell did not get
        to it, ConnectionLost, HostBusy, and what `connect` raises.
        """
        token = secrets.token_hex(16)
        script = shell.program(argv, cwd=cwd, env={**(env or {}), shell.PROCESS_MARK: token}, log=log)
        line = shell.command_line(shell.introduced(token, script))
        until = time.monotonic() + deadline_s
        link, channel = self.open_session(until)
        exchange = Exchange(channel, token, on_stdout, on_stderr)
        try:
            exchange.begin(line, None, until)
            exchange.drain(until, started=True)
            if exchange.pid is None:
                self._raise_not_begun(exchange, link)
        except BaseException as error:
            exchange.close()
            self._kill_quietly(token, exchange.pid)
            if isinstance(error, GONE):
                raise ConnectionLost(f"{self.endpoint}: {argv[0]} was not started: {gone(link, error)}") from error
            raise
        return RemoteProcess(self, str(self.endpoint), exchange, token, lost_reason=link.lost_reason)

    def send_signal(self, pid: int, name: str, deadline_s: float) -> None:
        """To the process group `pid`; one that is gone is no error."""
        script = f'kill -s {name} -- "-$1" 2>/dev/null; true'
        self._urgently(script, str(pid), deadline_s=deadline_s).require("signalling a process group")

    def kill(self, token: str, pid: int | None, deadline_s: float = KILL_DEADLINE_S) -> int:
        """Kills the session `pid` and whatever carries the token, and says how many there were."""
        return self._kill(shell.PROCESS_MARK, token, "" if pid is None else str(pid), "all", deadline_s)

    def end_marked(self, name: str, value: str, deadline_s: float = KILL_DEADLINE_S) -> int:
        """Kills every process of the host that was started with `name=value` in its environment; says how many."""
        return self._kill(name, value, "", "", deadline_s)

    def _run(self, job: _Job, urgent: bool = False) -> Result:
        began = time.monotonic()
        until = began + job.deadline_s
        ended, exchange, problem = False, None, ""
        try:
            with self._opened(until, urgent) as (link, channel):
                exchange = Exchange(channel, job.token, job.on_stdout, job.on_stderr)
                try:
                    exchange.begin(job.line, job.feed, until)
                    ended = exchange.drain(until)
                except GONE as error:
                    if exchange.pid is not None and link.is_alive:
                        raise  # a receiver's own
                    problem = gone(link, error)
                finally:
                    exchange.close()
        finally:
            # Only now, with the session given back: the kill needs one, and others may be about to kill too.
            if exchange is not None and not ended and not urgent and link.is_alive:
                self._kill_quietly(job.token, exchange.pid)
        if exchange.feed_error is not None:
            raise exchange.feed_error
        return self._result(exchange, link, ended, problem, time.monotonic() - began)

    def _result(self, exchange: Exchange, link: Link, ended: bool, problem: str, seconds: float) -> Result:
        status, signal = (exchange.status, exchange.signal) if ended else (None, None)
        if ended and status is None and signal is None:
            problem = link.lost_reason()
        if ended and exchange.pid is None and not problem:
            self._raise_not_begun(exchange, link)
        return Result(
            host=str(self.endpoint),
            status=status,
            signal=signal,
            lost=problem or None,
            timed_out=not ended and not problem,
            stdout=bytes(exchange.stdout.kept),
            stderr=bytes(exchange.stderr.kept),
            seconds=seconds,
        )

    def _raise_not_begun(self, exchange: Exchange, link: Link) -> None:
        if exchange.status is None and not link.is_alive:
            raise ConnectionLost(f"{self.endpoint}: {link.lost_reason()}")
        said = (exchange.stderr.chatter or exchange.stdout.chatter)[-1000:]
        raise RemoteFailed(
            f"{self.endpoint}: the login shell of {self.endpoint.user} did not get to the command. Look at its .bashrc "
            f"and its entry in /etc/passwd. It said: {said or 'nothing'}",
            log_tail=said,
        )

    def _kill_quietly(self, token: str, pid: int | None) -> None:
        """While another error, or the end of the time, is being told. What survives carries its mark."""
        with suppress(StagingError):
            self.kill(token, pid, QUIET_KILL_S)

    def _kill(self, name: str, value: str, session: str, scope: str, deadline_s: float) -> int:
        result = self._urgently(shell.KILL_SCRIPT, f"{name}={value}", session, scope, deadline_s=deadline_s)
        return int(result.require("killing processes").stdout)

    def _urgently(self, script: str, *arguments: str, deadline_s: float) -> Result:
        """On a connection of its own when this one has no session left for it."""
        job = _script_job(script, arguments, deadline_s)
        try:
            return self._run(job, urgent=True)
        except HostBusy:
            with SshConnection(self.endpoint, connect_timeout_s=self.connect_timeout_s) as other:
                return other._run(job, urgent=True)

    def _opened(self, until: float, urgent: bool) -> AbstractContextManager[tuple[Link, paramiko.Channel]]:
        if not urgent:
            return self.session(until)
        return nullcontext(self.open_session(until, URGENT_BUSY_S))


def _script_job(
    script: str,
    arguments: Sequence[str],
    deadline_s: float,
    feed: Iterable[bytes] | None = None,
    on_stdout: Receiver | None = None,
) -> _Job:
    token = secrets.token_hex(16)
    source = "exec </dev/null; " if feed is None else ""
    body = f"export {shell.PROCESS_MARK}={token}; {source}{script}"
    line = shell.command_line(shell.introduced(token, body), arguments)
    return _Job(line=line, token=token, deadline_s=deadline_s, feed=feed, on_stdout=on_stdout)
