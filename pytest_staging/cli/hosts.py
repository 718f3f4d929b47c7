"""Commands about the hosts of the inventory: `hosts check`, `hosts leases` and `hosts clean`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_staging.cli.command import add_command, add_group, workspace_of

if TYPE_CHECKING:
    from pytest_staging.model.errors import StagingError
    from pytest_staging.model.inventory import HostSpec
    from pytest_staging.ssh.checkup import Checkup

T = TypeVar("T")
NOT_LAUNCHED = "not launched"
CHECK_COLUMNS = ["host", "up", "host key", "engine", "JDK", "free", "clock", "load"]
# In letters, so that a line of the table fits into 80.
HOST_WIDTH, VERSION_WIDTH, HOLDER_WIDTH = 15, 9, 26


def add_commands(commands: Any) -> None:
    inner = add_group(
        commands, "hosts", "look after the hosts and generators of targets.yaml", "staging-manager hosts check"
    )
    checking = add_command(
        inner,
        "check",
        "connect to every host at once and say what is wrong, and how to put it right",
        "staging-manager hosts check vm-1 vm-2",
        run_check,
    )
    leases = add_command(
        inner, "leases", "show which hosts are measured now, and by whom", "staging-manager hosts leases", run_leases
    )
    cleaning = add_command(
        inner,
        "clean",
        "remove everything that campaigns made on the hosts",
        "staging-manager hosts clean vm-1 --dry-run",
        run_clean,
    )
    cleaning.add_argument("--dry-run", action="store_true", help="say what would be removed and remove nothing")
    cleaning.add_argument("--force", action="store_true", help="also where somebody measures now; that campaign fails")
    for parser in (checking, leases):
        parser.add_argument("--json", action="store_true", help="the table as JSON")
    for parser in (checking, leases, cleaning):
        parser.add_argument("host", nargs="*", metavar="HOST", help="host or generator (default: every one)")


def run_check(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    pythons = _pythons(options)
    found = list(_at_once(_hosts(options), lambda name, host: _check(name, host, pythons.get(name))).values())
    if options.json:
        print(json.dumps([{**asdict(one), "launched": launched} for one, launched in found], indent=2))
    else:
        _print_table([_row(one, launched) for one, launched in found], CHECK_COLUMNS)
        for one, _ in found:
            for problem in one.problems:
                # What comes from a connection begins with the host's name already.
                print(problem if problem.startswith(one.host) else f"{one.host}: {problem}")
    return 1 if any(one.problems for one, _ in found) else 0


def run_leases(options: argparse.Namespace) -> int:
    found = _at_once(_hosts(options), _or_error(_leases))
    problems = {name: answer for name, answer in found.items() if not isinstance(answer, list)}
    if options.json:
        told = [
            {"host": name, "leases": [] if name in problems else answer, "problem": str(problems.get(name, ""))}
            for name, answer in found.items()
        ]
        print(json.dumps(told, indent=2))
    else:
        rows = [row for name, answer in found.items() if isinstance(answer, list) for row in _lease_rows(name, answer)]
        if rows:
            _print_table(rows, ["host", "slot", "since (UTC)", "until", "measured by"], last_width=HOLDER_WIDTH)
        _print_problems(problems.values())
    return 1 if problems else 0


def run_clean(options: argparse.Namespace) -> int:
    from pytest_staging.model.errors import StagingError
    from pytest_staging.ssh.hosts import connection_to
    from pytest_staging.targets.remote_clean import clean

    def work(name: str, host: HostSpec) -> list[str]:
        present = _present(name, host)
        if present is None:
            return []
        with connection_to(name, present) as connection:
            return clean(connection, present, dry_run=options.dry_run, force=options.force)

    found = _at_once(_hosts(options), _or_error(work))
    words = "would remove" if options.dry_run else "removed"
    for name, answer in found.items():
        if not isinstance(answer, StagingError):
            print("\n".join(f"{name}: {words} {one}" for one in answer) or f"{name}: nothing to remove")
    problems = [answer for answer in found.values() if isinstance(answer, StagingError)]
    _print_problems(problems)
    return max((problem.exit_code for problem in problems), default=0)


def _check(name: str, host: HostSpec, python: str | None) -> tuple[Checkup, bool]:
    """And whether the host is there: a VM that is launched later has no problem yet."""
    from pytest_staging.model.errors import StagingError
    from pytest_staging.ssh.checkup import Checkup, check_host
    from pytest_staging.targets.remote_facts import TOOLS

    try:
        present = _present(name, host)
    except StagingError as error:
        return Checkup(host=name, problems=(str(error),)), False
    tools = (*TOOLS, python) if python else TOOLS
    return (check_host(name, present, tools), True) if present else (Checkup(host=name), False)


def _row(one: Checkup, launched: bool) -> list[str]:
    if not launched and not one.problems:
        return [_cut(one.host, HOST_WIDTH), NOT_LAUNCHED, *[""] * 6]
    return [
        _cut(one.host, HOST_WIDTH),
        "yes" if one.reachable else "no",
        one.host_key or "-",
        _version(one.engine),
        _version(one.jdk),
        "-" if one.disk_bytes is None else _size(one.disk_bytes),
        "-" if one.clock_offset_s is None else _offset(one.clock_offset_s),
        "-" if one.load_per_cpu is None else f"{one.load_per_cpu:.2f}",
    ]


def _leases(name: str, host: HostSpec) -> list[dict[str, Any]]:
    import time

    from pytest_staging.ssh.checkup import read_clock
    from pytest_staging.ssh.hosts import connection_to
    from pytest_staging.targets.remote_lease import read_leases

    present = _present(name, host)
    if present is None:
        return []
    with connection_to(name, present) as connection:
        leases = read_leases(connection, present)
        now, ahead_s = time.time(), read_clock(connection) or 0.0
    return [
        {
            "slot": one.slot,
            "holder": one.holder,
            "since_at": _instant(one.held_since - ahead_s),  # the host's clock may be wrong, and a user compares
            "until_at": _instant(now + one.seconds_left),
        }
        for one in leases
    ]


def _lease_rows(name: str, leases: list[dict[str, Any]]) -> list[list[str]]:
    shown = _cut(name, HOST_WIDTH)
    if not leases:
        return [[shown, "", "", "", "nobody"]]
    return [
        [shown, str(one["slot"]), one["since_at"][:19].replace("T", " "), one["until_at"][11:19], one["holder"]]
        for one in leases
    ]


def _hosts(options: argparse.Namespace) -> dict[str, HostSpec]:
    from pytest_staging import inventory, store

    known = inventory.machines_of(store.load_inventory(workspace_of(options)))
    return inventory.choose_hosts(known, options.host, "hosts")


def _pythons(options: argparse.Namespace) -> dict[str, str]:
    """What each generator has to have besides what every host needs."""
    from pytest_staging import store

    return {name: one.python for name, one in store.load_inventory(workspace_of(options)).generators.items()}


def _present(name: str, host: HostSpec) -> HostSpec | None:
    """None for a VM that is not there now."""
    from pytest_staging.lifecycle.obtaining import find_host

    return find_host(name, host)


def _at_once(hosts: Mapping[str, HostSpec], work: Callable[[str, HostSpec], T]) -> dict[str, T]:
    """A slow host keeps no other one waiting. Answers come in the order of the hosts."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(1, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(lambda one: work(*one), hosts.items()), strict=True))


