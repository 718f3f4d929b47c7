"""An engine of a test's own, beside the machine's and in a network of its own: one that may be killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dockering import START_ENGINE, give_up, run_script
from workspaces import wait_for

from pytest_staging.targets import procfs

LOOPBACK_UP = (
    "import fcntl, socket, struct; s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x49))"
)


class PrivateEngine:
    """dockerd with its files in `folder`. `images` is what `docker save` wrote."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"
        self._python = python

    @property
    def pid(self) -> int:
        return int((self.folder / "docker-run.pid").read_text())

    def start(self) -> None:
        """In the machine's network it would take the other engine's bridge and firewall rules away."""
        environment = {
            "STAGING_ENGINE_SOCKET": f"{self.folder}/docker.sock",
            "STAGING_ENGINE_DATA": f"{self.folder}/data",
            "STAGING_ENGINE_LOG": f"{self.folder}/log",
        }
        command = ["sh", "-c", '"$0" -c "$1" && exec "$2"', self._python, LOOPBACK_UP, str(START_ENGINE)]
        done = run_script("unshare", "--net", *command, environment=environment)
        assert done.returncode == 0, done.stderr

    def load(self, images: bytes) -> None:
        """What `docker save` gave."""
        subprocess.run(
            ["docker", "--host", self.address, "load", "--quiet"],
            input=images,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def kill(self) -> None:
        """As a crash does it: its containers live on."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not procfs.is_alive(pid))

    def stop(self) -> None:
        """Ends it, and what a killed one left: its containerd, and its containers."""
        with suppress(OSError, ValueError):
            pid = self.pid
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: not procfs.is_alive(pid))
        wait_for(self._end_rest)

    def _end_rest(self) -> bool:
        for pid in (left := self._left()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _left(self) -> list[int]:
        """Processes that name the folder: containerd and its shims. A shim takes its container along."""
        found = []
        for pid in procfs.process_ids():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if str(self.folder).encode() in command and b"containerd" in command and procfs.is_alive(pid):
                    found.append(pid)
        return found


@contextmanager
def private_engine(python: str) -> Iterator[PrivateEngine]:
    """Runs while the context does. Skips without root."""
    if os.geteuid() != 0:
        give_up("an engine of the test's own needs root")
    folder = Path(tempfile.mkdtemp(prefix="staging-engine-"))  # pytest's paths are too long for a socket
    engine = PrivateEngine(folder, python)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
            subprocess.run(["umount", "--lazy", point], check=True, timeout=20)
        shutil.rmtree(folder)
