"""The SSH layer's speed limits, each a ratio against a named peer within one run, over a real sshd. Prints a table.

The host is a container of scripts/lab/hosts.sh, or one that logs this user in: STAGING_PERF_SSH=HOST. A figure is the
median of pairs that are measured in turn, so that a busy machine bothers both sides.

usage: perf/ssh.py [NAME ...]     exit 1 when a limit is broken
"""

from __future__ import annotations

import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import limits
from limits import ROOT, Result

sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "ssh")]

from pytest_staging.ssh.config import resolve_endpoint  # noqa: E402
from pytest_staging.ssh.connection import SshConnection  # noqa: E402
from pytest_staging.ssh.files import put_file  # noqa: E402
from pytest_staging.ssh.sync import sync_tree  # noqa: E402

DEADLINE_S = 120.0
FILES = 2000
FILE_BYTES = 5350
LARGE_BYTES = 200_000_000
LINES = 5_000_000
FOLDER = "/tmp/staging-perf"
# In memory: what it costs the host to make 2,000 files is the same for all, and more than sending them.
TREES = "/dev/shm/staging-perf"


@dataclass(frozen=True)
class Bench:
    """A kept connection to the host, and the command line of an `ssh` that goes the same way."""

    connection: SshConnection
    ssh: list[str]
    folder: Path

    def remote(self, script: str) -> None:
        self.connection.run_script(script, deadline_s=DEADLINE_S).require(script)

    def local(self, line: str) -> None:
        """A shell line in which SSH stands for the command."""
        subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line.replace('SSH', shlex.join(self.ssh))}"],
            check=True, timeout=DEADLINE_S, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def command(bench: Bench) -> Iterator[Result]:
    """`true` on the kept connection against a spawned ssh."""

    def ours() -> None:
        for _ in range(10):
            bench.connection.run(["true"], deadline_s=DEADLINE_S).require("true")

    ratio, detail = pairs(ours, lambda: bench.local("SSH true"), 11)
    yield Result("command, kept connection / spawned ssh", ratio / 10, 0.1, "x", detail)


def large_file(bench: Bench) -> Iterator[Result]:
    """200 MB against tar through ssh."""
    large = bench.folder / "large"
    large.write_bytes(os.urandom(1_000_000) * (LARGE_BYTES // 1_000_000))
    target = f"{FOLDER}/large"
    tar = f"tar -C {bench.folder} -cf - large | SSH tar -xf - -C {FOLDER}"
    ratio, detail = pairs(
        lambda: put_file(bench.connection, large, target, deadline_s=DEADLINE_S), lambda: bench.local(tar), 5
    )
    yield Result("file of 200 MB / tar | ssh", ratio, 0.8, "x", detail)
    large.unlink()


def tree(bench: Bench) -> Iterator[Result]:
    """2,000 files: the first sync against tar through ssh, one without a change against rsync's."""
    local = bench.folder / "tree"
    for number in range(FILES):
        path = local / f"folder{number % 40}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(FILE_BYTES))
    tar = f"tar -C {local} -cf - . | SSH 'mkdir -p {TREES}/theirs && tar -xf - -C {TREES}/theirs'"

    def sync() -> None:
        sync_tree(bench.connection, local, f"{TREES}/ours", deadline_s=DEADLINE_S)

    def clear() -> None:
        bench.remote(f"rm -rf {TREES}/ours {TREES}/theirs")

    ratio, detail = pairs(sync, lambda: bench.local(tar), 7, clear)
    yield Result("tree of 2,000 files, first / tar | ssh", ratio, 0.6, "x", detail)
    rsync = f"rsync -a -e {shlex.quote(shlex.join(bench.ssh[:-1]))} {local}/ {bench.ssh[-1]}:{TREES}/theirs/"
    sync()
    bench.local(rsync)
    ratio, detail = pairs(sync, lambda: bench.local(rsync), 9)
    yield Result("tree of 2,000 files, no change / rsync", ratio, 0.5, "x", detail)


def stream(bench: Bench) -> Iterator[Result]:
    """Lines that a command prints, counted here, against ssh into wc."""
    program = ["seq", "1000000", str(1_000_000 + LINES - 1)]
    lines = 0

    def count(data: bytes) -> None:
        nonlocal lines
        lines += data.count(b"\n")

    def ours() -> None:
        nonlocal lines
        lines = 0
        bench.connection.run(program, deadline_s=DEADLINE_S, on_stdout=count).require("seq")
        assert lines == LINES

    ratio, detail = pairs(ours, lambda: bench.local(f"SSH {shlex.join(program)} | wc -l"), 5)
    yield Result("streamed lines per second / ssh", 1 / ratio, 0.8, "x", detail, at_least=True)


def pairs(
    ours: Callable[[], object], theirs: Callable[[], object], count: int, before: Callable[[], object] = lambda: None
) -> tuple[float, str]:
    """The median of ours / theirs, and both medians in seconds. One pair before them warms up."""
    seconds: list[tuple[float, float]] = []
    for number in range(count + 1):
        before()
        order = (ours, theirs) if number % 2 else (theirs, ours)
        taken = {id(one): timed(one) for one in order}
        seconds.append((taken[id(ours)], taken[id(theirs)]))
    measured = seconds[1:]
    ratio = statistics.median(first / second for first, second in measured)
    own, other = (statistics.median(column) for column in zip(*measured, strict=True))
    return ratio, f"{count} pairs, {own:.3f} s and {other:.3f} s"


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def bench() -> Iterator[Bench]:
    """The named host, or a lab host that goes away."""
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
        folder = Path(name)
        if host := os.environ.get("STAGING_PERF_SSH"):
            with SshConnection(resolve_endpoint(host)) as connection:
                yield from_connection(connection, ["ssh", host], folder)
            return
        import hosting

        for script in ("start-engine.sh", "hosts.sh"):
            subprocess.run([ROOT / "scripts/lab" / script], check=True, stdout=subprocess.DEVNULL, timeout=900)
        lab = hosting.start_host(hosting.make_key(folder / "key"), folder / "host")
        try:
            ssh = ["ssh", "-F", "none", "-i", str(lab.key), "-o", f"UserKnownHostsFile={lab.known_hosts}"]
            with lab.connection() as connection:
                yield from_connection(connection, [*ssh, f"root@{lab.address}"], folder)
        finally:
            hosting.remove_hosts([lab.container])


def from_connection(connection: SshConnection, ssh: list[str], folder: Path) -> Bench:
    script = f"rm -rf {FOLDER} {TREES} && mkdir -p {FOLDER} {TREES}"
    connection.run_script(script, deadline_s=DEADLINE_S).require("making a folder")
    return Bench(connection, ssh, folder)


def benched(measure: Callable[[Bench], Iterator[Result]]) -> Callable[[], Iterator[Result]]:
    """On a host of its own."""

    def measured() -> Iterator[Result]:
        with bench() as one:
            yield from measure(one)
            one.remote(f"rm -rf {FOLDER} {TREES}")

    return measured


LIMITS = {name: benched(one) for name, one in
          (("command", command), ("file", large_file), ("tree", tree), ("stream", stream))}  # fmt: skip

if __name__ == "__main__":
    limits.LIMITS = LIMITS
    sys.exit(limits.main(sys.argv[1:]))
