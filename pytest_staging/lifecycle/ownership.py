"""Who made a VM of this machine, and who uses it: a folder of this user's for each VM, with two locks and a record.

The multipass CLI gives a VM no labels, so that what is ours is written down here before it is made: a launch that was
killed is known by its record. Several controllers may use one VM; the last one deletes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pytest_staging import durable
from pytest_staging.model.errors import LeaseTimeout, StorageError, VmFailed

POLL_S = 0.1


@dataclass(frozen=True)
class Record:
    """A VM that we began to make. `host_key` is the one that it was given (`TYPE BASE64`): by it it is recognised."""

    host_key: str
    is_ready: bool
    schema_version: int = 1


class Claim:
    """One controller's share in the VM of that name. Close it."""

    def __init__(self, vm: str) -> None:
        """Makes nothing yet."""
        self.vm = vm
        self.folder = _state_folder() / vm
        self.known_hosts = self.folder / "known_hosts"
        self._record_path = self.folder / "made.json"
        self._used: IO[bytes] | None = None

    @contextmanager
    def changing(self, deadline_s: float, stop: threading.Event | None = None) -> Iterator[None]:
        """Nobody else launches or deletes the VM meanwhile. Raises LeaseTimeout, and VmFailed when told to stop."""
        with self._open("change.lock") as file:
            until = time.monotonic() + deadline_s
            while not _locked(file, fcntl.LOCK_EX):
                if time.monotonic() > until:
                    raise LeaseTimeout(
                        f"the VM {self.vm} was being launched or deleted elsewhere for {deadline_s:g} s."
                    )
                if (stop or threading.Event()).wait(POLL_S):
                    raise VmFailed(f"the VM {self.vm} is not wanted any more.")
            yield

    def use(self) -> None:
        """From now on this controller counts as a user. Only while `changing`."""
        self._used = self._open("use.lock")
        # It is held alone only by who deletes, and that needs `changing` too.
        _locked(self._used, fcntl.LOCK_SH)

    def is_last_user(self) -> bool:
        """Whether no other controller uses the VM. Only while `changing`."""
        return self._used is not None and _locked(self._used, fcntl.LOCK_EX)

    def close(self) -> None:
        """Ends the use. May be called twice."""
        if self._used:
            self._used.close()
        self._used = None

    def _open(self, name: str) -> IO[bytes]:
        with durable.storing(self.folder / name):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return (self.folder / name).open("a+b")  # a shared lock on NFS needs a file that is read

    @property
    def record(self) -> Record | None:
        """None for a VM that we did not make. Raises StorageError for a record that makes no sense."""
        try:
            data = json.loads(self._record_path.read_text())
            return Record(str(data["host_key"]), bool(data["is_ready"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self._record_path} cannot be read. Is the VM {self.vm} one of ours? Remove the file, "
                "and the VM too if it is."
            ) from error

    def note(self, record: Record) -> None:
        """Survives a power cut."""
        durable.write_text(self._record_path, json.dumps(asdict(record)) + "\n")

    def note_address(self, address: str, host_key: str) -> None:
        """The VM's known_hosts file; an address changes when a VM is started again."""
        durable.write_text(self.known_hosts, f"{address} {host_key}\n")

    def forget(self) -> None:
        """The VM is gone. The locks stay: one that is removed would lock nobody out."""
        durable.remove(self.known_hosts)
        durable.remove(self._record_path)


def _state_folder() -> Path:
    """Of this user, and not among temporary files: VMs outlive a boot."""
    named = os.environ.get("XDG_STATE_HOME", "")
    base = Path(named) if named.startswith("/") else Path.home() / ".local" / "state"
    return base / "pytest-staging" / "vms"


def _locked(file: IO[bytes], kind: int) -> bool:
    with durable.storing(Path(file.name)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