def _or_error(work: Callable[[str, HostSpec], T]) -> Callable[[str, HostSpec], T | StagingError]:
    """One host's error is told beside what the others answered."""
    from pytest_staging.model.errors import StagingError

    def guarded(name: str, host: HostSpec) -> T | StagingError:
        try:
            return work(name, host)
        except StagingError as error:
            return error

    return guarded


def _print_table(rows: list[list[str]], columns: list[str], last_width: int | None = None) -> None:
    from tabulate import tabulate

    widths = [None] * (len(columns) - 1) + [last_width]
    print(tabulate(rows, columns, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))


def _print_problems(problems: Any) -> None:
    sys.stdout.flush()
    for problem in problems:
        print(f"staging-manager: {problem}", file=sys.stderr)


def _instant(epoch_s: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(epoch_s, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _version(text: str) -> str:
    """Without what a distribution adds to it."""
    return _cut(text.split("+")[0].split("-")[0], VERSION_WIDTH) or "-"


def _size(size_bytes: int) -> str:
    size, unit = (size_bytes / 1e12, "TB") if size_bytes >= 1e12 else (size_bytes / 1e9, "GB")
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.1f} {unit}"


def _offset(seconds: float) -> str:
    if abs(seconds) >= 1000:
        return f"{seconds / 3600:+.1f} h" if abs(seconds) < 360_000 else "years"
    return f"{seconds:+.0f} s" if abs(seconds) >= 100 else f"{seconds:+.1f} s"
