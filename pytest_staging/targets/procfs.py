"""What Linux's /proc tells about processes. Everything here may race with processes that end, and says None then.

Source: proc(5). Resident sizes in bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_staging.model.ports import Usage

PROC = Path("/proc")
_LISTEN = "0A"
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
_CPU_TIMES = slice(11, 15)  # utime, stime, cutime, cstime


def process_ids() -> Iterator[int]:
    """Every process that /proc shows."""
    for entry in os.listdir(PROC):
        if entry.isdigit():
            yield int(entry)


def is_alive(pid: int) -> bool:
    """False for a zombie too: a dead process that nobody has waited for still answers signal 0."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in ("Z", "X")


def session_members(session: int, unwaited: bool = False) -> list[int]:
    """Living processes of a session, the leader's orphans included; `unwaited`: dead ones that nobody has waited for.

    Until its parent waits, what a dead process has used is in no other's account.
    """
    found = []
    for pid in process_ids():
        fields = _stat(pid)
        if (
            fields is not None
            and fields[3] == str(session)
            and (fields[0] == "Z" if unwaited else fields[0] not in "ZX")
        ):
            found.append(pid)
    return found


def marked_processes(name: str, value: str) -> list[int]:
    """Living processes that were started with the environment variable `name=value`, in whatever session they are."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in process_ids():
        with suppress(OSError):
            environ = (PROC / str(pid) / "environ").read_bytes()
            if wanted in environ and wanted in environ.split(b"\0") and is_alive(pid):
                found.append(pid)
    return found


def peak_resident_bytes(pids: list[int]) -> int | None:
    """Sum of VmHWM; None when not one of the processes could be read."""
    peaks = [peak for pid in pids if (peak := _peak(pid)) is not None]
    return sum(peaks) if peaks else None


def cpu_seconds(pids: list[int]) -> float | None:
    """User and system time, with that of children that have ended; None when not one of the processes could be read."""
    fields = [found for pid in pids if (found := _stat(pid)) is not None]
    ticks = [sum(map(int, one[_CPU_TIMES])) for one in fields]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def machine_busy_seconds() -> float | None:
    """In which the CPUs of this machine ran anything, or another machine on the same hardware had them."""
    with suppress(OSError, ValueError):
        user, nice, system, _idle, _iowait, *others = map(
            int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
    return None


def cpu_wait_seconds(pids: list[int]) -> float | None:
    """Time in which their threads were ready to run and had no CPU; None where the kernel does not count it."""
    waits = []
    for pid in pids:
        with suppress(OSError, IndexError):
            for thread in os.listdir(PROC / str(pid) / "task"):
                waits.append(int((PROC / str(pid) / "task" / thread / "schedstat").read_text().split()[1]))
    return sum(waits) / 1e9 if waits else None


def usage(pids: list[int]) -> Usage | None:
    """What the processes have used so far, and hold now; None when not one of them could be read.

    Context switches are those of the threads that live: a process does not sum up those of its dead ones.
    """
    cpu_s, resident = cpu_seconds(pids), [pages for pid in pids if (pages := _resident_pages(pid)) is not None]
    switches = {thread: counts for pid in pids for thread, counts in _thread_switches(pid)}
    if cpu_s is None:
        return None
    return Usage(
        cpu_s=cpu_s,
        switches=switches or None,
        resident_bytes=sum(resident) * os.sysconf("SC_PAGE_SIZE") if resident else None,
    )


def parse_switches(status: str) -> tuple[int, int] | None:
    """Voluntary and involuntary context switches of one thread, out of its status file."""
    found = _SWITCHES.findall(status)
    return (int(found[0]), int(found[1])) if len(found) == 2 else None


def holds_listener(pids: list[int], port: int) -> bool | None:
    """Whether one of `pids` has the socket that listens on TCP `port`.

    None when no listener is to be seen, or a process does not show its files (it runs as another user).
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    hidden = False
    for pid in pids:
        try:
            if inodes & _socket_inodes(pid):
                return True
        except PermissionError:
            hidden = True
        except OSError:
            continue
    return None if hidden else False


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on: state, ppid, pgrp, session, ..."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _peak(pid: int) -> int | None:
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _resident_pages(pid: int) -> int | None:
    with suppress(OSError, IndexError, ValueError):
        return int((PROC / str(pid) / "statm").read_text().split()[1])
    return None


def _thread_switches(pid: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The id of each thread, and its voluntary and involuntary switches."""
    with suppress(OSError):
        for thread in os.listdir(PROC / str(pid) / "task"):
            with suppress(OSError):
                # By plain open: a service may have hundreds of threads, and this is done while it is measured.
                with open(f"{PROC}/{pid}/task/{thread}/status", encoding="latin-1") as status:  # noqa: PTH123
                    found = parse_switches(status.read())
                if found:
                    yield int(thread), found


def _socket_inodes(pid: int) -> set[str]:
    folder = PROC / str(pid) / "fd"
    inodes: set[str] = set()
    for descriptor in os.listdir(folder):
        with suppress(FileNotFoundError):
            link = os.readlink(folder / descriptor)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    return inodes


def _listening_inodes(port: int) -> set[str]:
    suffix = f":{port:04X}"
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(suffix) and fields[3] == _LISTEN:
                    inodes.add(fields[9])
    return inodes
