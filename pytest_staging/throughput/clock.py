"""The two clocks of this machine."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_staging.throughput.machine import Instant

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def system_clock() -> Instant:
    """Now. The monotonic clock is that of the boot: it counts while the machine sleeps, and over restarts of ours."""
    return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id())


def _boot_id() -> str:
    global _boot
    if not _boot:
        _boot = BOOT_ID.read_text().strip()
    return _boot


_boot = ""
