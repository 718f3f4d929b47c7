"""Any program as a metric source, the misbehaving ones too."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sampling import observe, samples, spec
from workspaces import wait_for

from pytest_staging.metrics.command import CommandMetrics
from pytest_staging.model.observing import Reading

NAMES = {"sent": {"name": "sent_bytes", "how": "delta"}, "open": {"name": "open_files", "how": "peak"}}
COUNTING = """
import os, sys
path = sys.argv[1] + "/count"
count = int(open(path).read()) if os.path.exists(path) else 0
open(path, "w").write(str(count + 1))
print("sent_bytes", 100 * count)
print('open_files{kind="socket"}', [3, 9, 4][min(count, 2)])
print("asked", os.environ["STAGING_BASE_URL"], file=sys.stderr)
"""


def command(folder: Path, program: str, *, more: tuple[str, ...] = (), **options: Any) -> CommandMetrics:
    argv = (sys.executable, "-I", "-S", "-c", program, *more)
    return CommandMetrics(spec("command", names=NAMES, argv=argv, **{"timeout_s": 5.0, **options}), folder)


def after_some(folder: Path, source: CommandMetrics) -> Reading:
    """A window of a few samples, of which COUNTING keeps the count."""
    count = folder / "count"
    return observe([source], folder, lambda: count.exists() and int(count.read_text() or "0") >= 3)


def test_any_program(tmp_path: Path) -> None:
    """SM-08: what it prints as Prometheus text is sampled at once, again and again, and at the window's end."""
    reading = after_some(tmp_path, command(tmp_path, COUNTING, more=(str(tmp_path),)))
    runs = int((tmp_path / "count").read_text())
    assert reading.metrics == {"sent": 100.0 * (runs - 1), "open": 9.0}
    assert reading.missing == {}
    (title,) = reading.sources
    assert reading.sources[title] == {"samples": runs, "failed": 0}
    assert samples(tmp_path, title)["values"]["open"][:3] == [3, 9, 4]


def test_a_script_beside_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(COUNTING)
    argv = (sys.executable, "-I", "{script}", str(tmp_path))
    source = CommandMetrics(spec("command", names=NAMES, argv=argv, script="probe.py", timeout_s=5.0), tmp_path)
    assert after_some(tmp_path, source).metrics["open"] == 9.0


BAD = {
    "no number": ("print('sent_bytes much')", "no Prometheus text"),
    "nothing": ("pass", "has no sent_bytes: it is empty"),
    "an error": ("import sys; print('sent_bytes 1', flush=True); sys.exit('no such disk')", "status 1: no such disk"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
    "endless": ("while True: print('sent_bytes 1' * 1000)", "prints more than 1 MiB"),
    "other charset": ("import sys; sys.stdout.buffer.write(b'sent_bytes 1 \\xff')", "decode"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_programs(tmp_path: Path, name: str) -> None:
    """XP-06: counted, said, never raised."""
    program, expected = BAD[name]
    mark = tmp_path / "ran"
    started = f"open({str(mark)!r}, 'w').close()\n{program}"
    reading = observe([command(tmp_path, started)], tmp_path, mark.exists)
    assert reading.metrics == {"sent": None, "open": None}
    assert expected in reading.missing["sent"], reading.missing


def test_one_that_is_not_there(tmp_path: Path) -> None:
    source = CommandMetrics(spec("command", names=NAMES, argv=("/nowhere/probe",)), tmp_path)
    assert "FileNotFoundError" in observe([source], tmp_path, lambda: True).missing["sent"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# A shell is there at once, where Python may take longer than the time limit.
SLEEPER = """
sleep 300 &
echo "$$ $!" > "$1/.pids"
mv "$1/.pids" "$1/pids"
[ $# -gt 1 ] || wait
echo "sent_bytes 1"
"""


def sleeper(folder: Path, *more: str, **options: Any) -> CommandMetrics:
    argv = ("sh", "-c", SLEEPER, "sleeper", str(folder), *more)
    return CommandMetrics(spec("command", names=NAMES, argv=argv, **options), folder)


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(one) for one in wait_for(lambda: path.exists() and path.read_text().split())]


def test_one_that_hangs(tmp_path: Path) -> None:
    """XP-06: it is killed with what it started."""
    source = sleeper(tmp_path, timeout_s=0.5)
    reading = observe([source], tmp_path, lambda: pids(tmp_path))
    assert "did not end within 0.5 s" in reading.missing["sent"]
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def test_a_child_that_outlives_it(tmp_path: Path) -> None:
    """Nothing that a sample started lives on, also when it keeps the pipe open."""
    source = sleeper(tmp_path, "leave", timeout_s=0.5)
    observe([source], tmp_path, lambda: pids(tmp_path))
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def test_an_interrupt(tmp_path: Path) -> None:
    """Closing the window ends a program that still runs, at once."""
    observation = sleeper(tmp_path, timeout_s=60.0).observe(
        "http://127.0.0.1:9", None, None  # type: ignore[arg-type]
    )  # fmt: skip
    observation.begin()
    started = pids(tmp_path)
    began = time.perf_counter()
    observation.close()
    assert time.perf_counter() - began < 60
    wait_for(lambda: not any(alive(pid) for pid in started))
    assert not [one for one in threading.enumerate() if one.name == "metrics"]


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for program in ("print('sent_bytes 1')", "raise SystemExit(3)"):
        observe([command(tmp_path, program)], tmp_path, lambda: True)
    assert len(os.listdir("/proc/self/fd")) == before
