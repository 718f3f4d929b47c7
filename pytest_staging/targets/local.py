"""Cells as processes of this machine, one at a time."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import LeaseTimeout, ServiceFailed, StorageError
from pytest_staging.model.ports import Command, CpuTime, Deployment, Usage
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets import procfs
from pytest_staging.targets.output import BoundedLog

OF_PYTEST = ("PYTEST_", "COV_CORE_", "COVERAGE_PROCESS_")
"""Variables by which pytest's plugins reach into child processes; what is measured must not be traced."""
LEASE_MARK = "STAGING_LEASE"
PROCESS_MARK = "STAGING_PROCESS"
KILL_DEADLINE_S = 10.0
LAST_WORDS_S = 0.5
LOOPBACK = "127.0.0.1"


class LocalTarget:
    """Processes on this machine. `lease_folder` is shared by every campaign of this user on it."""

    name = "local"

    def __init__(self, lease_folder: Path | None = None) -> None:
        self.lease_path = (lease_folder or default_lease_folder()) / "local.lease"

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """Exclusive on this host, over processes and campaigns; released by the kernel when the holder dies."""
        from filelock import FileLock, Timeout

        private_folder(self.lease_path.parent)
        lock = FileLock(str(self.lease_path))
        with durable.storing(self.lease_path):
            try:
                lock.acquire(timeout=timeout_s, poll_interval=0.02)
            except Timeout as error:  # which is an OSError too
                raise LeaseTimeout(
                    f"this host is measured by {self._holder()}; waited {timeout_s:g} s. Let it finish, or stop it."
                ) from error
        try:
            end_marked(LEASE_MARK, str(self.lease_path))
            with durable.storing(self.lease_path):
                note = json.dumps({"holder": holder, "pid": os.getpid()})
                self.lease_path.with_suffix(".holder").write_text(note)
            yield
        finally:
            try:
                # An interrupt between a start and its clean-up leaves nothing either.
                end_marked(LEASE_MARK, str(self.lease_path))
            finally:
                lock.release()

    def _holder(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.lease_path.with_suffix(".holder").read_text())
            return f"{note['holder']} (pid {note['pid']})"
        return "another campaign"

    def facts(self) -> Mapping[str, Any]:
        return {
            "name": socket.gethostname(),
            "cpu": _cpu_model(),
            "cpus": os.cpu_count(),
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "load_average_1min": round(os.getloadavg()[0], 2),
        }

    def require_ready(self) -> None:
        """Processes of this machine need nothing that the program does not already have."""

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return None if mode.start else "has no start command"

    def deploy(self, deployment: Deployment) -> LocalService:
        port = self.free_port()
        command = start_command(deployment, LOOPBACK, port)
        try:
            return LocalService(self.start(command), port)
        except OSError as error:
            what = f"{error.strerror}: {command.argv[0]}"
            raise ServiceFailed(f"the service cannot be started: {what}") from error

    def free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            return int(probe.getsockname()[1])

    def run(self, command: Command, deadline_s: float) -> int | None:
        """Runs to the end and returns the exit status; None when the deadline passed and the group was killed."""
        process = self.start(command)
        try:
            return process.wait(deadline_s)
        finally:
            process.stop(0.0)

    def start(self, command: Command) -> LocalProcess:
        return LocalProcess(command, {LEASE_MARK: str(self.lease_path)})


class LocalService:
    """A version as a process of this machine, told to listen on `port` of the loopback address."""

    def __init__(self, process: LocalProcess, port: int) -> None:
        self._process = process
        self._port = port
        self.base_url = f"http://{LOOPBACK}:{port}"

    def poll(self) -> int | None:
        return self._process.poll()

    def ending(self) -> str:
        code = self._process.poll()
        if code is None:
            return "still runs"
        self._process.end_log()
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """There is nothing of a process to keep besides its log and its artifact, which stay anyway."""
        return self._process.stop(grace_s)

    def peak_resident_bytes(self) -> int | None:
        return self._process.peak_resident_bytes()

    def usage(self) -> Usage | None:
        return self._process.usage()

    def owns_endpoint(self) -> bool | None:
        return self._process.listens_on(self._port)


