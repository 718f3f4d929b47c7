"""A container as a cell's service. Threads watch it, so that the measuring loop never waits for the engine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_staging.engine import GONE, Engine
from pytest_staging.model.errors import (
    HOST_GONE,
    ConnectionLost,
    EngineLost,
    EngineRefused,
    LeaseLost,
    PortTaken,
    ServiceFailed,
    StagingError,
)
from pytest_staging.model.ports import Usage
from pytest_staging.targets.cgroups import MemoryGroup, machine_oom_kills, memory_group
from pytest_staging.targets.container_output import ContainerOutput

KEPT = "staging-kept-"
LOOPBACK = "127.0.0.1"
KILL_DEADLINE_S = 10.0
LAST_WORDS_S = 2.0
SIGNALLED = range(129, 193)  # 128 + the signal's number; a program that exits so by itself cannot be told apart
CONFLICT = 409  # it does not run, or is being removed
OVER = (GONE, CONFLICT)
PORT_TAKEN = ("address already in use", "port is already allocated")
MIB = 1 << 20


@dataclass(frozen=True)
class Made:
    """A container that was created for a cell. `purpose` tells people whose it is; `port` is the one inside."""

    id: str
    purpose: str
    port: int
    memory_limit_bytes: int | None


class Ground(Protocol):
    """What a container's service needs of the machine that its engine runs on."""

    name: str

    def listen_address(self) -> str:
        """Where a container's port is published there."""
        ...

    def reach(self, port: int) -> str:
        """The base URL at which a published port answers here."""
        ...

    def leave(self) -> None:
        """Ends what `reach` made. May be called twice."""
        ...

    def memory_group(self, pid: int, container_id: str) -> MemoryGroup | None:
        """The control group of a container's main process, or None."""
        ...

    def oom_kills(self) -> int | None:
        """How many processes the machine's kernel has killed for want of memory, or None."""
        ...

    def lease_lost(self) -> str:
        """Why the lease is not ours any more; empty while it is. Costs no call."""
        ...


class ThisMachine:
    """The ground of an engine on this machine, whose lease the kernel keeps."""

    name = "this machine"

    def listen_address(self) -> str:
        return LOOPBACK

    def reach(self, port: int) -> str:
        return f"http://{LOOPBACK}:{port}"

    def leave(self) -> None:
        """There is nothing to end."""

    def memory_group(self, pid: int, container_id: str) -> MemoryGroup | None:
        return memory_group(pid, container_id)

    def oom_kills(self) -> int | None:
        return machine_oom_kills()

    def lease_lost(self) -> str:
        return ""


