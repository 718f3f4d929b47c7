"""What a container's control group tells about its memory, in version 1 and version 2 of the interface.

Everything here may race with a container that ends, and says None then. The files may be those of another machine:
`read` gives the texts of several at once, None for one that cannot be read. Sources: cgroups(7), the kernel's
admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst, proc_pid_mountinfo(5), proc_vmstat(5). Sizes in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
Read = Callable[[Sequence[Path]], list[str | None]]


def read_here(paths: Sequence[Path]) -> list[str | None]:
    """This machine's files."""
    return [_text(path) for path in paths]


@dataclass(frozen=True)
class MemoryGroup:
    """The folder of a group in the mounted hierarchy. The files have other names in each version."""

    folder: Path
    unified: bool
    read: Read = read_here

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
        group = MemoryGroup(_folder(mounts or "", path, unified), unified, read)
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


def _folder(mounts: str, path: str, unified: bool) -> Path:
    """Where a hierarchy's `path` is mounted. In a container the mount may show only a part of it, below `root`."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" if unified else kind == "cgroup" and "memory" in options.split(","):
            root, point = before.split(" ")[3:5]
            return Path(point, os.path.relpath(path, root))
    return Path(os.devnull)