class LocalProcess:
    """A program in a session of its own. What it started is found by the session, or by a mark in the environment.

    Neither finds all: a daemon leaves the session, `env -i` loses the mark.
    """

    def __init__(self, command: Command, marks: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        environment = {key: value for key, value in os.environ.items() if not key.startswith(OF_PYTEST)}
        environment |= {**command.env, **marks, PROCESS_MARK: self._mark}
        reading, writing = os.pipe()
        try:
            # Before the program: one whose log cannot be opened must not run.
            with durable.storing(command.log):
                self._log = BoundedLog(command.log, reading, command.echo)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        try:
            self._popen = subprocess.Popen(
                list(command.argv),
                cwd=command.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(writing)
            self._log.close()
            raise
        os.close(writing)
        self._ended = ""

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, deadline_s: float) -> int | None:
        """Exit status, or None when the program still runs after `deadline_s`."""
        try:
            return self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return None

    def end_log(self) -> None:
        """Completes the log of a program that has ended: its last words are the ones that explain it."""
        self._log.close(LAST_WORDS_S)

    def peak_resident_bytes(self) -> int | None:
        """Largest resident memory so far, summed over the group; None when it cannot be read."""
        return procfs.peak_resident_bytes(self._members())

    def cpu_time(self) -> CpuTime | None:
        """Of the group so far; None when it cannot be read."""
        members = self._members()
        used_s = procfs.cpu_seconds(members)
        return None if used_s is None else CpuTime(used_s=used_s, waited_s=procfs.cpu_wait_seconds(members))

    def usage(self) -> Usage | None:
        """CPU time, context switches and memory of the group; None when they cannot be read."""
        living = self._members()
        return procfs.usage([*living, *procfs.session_members(self._popen.pid, unwaited=True)]) if living else None

    def listens_on(self, port: int) -> bool | None:
        """Whether one of the group's processes holds the listening socket; None when that cannot be told."""
        return procfs.holds_listener(self._members(), port)

    def stop(self, grace_s: float) -> str:
        if self._ended:
            return self._ended
        asked = self._popen.poll() is None
        try:
            if asked and grace_s > 0:
                self._signal_group(signal.SIGTERM)
                self.wait(grace_s)
            self._ended = self._kill_rest(asked)
        finally:
            self._log.close()
        return self._ended

    def _kill_rest(self, asked: bool) -> str:
        stubborn = self._popen.poll() is None
        deadline = time.monotonic() + KILL_DEADLINE_S
        leftovers = 0
        while members := self._members():
            leftovers = max(leftovers, len(members))
            _kill_all(members)
            if time.monotonic() > deadline:
                raise StorageError(f"processes {members} survive SIGKILL; look at them with ps.")
            self.wait(0.02)
            time.sleep(0.002)
        self.wait(KILL_DEADLINE_S)
        if stubborn:
            return "killed"
        return f"ended, {leftovers} left over killed" if leftovers else "ended" if asked else "had ended"

    def _members(self) -> list[int]:
        session = procfs.session_members(self._popen.pid)
        return sorted({*session, *procfs.marked_processes(PROCESS_MARK, self._mark)})

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def start_command(deployment: Deployment, host: str, port: int) -> Command:
    """What starts a version that is to listen on `host` and `port`, with its placeholders filled in."""
    artifact, snapshot = str(deployment.image.path), str(deployment.snapshot)
    values = {"{artifact}": artifact, "{host}": host, "{port}": str(port), "{snapshot}": snapshot}
    places = {"STAGING_ARTIFACT": artifact, "STAGING_VERSION_ROOT": snapshot}
    endpoint = {"STAGING_HOST": host, "STAGING_PORT": str(port)}
    return Command(
        argv=[_filled(word, values) for word in deployment.mode.start or ()],
        cwd=Path(artifact),
        log=deployment.log,
        env={**(deployment.mode.environment or {}), **deployment.environment, **places, **endpoint},
    )


def _filled(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


def end_marked(name: str, value: str) -> int:
    """Kills every process that carries the mark: leftovers of a holder that died. Says how many there were."""
    deadline = time.monotonic() + KILL_DEADLINE_S
    count = 0
    while pids := procfs.marked_processes(name, value):
        count = max(count, len(pids))
        _kill_all(pids)
        if time.monotonic() > deadline:
            raise StorageError(f"processes {pids} of an earlier campaign survive SIGKILL; look at them with ps.")
        time.sleep(0.005)
    return count


def _kill_all(pids: list[int]) -> None:
    for pid in pids:
        # One that may not be killed shows as a survivor.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def default_lease_folder() -> Path:
    """One folder per user and machine; STAGING_LEASE_FOLDER names another."""
    named = os.environ.get("STAGING_LEASE_FOLDER")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"pytest-staging-{os.getuid()}"


def private_folder(folder: Path) -> None:
    """Makes a folder that only its user reads. Raises StorageError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        advice = "Name another with STAGING_LEASE_FOLDER."
        raise StorageError(f"cannot make {folder}: {error.strerror}. {advice}") from error
    if folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to another user. Name another folder with STAGING_LEASE_FOLDER.")


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
