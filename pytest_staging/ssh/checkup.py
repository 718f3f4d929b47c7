"""What a host of the inventory is fit for: one look over SSH, and what to do about each thing that is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_staging.model.errors import HostKeyRefused, LoginRefused, RemoteFailed, StagingError
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.host import MARKER
from pytest_staging.ssh.hosts import connection_to

LOOK_DEADLINE_S = 20.0
FULL_BELOW_BYTES = 1_000_000_000
OFF_BY_S = 2.0
CLOCK_TRIPS, QUICK_TRIP_S = 5, 0.5
BUSY_PER_CPU = 0.5

# Alone, because the programs below take a second to answer.
_CLOCK = "date +%s.%N"
# $1 the work directory, then the tools that are needed.
_LOOK = rf"""
case $1 in /*) work=$1;; *) work=$HOME/$1;; esac; shift
folder=$work; while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
echo "cpus=$(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
read -r load rest </proc/loadavg; echo "load=$load"
echo "disk_kib=$(df -Pk "$folder" | sed -n '$s/.* \([0-9][0-9]*\)  *[0-9]*% .*/\1/p')"
[ -w "$folder" ] || echo "unwritable=$folder"
if [ -e "$work" ] && [ ! -f "$work/{MARKER}" ] && [ -n "$(ls -A "$work" 2>&1 | grep -vx 'slot-[0-9]*')" ]; then
  echo theirs=yes
elif [ -L "$work" ] || {{ [ -e "$work" ] && [ ! -O "$work" ]; }}; then echo theirs=yes; fi
echo "missing=$(for tool in "$@"; do command -v "$tool" >/dev/null || printf '%s ' "$tool"; done)"
echo "engine=$(docker version --format '{{{{.Server.Version}}}}' 2>/dev/null)"
echo "jdk=$(java -version 2>&1 | sed -n 's/.*version "\(.*\)".*/\1/p')"
"""


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """What was seen. `problems` are sentences with their remedy; texts are empty for what is not there.

    `host_key` is `known`, `refused`, or empty for a host that showed none.
    """

    host: str
    reachable: bool = False
    host_key: str = ""
    engine: str = ""
    jdk: str = ""
    disk_bytes: int | None = None
    clock_offset_s: float | None = None
    load_per_cpu: float | None = None
    problems: tuple[str, ...] = ()


def check_host(name: str, host: HostSpec, tools: Sequence[str] = ()) -> Checkup:
    """One look, in at most LOOK_DEADLINE_S and the time that connecting takes. Whatever is wrong is in the checkup.

    `tools` are programs that the host has to have.
    """
    reachable, host_key = False, ""
    try:
        with connection_to(name, host) as connection:
            connection.connect()
            reachable, host_key = True, "known"
            offset_s = read_clock(connection)
            return _judge(name, host, _look(connection, host, tools), offset_s)
    except HostKeyRefused as error:
        return Checkup(host=name, reachable=True, host_key="refused", problems=(str(error),))
    except LoginRefused as error:
        # Its key came first.
        return Checkup(host=name, reachable=True, host_key="known", problems=(str(error),))
    except StagingError as error:
        return Checkup(host=name, reachable=reachable, host_key=host_key, problems=(str(error),))


def read_clock(connection: SshConnection) -> float | None:
    """Seconds by which the host's clock is ahead of this machine's, to a few ms; None when it does not say.

    The clock was read at some instant of the trip: after a slow one it is asked again, and the quickest counts.
    """
    trips = []
    for _ in range(CLOCK_TRIPS):
        asked_at = time.time()
        result = connection.run_script(_CLOCK, deadline_s=QUICK_S).require("reading the clock")
        answered_at = time.time()
        offset_s = _number(result.stdout.decode(errors="replace").strip(), (asked_at + answered_at) / 2)
        if offset_s is None:
            return None
        trips.append((abs(answered_at - asked_at), offset_s))
        if min(trips)[0] <= QUICK_TRIP_S:
            break
    return min(trips)[1]


def _look(connection: SshConnection, host: HostSpec, tools: Sequence[str]) -> dict[str, str]:
    folder = host.work_directory.removeprefix("~/")
    result = connection.run_script(_LOOK, folder, *tools, deadline_s=LOOK_DEADLINE_S)
    if result.timed_out:
        raise RemoteFailed(
            f"{connection.endpoint}: looking at the host took over {LOOK_DEADLINE_S:g} s. Is it overloaded, and does "
            "`docker version` answer there?"
        )
    text = result.require("looking at the host").stdout.decode(errors="replace")
    pairs = (line.partition("=") for line in text.splitlines())
    # What a host says may hold anything, and goes to a terminal.
    return {key: "".join(filter(str.isprintable, value)).strip() for key, separator, value in pairs if separator}


def _judge(name: str, host: HostSpec, seen: Mapping[str, str], offset_s: float | None) -> Checkup:
    kib = seen.get("disk_kib", "")
    disk_bytes = int(kib) * 1024 if kib.isdecimal() else None
    load, cpus = _number(seen.get("load")), _number(seen.get("cpus"))
    per_cpu = load / cpus if load is not None and cpus else None
    problems = [*_folder_problems(name, host, seen, disk_bytes)]
    if missing := seen.get("missing"):
        problems.append(f"it lacks {missing}: install what has these programs there.")
    if offset_s is not None and abs(offset_s) > OFF_BY_S:
        problems.append(f"its clock is {offset_s:+.0f} s off: turn on NTP there (sudo timedatectl set-ntp true).")
    if per_cpu is not None and per_cpu > BUSY_PER_CPU:
        problems.append(
            f"{load:g} processes run on its {cpus:g} CPUs, so what is measured there will be noisy: see what it is "
            "with `top`, or take another host."
        )
    return Checkup(
        host=name,
        reachable=True,
        host_key="known",
        engine=seen.get("engine", ""),
        jdk=seen.get("jdk", ""),
        disk_bytes=disk_bytes,
        clock_offset_s=offset_s,
        load_per_cpu=per_cpu,
        problems=tuple(problems),
    )


def _folder_problems(name: str, host: HostSpec, seen: Mapping[str, str], disk_bytes: int | None) -> list[str]:
    work, problems = host.work_directory, []
    if "theirs" in seen:
        problems.append(
            f"{work} there is a link, another user's, or holds what pytest-staging did not make: name another "
            "work_directory for it in targets.yaml."
        )
    elif folder := seen.get("unwritable"):
        user = host.user or "USER"
        problems.append(
            f"{folder} is not writable: run there  sudo mkdir -p {work} && sudo chown {user} {work}  or name another "
            "work_directory for it in targets.yaml."
        )
    if disk_bytes is not None and disk_bytes < FULL_BELOW_BYTES:
        problems.append(
            f"only {disk_bytes / 1e9:.1f} GB are free where {work} lies: staging-manager hosts clean {name} removes "
            "what campaigns left, or name a work_directory on another disk."
        )
    return problems


def _number(text: str | None, less: float = 0.0) -> float | None:
    try:
        return float(text) - less if text else None
    except ValueError:
        return None
