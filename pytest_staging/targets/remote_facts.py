"""What a host says about itself: the same facts as of this machine, and which tools it lacks. One small script each.

Source: proc_cpuinfo(5), proc_meminfo(5), proc_loadavg(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S

TOOLS = ("flock", "tar", "find", "xargs", "grep", "sed", "sort", "stat", "sha256sum")
_FACTS = r"""
uname -s; uname -r; uname -m
echo "$(grep -m1 '^model name' /proc/cpuinfo | sed 's/^[^:]*: *//')"
echo "$(nproc 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
while read -r name value rest; do [ "$name" != MemTotal: ] || echo "$value"; done </proc/meminfo
read -r load rest </proc/loadavg; echo "$load"
"""
_MISSING = 'for tool in "$@"; do command -v "$tool" >/dev/null || echo "$tool"; done'


def read_facts(connection: SshConnection) -> Mapping[str, Any]:
    """CPU, kernel, memory and load average, now; None for what the host does not tell. Raises as `run_script`."""
    text = connection.run_script(_FACTS, deadline_s=QUICK_S).require("reading the host's facts").stdout
    lines = [*text.decode(errors="replace").splitlines(), *[""] * 7]
    system, release, machine, cpu, cpus, memory_kib, load = lines[:7]
    return {
        "cpu": cpu or machine,
        "cpus": _number(cpus),
        "kernel": f"{system} {release}",
        "machine": machine,
        "memory_bytes": None if _number(memory_kib) is None else int(memory_kib) * 1024,
        "load_average_1min": round(float(load), 2) if load.replace(".", "").isdigit() else None,
    }


def missing_tools(connection: SshConnection) -> list[str]:
    """Of the few programs that are needed on a host, those that it does not have."""
    result = connection.run_script(_MISSING, *TOOLS, deadline_s=QUICK_S).require("looking for tools")
    return result.stdout.decode(errors="replace").split()


def _number(text: str) -> int | None:
    with suppress(ValueError):
        return int(text)
    return None
