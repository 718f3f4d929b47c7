"""Any program of the user's that prints Prometheus text, run again and again on this machine over one load window."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from pytest_staging.metrics.exposition import SeriesParser
from pytest_staging.metrics.reducing import reduce_all
from pytest_staging.metrics.sampler import Recording, Sampler, Values
from pytest_staging.model.benchmark import SourceSpec
from pytest_staging.model.observing import Reading
from pytest_staging.model.ports import Service
from pytest_staging.model.version import ModeSpec

MAX_OUTPUT_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
MARGIN_S = 1.0


class CommandMetrics:
    """The metrics of `spec.names`, out of what `spec.argv` prints. `{base_url}` and `{script}` are filled in."""

    def __init__(self, spec: SourceSpec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self.title = spec.title
        self.metrics = tuple(spec.names or ())

    def observe(self, base_url: str, mode: ModeSpec, service: Service) -> CommandObservation:
        script = str((self._folder / self._spec.script).absolute()) if self._spec.script else ""
        argv = [word.replace("{base_url}", base_url).replace("{script}", script) for word in self._spec.argv or ()]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return CommandObservation(argv, {**environment, "STAGING_BASE_URL": base_url}, self._folder, self._spec)


class CommandObservation:
    """Runs it in a thread: at once, every interval, and once more at the window's end."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, spec: SourceSpec) -> None:
        self._argv, self._environment, self._folder = argv, environment, folder
        self._wanted, self._timeout_s = dict(spec.names or {}), spec.timeout_s
        self._parser = SeriesParser(self._wanted)
        self._closed = threading.Event()
        # The program's own CPU time is what the user has asked for, and its wall time what it may wait for.
        self._sampler = Sampler(self._run, spec.interval_s)

    def begin(self) -> None:
        self._sampler.begin()

    def end(self) -> None:
        self._sampler.stop()

    def finish(self) -> tuple[Reading, Recording]:
        recording = self._sampler.join(2 * self._timeout_s + MARGIN_S)
        return reduce_all(self._wanted, recording, self._argv[0]), recording

    def close(self) -> None:
        """Ends a program that still runs, too."""
        self._closed.set()
        self._sampler.join(self._timeout_s + MARGIN_S)

    def _run(self) -> Values:
        return self._parser.parse(
            run_for_output(self._argv, self._environment, self._folder, self._timeout_s, self._closed)
        )


def run_for_output(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float, closed: threading.Event
) -> str:
    """What a program prints. Everything that it started in its group is killed before this returns.

    Raises ValueError when it does not end well within `timeout_s`, prints more than MAX_OUTPUT_BYTES or no UTF-8, or
    `closed` is set meanwhile; OSError when it cannot be started.
    """
    deadline = time.monotonic() + timeout_s
    process = subprocess.Popen(
        list(argv), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = _read(process, deadline, timeout_s, closed)
        _await_exit(process.pid, deadline, timeout_s, closed)
    finally:
        # Nobody has waited for it yet, so the number is still its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe
            pipe.close()
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"ended with status {process.returncode}" + "".join(f": {line}" for line in last))
    return output.decode("utf-8")


def _read(
    process: subprocess.Popen[bytes], deadline: float, timeout_s: float, closed: threading.Event
) -> tuple[bytes, bytes]:
    read: dict[str, bytearray] = {"output": bytearray(), "errors": bytearray()}
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("output", process.stdout), ("errors", process.stderr)):
            assert pipe
            selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map():
            _require_time(deadline, timeout_s, closed)
            for key, _ in selector.select(0.1):
                pipe_read: IO[bytes] = key.fileobj  # type: ignore[assignment]
                chunk = os.read(pipe_read.fileno(), CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                read[key.data] += chunk
                if len(read[key.data]) > MAX_OUTPUT_BYTES:
                    raise ValueError(f"prints more than {MAX_OUTPUT_BYTES >> 20} MiB")
    return bytes(read["output"]), bytes(read["errors"])


def _await_exit(pid: int, deadline: float, timeout_s: float, closed: threading.Event) -> None:
    """Looks without taking the exit status: the group's number stays taken until then."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        _require_time(deadline, timeout_s, closed)
        time.sleep(0.002)


def _require_time(deadline: float, timeout_s: float, closed: threading.Event) -> None:
    if time.monotonic() > deadline or closed.is_set():
        raise ValueError(f"did not end within {timeout_s:g} s")
