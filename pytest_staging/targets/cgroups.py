"""What a container's control group tells about its memory and CPU, in version 1 and version 2 of the interface.

Everything here may race with a container that ends, and says None then. The files may be those of another machine:
`read` gives the texts of several at once, None for one that cannot be read. Sources: cgroups(7), the kernel's
admin-guide/cgroup-v1/memory.rst, cpuacct.rst and admin-guide/cgroup-v2.rst, proc_pid_mountinfo(5), proc_vmstat(5),
proc_pid_status(5). Sizes in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.model.ports import Usage
from pytest_staging.targets.procfs import parse_switches

PROC = Path("/proc")
MAX_THREADS = 1000
Read = Callable[[Sequence[Path]], list[str | None]]


def read_here(paths: Sequence[Path]) -> list[str | None]:
    """This machine's files."""
    return [_text(path) for path in paths]


@dataclass(frozen=True)
class MemoryGroup:
    """The folder of a group in the mounted hierarchy. The files have other names in each version.

    In version 1 its CPU time is in another hierarchy: `cpu_folder`.
    """

    folder: Path
    unified: bool
    read: Read = read_here
    cpu_folder: Path | None = None
    proc: Path = PROC

    def peak_bytes(self) -> int | None:
        """The largest use so far, the page cache included; None on a version 2 kernel before 5.19."""
        name = "memory.peak" if self.unified else "memory.max_usage_in_bytes"
        with suppress(ValueError):
            return int(self._text(name))
        return None

    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has killed for want of memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        with suppress(ValueError):
            return _count(self._text(name), "oom_kill")
        return None

    def usage(self) -> Usage | None:
        """What its processes, the ended ones too, have used; context switches of the living threads.

        None when its CPU time cannot be read. `resident_bytes` has the page cache in it.
        """
        names = ("cpu.stat", "memory.current", "cgroup.threads")
        if not self.unified:
            names = ("cpuacct.usage", "memory.usage_in_bytes", "tasks")
        files = [(self.cpu_folder or self.folder) / names[0], self.folder / names[1], self.folder / names[2]]
        cpu, memory, threads = self.read(files)
        cpu_s = _cpu_seconds(cpu or "", self.unified)
        if cpu_s is None:
            return None
        return Usage(
            cpu_s=cpu_s,
            resident_bytes=int(memory) if memory and memory.strip().isdigit() else None,
            switches=self._switches((threads or "").split()),
        )

    def _switches(self, threads: Sequence[str]) -> dict[int, tuple[int, int]] | None:
        # Threads of another process namespace are all called 0.
        seen = [thread for thread in threads if thread != "0"]
        if not 0 < len(seen) <= MAX_THREADS:
            return None
        texts = self.read([self.proc / thread / "status" for thread in seen])
        told = zip(seen, texts, strict=True)
        return {int(thread): found for thread, text in told if text and (found := parse_switches(text))} or None

    def _text(self, name: str) -> str:
        return self.read([self.folder / name])[0] or ""


def memory_group(pid: int, container_id: str, proc: Path = PROC, read: Read = read_here) -> MemoryGroup | None:
    """The group of a container's main process; None when its machine does not show it.

    An engine in another process namespace names pids that mean somebody else here: the group's name must be the
    container's.
    """
    groups, mounts = read([proc / str(pid) / "cgroup", proc / "self" / "mountinfo"])
    for line in (groups or "").splitlines():
        number, controllers, path = line.split(":", 2)
        unified = number == "0"
        if container_id not in path or not (unified or "memory" in controllers.split(",")):
            continue
        cpu_folder = None if unified else _cpu_folder(groups or "", mounts or "")
        group = MemoryGroup(_folder(mounts or "", path, unified), unified, read, cpu_folder, proc)
        # Beside version 1 the unified hierarchy is often mounted too, without a memory controller.
        if group.oom_kills() is not None:
            return group
    return None


def machine_oom_kills(proc: Path = PROC, read: Read = read_here) -> int | None:
    """How many processes the kernel has killed for want of memory since it started, in whatever group."""
    with suppress(ValueError):
        return _count(read([proc / "vmstat"])[0] or "", "oom_kill")
    return None


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text()
    return None


def _count(text: str, wanted: str) -> int | None:
    """The number behind a key, one pair on each line."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == wanted:
            return int(value)
    return None


def _cpu_seconds(text: str, unified: bool) -> float | None:
    with suppress(ValueError):
        if not unified:
            return int(text) / 1e9
        used_us = _count(text, "usage_usec")
        return None if used_us is None else used_us / 1e6
    return None


def _cpu_folder(groups: str, mounts: str) -> Path | None:
    """Version 1 counts CPU time in a hierarchy of its own."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            return _folder(mounts, path, False, "cpuacct")
    return None


def _folder(mounts: str, path: str, unified: bool, controller: str = "memory") -> Path:
    """Where a hierarchy's `path` is mounted. In a container the mount may show only a part of it, below `root`."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" if unified else kind == "cgroup" and controller in options.split(","):
            root, point = before.split(" ")[3:5]
            return Path(point, os.path.relpath(path, root))
    return Path(os.devnull)
