"""This machine as the source of load for services on hosts: how many it may send at once, over all campaigns."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_staging import durable
from pytest_staging.model.errors import LeaseTimeout
from pytest_staging.targets.local import LocalTarget, private_folder

if TYPE_CHECKING:
    from filelock import FileLock

POLL_S = 0.05
CPUS_PER_LOAD = 2


class GeneratorSlots:
    """`slots` loads at once; None is one for each two CPUs.

    The first slot is the lease of the local target: who measures a service on this machine has it for that alone.
    """

    def __init__(self, local: LocalTarget, slots: int | None = None) -> None:
        first = local.lease_path
        self.slots = slots or max(1, (os.cpu_count() or 1) // CPUS_PER_LOAD)
        self._paths = [first, *(first.with_name(f"generator-{number}.lease") for number in range(2, self.slots + 1))]

    @contextmanager
    def lease(self, timeout_s: float) -> Iterator[None]:
        """One slot, given back by the kernel when its holder dies. Raises LeaseTimeout."""
        private_folder(self._paths[0].parent)
        lock = self._acquire(time.monotonic() + timeout_s, timeout_s)
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, until: float, timeout_s: float) -> FileLock:
        while True:
            for path in self._paths:
                if lock := _try(path):
                    return lock
            if time.monotonic() > until:
                raise LeaseTimeout(
                    f"this machine sends {self.slots} loads already (generator_slots in targets.yaml); waited "
                    f"{timeout_s:g} s. Let one finish, or stop it."
                )
            time.sleep(POLL_S)


def _try(path: Path) -> FileLock | None:
    from filelock import FileLock, Timeout

    lock = FileLock(str(path))
    with durable.storing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:  # which is an OSError too
            return None
    return lock
