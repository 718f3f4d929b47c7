"""A load that runs on generators, as one process: begun together, watched, and its results brought here at the end."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pytest_staging import durable
from pytest_staging.model.errors import HOST_GONE, LeaseLost, LoadFailed, RemoteFailed, StagingError
from pytest_staging.model.placing import LoadPart
from pytest_staging.model.ports import CpuTime, LoadCommand
from pytest_staging.ssh.commands import RemoteProcess
from pytest_staging.ssh.files import QUICK_S, get_file
from pytest_staging.ssh.host import SYNC_DEADLINE_S
from pytest_staging.targets.generator_host import AWAIT, GeneratorHost
from pytest_staging.targets.remote_process import MEMBERS, MERGED, StreamedLog

T = TypeVar("T")
CELL = "cell"
LOAD_MARK = "STAGING_LOAD"
LEAD_S, LEAD_TRIPS = 0.3, 10
"""What it takes at most to tell all generators when the load begins: seconds, and round trips on a slow line."""
MAX_SPREAD_S = 1.0
MAX_CLOCK_STEP_S = 0.05
RESULT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
# $1 a file, $2 what it is to hold; it appears whole.
_PUT = 'printf %s "$2" >"$1.tmp" && mv -f "$1.tmp" "$1"'
# Prints CPU ticks per process, nanoseconds of waiting per thread, and the unit; then the ticks of the whole machine.
CPU = (
    MEMBERS
    + r"""