class ContainerService:
    """A created container, to be started here. Whoever makes one stops it, also when it cannot be started."""

    def __init__(self, engine: Engine, made: Made, log: Path, ground: Ground) -> None:
        self._engine, self._made, self._ground = engine, made, ground
        self._api = engine.client.api
        self._code: int | None = None
        self._lost: StagingError | None = None
        self._over = threading.Event()
        self._ending = ""
        self._starved = self._asked = False
        self._stopped = ""
        self._group: MemoryGroup | None = None
        self._oom_kills_before = ground.oom_kills()
        self._stop_signal = "SIGTERM"
        self._port = 0
        self.base_url = f"http://{LOOPBACK}:0"  # nobody can listen there
        self._output = ContainerOutput(engine, made.id, log)

    def start(self) -> None:
        """Raises ServiceFailed with the engine's words, PortTaken, EngineLost or ConnectionLost."""
        try:
            self._call("start", self._api.start, accept=())
        except EngineRefused as error:
            taken = any(words in error.reason for words in PORT_TAKEN)
            raise (PortTaken if taken else ServiceFailed)(f"the service cannot be started: {error.reason}") from error
        threading.Thread(target=self._watch, name=f"wait {self._made.id[:12]}", daemon=True).start()
        self._read(self._call("inspect", self._api.inspect_container) or {})

    def discard(self) -> None:
        """Removes what could not be started. The error that led here matters more than one that happens now."""
        with suppress(StagingError):
            self._call("remove", self._api.remove_container, v=True, force=True)
        self._output.close(LAST_WORDS_S)
        self._ground.leave()

    def poll(self) -> int | None:
        """Costs no call. Raises EngineLost once the engine has let go of its answer; ConnectionLost, LeaseLost."""
        if not self._stopped and (reason := self._ground.lease_lost()):
            raise LeaseLost(f"{self._ground.name}: the lease of the host was lost: {reason}.")
        if self._code is None and self._lost is not None:
            gone = ConnectionLost if isinstance(self._lost, HOST_GONE) else EngineLost
            raise gone(f"the service is lost from sight: {self._lost}") from self._lost
        return self._code

    def ending(self) -> str:
        """As the Protocol says; whether it was for want of memory is the engine's word."""
        if self._ending:
            return self._ending
        if self._code is None:
            return "is lost from sight" if self._lost else "still runs"
        self._output.close(LAST_WORDS_S)
        self._ending = self._describe_end(self._code)
        return self._ending

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """As the Protocol says, by the image's own stop signal. Raises EngineLost or ConnectionLost, the first time.

        Bounded by the grace, 10 s for the kernel to kill it, and the engine's time limit for each call.
        """
        if not self._stopped:
            try:
                self._stopped = self._stop(grace_s, keep)
            except (EngineLost, ConnectionLost) as error:
                self._output.close(0.0)
                self._stopped = f"could not be stopped: {error.reason}"
                raise
            finally:
                self._ground.leave()
        return self._stopped

    def peak_resident_bytes(self) -> int | None:
        """The peak of its control group: all its processes and their page cache. Raises ConnectionLost."""
        return self._group.peak_bytes() if self._group else None

    def usage(self) -> Usage | None:
        """What its control group tells. Raises ConnectionLost."""
        return self._group.usage() if self._group else None

    def owns_endpoint(self) -> bool | None:
        """The engine's own mapping leads to this container and nowhere else; None when it has none any more."""
        return True if self._port and self._code is None else None

    def _stop(self, grace_s: float, keep: bool) -> str:
        self._starved = self._starved or self._starves()
        how = self._end(grace_s)
        self.ending()
        self._output.close(LAST_WORDS_S)
        if self._starved:
            how += f"; the kernel had killed one of its processes: {self._want()}"
        if keep:
            return f"{how}; {self._keep()}"
        self._call("remove", self._api.remove_container, v=True, force=True)
        return how

    def _end(self, grace_s: float) -> str:
        if self._code is not None:
            return "had ended"
        self._asked = True
        for name, patience_s in ((self._stop_signal, grace_s), ("SIGKILL", KILL_DEADLINE_S)):
            if patience_s > 0:
                self._call("signal", self._api.kill, name)
                # An engine that came back ended it without our seeing how.
                if self._over.wait(patience_s) and not self._lost:
                    return "killed" if name == "SIGKILL" else "ended"
        return "killed"

    def _keep(self) -> str:
        name = f"{KEPT}{self._made.purpose}-{self._made.id[:12]}"
        try:
            self._call("rename", self._api.rename, name, accept=())
        except EngineRefused as error:
            return "nothing is kept: " + ("its container is gone" if error.status == GONE else error.reason)
        return f"kept as container {name}: docker logs {name}; docker rm -v {name}"

    def _watch(self) -> None:
        try:
            answer = self._call("wait", self._api.wait, accept=(GONE,)) or {"StatusCode": 128 + signal.SIGKILL}
            if answer.get("Error"):
                raise EngineLost(f"the Docker engine cannot wait for it: {answer['Error'].get('Message')}")
            code = int(answer["StatusCode"])
            self._code = 128 - code if code in SIGNALLED else code
        except StagingError as error:
            self._lost = error
        finally:
            self._over.set()

    def _read(self, facts: dict[str, Any]) -> None:
        """What only a started container has; one that ended at once has lost most of it again."""
        published = facts.get("NetworkSettings", {}).get("Ports", {}).get(f"{self._made.port}/tcp")
        if published:
            self._port = int(published[0]["HostPort"])
            self.base_url = self._ground.reach(self._port)
        self._group = self._ground.memory_group(int(facts.get("State", {}).get("Pid", 0)), self._made.id)
        self._stop_signal = facts.get("Config", {}).get("StopSignal") or self._stop_signal

    def _starves(self) -> bool:
        # One that cannot be looked at any more has to be stopped all the same.
        with suppress(StagingError):
            return self._lost is None and bool(self._group and self._group.oom_kills())
        return False

    def _describe_end(self, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        try:
            facts = self._call("inspect", self._api.inspect_container)
        except StagingError:
            return how  # what the engine had said before it was lost
        if facts is None:
            return f"{how}; somebody else removed its container"
        self._starved = self._starved or bool(facts["State"].get("OOMKilled")) or self._starved_unseen()
        if not self._starved:
            return how
        if code == -signal.SIGKILL and not self._asked:
            return f"was killed by the kernel: {self._want()}"
        return f"{how}, after the kernel had killed one of its processes: {self._want()}"

    def _starved_unseen(self) -> bool:
        """On a busy machine the engine misses one in twenty such kills: the group is gone before it looks.

        Then the kernel's own count tells, which is the whole machine's. Nobody else measures there meanwhile.
        """
        if self._made.memory_limit_bytes is None or self._asked:
            return False
        with suppress(StagingError):
            kills = self._ground.oom_kills()
            return None not in (kills, self._oom_kills_before) and kills != self._oom_kills_before
        return False

    def _want(self) -> str:
        limit_bytes = self._made.memory_limit_bytes
        if limit_bytes is None:
            return f"{self._ground.name} ran out of memory"
        return f"it needed more than its memory limit of {limit_bytes // MIB} MiB"

    def _call(
        self, what: str, function: Callable[..., Any], *given: Any, accept: Sequence[int] = OVER, **named: Any
    ) -> Any:
        name = f"{what} container {self._made.id[:12]}"
        return self._engine.call(name, function, self._made.id, *given, accept=accept, **named)
