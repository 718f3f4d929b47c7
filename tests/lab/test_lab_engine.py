"""start-engine.sh: an engine of its own for each test, beside the machine's and in a network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from dockering import BASE_IMAGES, ROOT, START_ENGINE, Engine, give_up, run_script

STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class PrivateEngine:
    folder: Path

    @property
    def pid_file(self) -> Path:
        return self.folder / "docker-run.pid"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "STAGING_ENGINE_SOCKET": str(self.folder / "docker.sock"),
            "STAGING_ENGINE_DATA": str(self.folder / "data"),
            "STAGING_ENGINE_LOG": str(self.folder / "log"),
        }

    def start(self) -> subprocess.CompletedProcess[str]:
        """In the machine's network it would take the other engine's bridge and firewall rules away."""
        return run_script("unshare", "--net", START_ENGINE, environment=self.environment)

    def kill(self, number: signal.Signals) -> None:
        """Ends dockerd, if it runs, and waits for that."""
        pid = self.pid_file.read_text().strip() if self.pid_file.exists() else ""
        if pid and lives(pid):
            os.kill(int(pid), number)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while lives(pid):
                assert time.monotonic() < deadline, f"dockerd {pid} is still there {STOP_TIMEOUT_S} s after {number!r}"
                time.sleep(0.05)


def lives(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def unmount_below(folder: Path) -> None:
    """A killed dockerd leaves its data folder mounted on itself, and the next one leaves that mount alone."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", point], check=True, timeout=STOP_TIMEOUT_S)


@pytest.fixture
def private(engine: Engine) -> Iterator[PrivateEngine]:
    if os.geteuid() != 0:
        give_up("an engine of the test's own needs root")
    folder = Path(tempfile.mkdtemp(prefix="staging-engine-"))  # pytest's paths are too long for a socket
    found = PrivateEngine(folder)
    yield found
    found.kill(signal.SIGTERM)
    unmount_below(folder)
    shutil.rmtree(folder)


def test_a_running_engine_is_left_alone(engine: Engine) -> None:
    """One line, and nothing started."""
    again = run_script(START_ENGINE)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"ready {engine.version}\n", "")


def test_a_second_engine_leaves_the_first_its_network(engine: Engine, private: PrivateEngine) -> None:
    """Some ways to start a second engine remove the first one's bridge."""
    bridge = Path("/sys/class/net") / engine.inspect("network", "bridge")["Options"]["com.docker.network.bridge.name"]
    assert bridge.exists()
    started = private.start()
    assert started.returncode == 0, started.stderr
    assert bridge.exists()


def test_starts_at_the_same_time_make_one_engine(private: PrivateEngine) -> None:
    """All callers are told that it is ready; one of them started it."""
    with ThreadPoolExecutor(3) as pool:
        started = [future.result() for future in [pool.submit(private.start) for _ in range(3)]]
    assert [(done.returncode, done.stdout[:6]) for done in started] == [(0, "ready ")] * 3, started
    assert sum("starting dockerd" in done.stderr for done in started) == 1


def test_killed_engine_starts_again(private: PrivateEngine) -> None:
    """Its pid file and its containerd are still there, and its process may still be a zombie."""
    assert private.start().returncode == 0
    private.kill(signal.SIGKILL)
    again = private.start()
    assert again.returncode == 0, again.stderr


def test_pid_file_of_a_zombie_is_dropped(private: PrivateEngine) -> None:
    """A zombie keeps its number and its name, and `kill -0` finds it."""
    namesake = private.folder / "dockerd"
    namesake.symlink_to("/bin/true")
    with subprocess.Popen([namesake]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
        private.pid_file.write_text(f"{zombie.pid}\n")
        started = private.start()
    assert started.returncode == 0, started.stderr
    assert private.pid_file.read_text() != f"{zombie.pid}\n"


def test_engine_that_cannot_start_shows_its_log(private: PrivateEngine) -> None:
    """The engine's own complaint, the log's path, and an end before the deadline."""
    wrong = private.environment | {"STAGING_ENGINE_OPTIONS": "--no-such-option"}
    failed = run_script(START_ENGINE, environment=wrong)
    assert failed.returncode == 2
    assert "unknown flag: --no-such-option" in failed.stderr
    assert f"{private.folder}/log" in failed.stderr


def test_without_root_the_reason_is_said(private: PrivateEngine) -> None:
    """A user who may not start an engine is told so, and not by a stack of failed commands."""
    shutil.copytree(ROOT / "scripts", private.folder / "scripts")
    private.folder.chmod(0o755)
    failed = run_script(private.folder / "scripts/lab/start-engine.sh", environment=private.environment, user=65534)
    assert failed.returncode == 2
    assert "starting one needs root" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_base_images_without_an_engine_say_how_to_start_one(private: PrivateEngine) -> None:
    failed = run_script(BASE_IMAGES, environment=private.environment)
    assert failed.returncode == 2
    assert "scripts/lab/start-engine.sh" in failed.stderr