echo "unit $(getconf CLK_TCK 2>/dev/null)"
for pid in $pids; do
  { read -r line <"/proc/$pid/stat"; } 2>/dev/null || continue
  set -- ${line##*) }; shift 11; echo "ticks $(($1 + $2 + $3 + $4))"
  cat "/proc/$pid"/task/*/schedstat 2>/dev/null | while read -r _ waited _; do echo "waited $waited"; done
done
read -r _ user nice sys _ _ irq soft steal _ </proc/stat && echo "busy $((user + nice + sys + irq + soft + steal))"
true
"""
)
# $1 a folder.
_LIST = 'cd "$1" && find . -maxdepth 1 -type f | sed "s,^\\./,,"'
_EMPTY = 'find "$1" -mindepth 1 -delete'


@dataclass
class GeneratorRun:
    """What runs on one generator. `lost_reason` says, at no cost, why its lease is not ours any more."""

    host: GeneratorHost
    part: LoadPart
    lost_reason: Callable[[], str]

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._log: StreamedLog | None = None
        self._process: RemoteProcess | None = None

    @property
    def folder(self) -> str:
        """The counterpart of the cell's folder."""
        return f"{self.host.work}/{CELL}"

    def start(self) -> None:
        """Raises ConnectionLost or HostUnreachable naming the generator."""
        self._log = StreamedLog(self.part.log)
        env = {**self.part.env, **self.host.marks, LOAD_MARK: self.mark}
        with self.host.named():
            self._process = self.host.host.connection.start(
                [*MERGED, *self.part.argv], cwd=self.folder, env=env, on_stdout=self._log.receive
            )

    def poll(self) -> int | None:
        """Raises LoadFailed, ConnectionLost, LeaseLost."""
        if reason := self.lost_reason():
            raise LeaseLost(f"generator {self.host.name}: its lease was lost: {reason}.")
        assert self._process
        with self.host.named():
            status = self._process.poll()
        if status:
            self.end_log()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise LoadFailed(f"generator {self.host.name}: the load tool {how}", durable.read_tail(self.part.log))
        return status

    def stop(self, grace_s: float) -> str:
        """Ends the whole group; a host that is gone is left to its next lease."""
        how = "was not started"
        if self._process:
            try:
                self._process.poll()  # one that is lost already is not dialled for as long as a new one would be
                how = self._process.stop(grace_s)
            except HOST_GONE:
                how = self._end_marked()
        self.end_log()
        return how

    def cpu_time(self) -> CpuTime | None:
        """Of the group so far. Raises ConnectionLost."""
        assert self._process
        mark = f"{LOAD_MARK}={self.mark}"
        text = self._run(CPU, mark, str(self._process.pid), what="looking at the load tool")
        return parse_cpu(text)

    def await_file(self, name: str, deadline_s: float) -> float:
        """The instant that it holds. Raises LoadFailed when it does not come."""
        assert self._process
        path = f"{self.folder}/{name}"
        with self.host.named():
            script = self.host.host.connection.run_script(AWAIT, path, str(self._process.pid), deadline_s=deadline_s)
        if script.timed_out:
            raise LoadFailed(f"generator {self.host.name}: the load tool never began to send", self._tail())
        said = script.require(f"waiting for {name}").stdout.decode(errors="replace").strip()
        try:
            return float(said)
        except ValueError as error:
            raise LoadFailed(
                f"generator {self.host.name}: the load tool ended before it began to send", self._tail()
            ) from error

    def write(self, name: str, text: str) -> None:
        """A file of the cell's folder there."""
        self._run(_PUT, f"{self.folder}/{name}", text, what=f"writing {name}")

    def fetch(self, folder: Path, known: Sequence[str]) -> None:
        """Every file that the load left, but the `known` ones; then they are removed there."""
        connection = self.host.host.connection
        names = self._run(_LIST, self.folder, what="looking for results").splitlines()
        for name in sorted(set(names) - set(known)):
            if not RESULT.fullmatch(name):
                raise RemoteFailed(f"generator {self.host.name}: a result has a name that is not taken: {name!r}")
            local = folder / name
            if local.exists():  # of another generator, or none of the load tool's business
                local = local.with_name(f"{local.stem}@{self.host.name}{local.suffix}")
            with self.host.named():
                get_file(connection, f"{self.folder}/{name}", local, deadline_s=SYNC_DEADLINE_S)
        self._run(_EMPTY, self.folder, what="removing results")

    def require_steady_clock(self) -> None:
        """Raises LoadFailed when somebody set the clock while the load was on: nothing can be put in order then."""
        before, after = self.part.place.clock, self.host.clock()
        step_s = abs(after.ahead_s - before.ahead_s)
        if step_s > MAX_CLOCK_STEP_S + before.uncertainty_s + after.uncertainty_s:
            raise LoadFailed(f"generator {self.host.name}: its clock was set by {step_s:.2f} s while it sent the load")

    def end_log(self) -> None:
        """What came until now is in the file then."""
        if self._log:
            self._log.close()

    def _tail(self) -> str:
        return durable.read_tail(self.part.log)

    def _end_marked(self) -> str:
        with suppress(StagingError):
            self.host.host.end_marked(LOAD_MARK, self.mark)
            return "killed, after the connection was lost"
        return "could not be stopped: the generator is gone"

    def _run(self, script: str, *arguments: str, what: str) -> str:
        with self.host.named():
            result = self.host.host.connection.run_script(script, *arguments, deadline_s=QUICK_S).require(what)
        return result.stdout.decode(errors="replace")


class GeneratorLoad:
    """All of them as one Process. `inputs` are names of files that are no results."""

    def __init__(self, runs: Sequence[GeneratorRun], load: LoadCommand, folder: Path, inputs: Sequence[str]) -> None:
        """Starts them. Raises ConnectionLost or HostUnreachable naming the generator; then none is left running."""
        self._runs, self._load, self._folder = list(runs), load, folder
        own = [name for run in runs for name in (run.part.ready, run.part.prepared, run.part.go) if name]
        self._known = [*inputs, *own]
        self._error: BaseException | None = None
        self._fetched = False
        try:
            self._each(GeneratorRun.start)
        except BaseException:
            self.stop(0.0)
            raise
        self._thread = threading.Thread(target=self._lead, name="load lead", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """As the Protocol says; 0 when all have ended well and what they left is here."""
        if self._error is not None:
            # What ended is the better reason for what did not come.
            for run in self._runs:
                run.poll()
            raise self._error
        # Each is asked: one that goes on must not hide another that failed.
        if None in [run.poll() for run in self._runs]:
            return None
        if not self._fetched:
            for run in self._runs:
                run.end_log()
            self._each(lambda run: run.fetch(self._folder, self._known))
            self._each(GeneratorRun.require_steady_clock)
            self._fetched = True
        return 0

    def stop(self, grace_s: float) -> str:
        hows = self._each(lambda run: run.stop(grace_s))
        return "; ".join(f"{run.host.name}: {how}" for run, how in zip(self._runs, hows, strict=True))

    def cpu_time(self) -> CpuTime | None:
        """Of all; with several, of each too."""
        found = self._each(GeneratorRun.cpu_time)
        known = {run.host.name: one for run, one in zip(self._runs, found, strict=True) if one is not None}
        if len(known) < len(found):
            return None
        waits = [one.waited_s for one in known.values() if one.waited_s is not None]
        return CpuTime(
            used_s=sum(one.used_s for one in known.values()),
            waited_s=sum(waits) if len(waits) == len(known) else None,
            parts=known,
        )

    def _lead(self) -> None:
        """Tells all when to begin, and says here when they send."""
        try:
            self._give_signal()
            ready = [run for run in self._runs if run.part.ready]
            instants = self._each(self._ready_at, ready)
            if (spread_s := max(instants) - min(instants)) > MAX_SPREAD_S:
                raise LoadFailed(f"the generators began {spread_s:.2f} s apart; is one of them slow?")
            durable.write_text(self._load.ready_file, repr(max(instants)))
        except BaseException as error:
            self._error = error

    def _give_signal(self) -> None:
        waiting = [run for run in self._runs if run.part.go]
        if not waiting:
            return
        self._each(lambda run: run.await_file(run.part.prepared or "", self._load.deadline_s), waiting)
        slowest_s = max(2 * run.part.place.clock.uncertainty_s for run in waiting)
        begin_s = time.time() + max(LEAD_S, LEAD_TRIPS * slowest_s)
        self._each(lambda run: run.write(run.part.go or "", repr(begin_s + run.part.place.clock.ahead_s)), waiting)

    def _ready_at(self, run: GeneratorRun) -> float:
        """By this machine's clock."""
        return run.await_file(run.part.ready or "", self._load.deadline_s) - run.part.place.clock.ahead_s

    def _each(self, work: Callable[[GeneratorRun], T], runs: Sequence[GeneratorRun] | None = None) -> list[T]:
        chosen = self._runs if runs is None else runs
        with ThreadPoolExecutor(max(1, len(chosen)), "generators") as pool:
            return list(pool.map(work, chosen))


def parse_cpu(text: str) -> CpuTime | None:
    """Sums of what the script prints; None when no process was there."""
    found = _numbers(text)
    if not found["ticks"]:
        return None
    waits = found["waited"]
    return CpuTime(used_s=sum(found["ticks"]) / _unit(found), waited_s=sum(waits) / 1e9 if waits else None)


def parse_busy(text: str) -> float | None:
    """Seconds in which the machine's CPUs were busy, out of the same."""
    found = _numbers(text)
    return sum(found["busy"]) / _unit(found) if found["busy"] else None


def _numbers(text: str) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {"unit": [], "ticks": [], "waited": [], "busy": []}
    for name, _, value in (line.partition(" ") for line in text.splitlines()):
        if name in found and value.isdecimal():
            found[name].append(int(value))
    return found


def _unit(found: Mapping[str, list[int]]) -> int:
    return next(iter(found["unit"]), 100)
