"""What a host of the inventory is fit for: one look over SSH, and what to do about each thing that is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pytest_staging.model.errors import HostKeyRefused, StagingError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.hosts import connection_to

LOOK_DEADLINE_S = 20.0
FULL_BELOW_BYTES = 1_000_000_000
OFF_BY_S = 2.0
BUSY_PER_CPU = 0.5

LOOK = r"""
work=$1
folder=$work
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
echo "clock=$(date +%s.%N)"
echo "cpus=$(getconf _NPROCESSORS_ONLN)"
echo "load=$(cut -d' ' -f1 /proc/loadavg)"
echo "disk_kb=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
if [ -w "$folder" ]; then echo "writable=yes"; else echo "writable=$folder"; fi
engine=$(docker version --format '{{.Server.Version}}' 2>/dev/null) && echo "engine=$engine"
jdk=$(java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p') && echo "jdk=$jdk"
"""


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """What was seen. `problems` are sentences with their remedy; texts are empty for what is not there."""

    host: str
    reachable: bool
    host_key: str
    engine: str = ""
    jdk: str = ""
    disk_bytes: int | None = None
    clock_offset_s: float | None = None
    load_per_cpu: float | None = None
    problems: tuple[str, ...] = field(default=())


def check_hosts(hosts: Mapping[str, HostSpec]) -> list[Checkup]:
    """All of them at once, in the given order. Never raises for a host: what is wrong is in its checkup."""
    with ThreadPoolExecutor(max(1, len(hosts))) as pool:
        return list(pool.map(lambda item: check_host(*item), hosts.items()))


def check_host(name: str, host: HostSpec) -> Checkup:
    """One host, in at most LOOK_DEADLINE_S and the time that connecting takes."""
    try:
        with connection_to(name, host) as connection:
            connection.connect()
            asked_at = time.time()
            result = connection.run_script(LOOK, host.work_directory, deadline_s=LOOK_DEADLINE_S)
            answered_at = time.time()
            result.require("looking at the host")
    except HostKeyRefused as error:
        return Checkup(host=name, reachable=True, host_key="refused", problems=(str(error),))
    except StagingError as error:
        return Checkup(host=name, reachable=False, host_key="", problems=(str(error),))
    lines = (line.partition("=") for line in result.stdout.decode(errors="replace").splitlines())
    seen = {key: value for key, separator, value in lines if separator}
    return _judge(name, host, seen, (asked_at + answered_at) / 2)


def _judge(name: str, host: HostSpec, seen: Mapping[str, str], instant_s: float) -> Checkup:
    disk_bytes = int(seen["disk_kb"]) * 1024 if seen.get("disk_kb", "").isdecimal() else None
    offset_s = _number(seen.get("clock"), instant_s)
    load, cpus = _number(seen.get("load")), _number(seen.get("cpus"))
    busy = load / cpus if load is not None and cpus else None
    problems = []
    if seen.get("writable") != "yes":
        folder, user = seen.get("writable"), host.user or "USER"
        problems.append(
            f"{folder} is not writable: sudo mkdir -p {host.work_directory} && sudo chown {user} {host.work_directory}"
        )
    if disk_bytes is not None and disk_bytes < FULL_BELOW_BYTES:
        problems.append(f"only {disk_bytes / 1e9:.1f} GB free below {host.work_directory}: staging-manager hosts clean")
    if offset_s is not None and abs(offset_s) > OFF_BY_S:
        problems.append(f"its clock is {offset_s:+.0f} s off: turn on NTP there (sudo timedatectl set-ntp true).")
    if busy is not None and busy > BUSY_PER_CPU:
        problems.append(f"{load:g} processes run on its {cpus:g} CPUs: what is measured there will be noisy.")
    return Checkup(
        host=name,
        reachable=True,
        host_key="known",
        engine=seen.get("engine", ""),
        jdk=seen.get("jdk", ""),
        disk_bytes=disk_bytes,
        clock_offset_s=offset_s,
        load_per_cpu=busy,
        problems=tuple(problems),
    )


def _number(text: str | None, less: float = 0.0) -> float | None:
    try:
        return float(text) - less if text else None
    except ValueError:
        return None
