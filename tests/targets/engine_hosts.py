"""SSH hosts of the lab that have a Docker engine of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from hosting import LabHost
from workspaces import wait_for

ENGINE_HOST_IMAGE = "staging-lab/host-engine"
# Its engine makes control groups, mounts and a bridge; and overlay does not lie on overlay, hence the volume.
ENGINE_HOST_OPTIONS = (
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--volume", "/var/lib/docker"),
)


@dataclass(frozen=True)
class EngineHost:
    """A lab host, and its engine past SSH."""

    lab: LabHost

    def docker(self, *arguments: str) -> str:
        """What the host's docker client prints."""
        quoted = " ".join(f"'{argument}'" for argument in arguments)
        return self.lab.sh(f"docker {quoted}")

    def containers(self) -> list[str]:
        """Names of those that a target made there, running or not."""
        listing = self.docker("ps", "--all", "--filter", "label=pytest-staging.lease", "--format", "{{.Names}}")
        return listing.split()

    def remove(self, containers: Sequence[str]) -> None:
        if containers:
            self.docker("rm", "--force", "--volumes", *containers)

    def image_ids(self) -> list[str]:
        return self.docker("images", "--all", "--quiet", "--no-trunc").split()

    def group_file(self, container: str, one: str, other: str) -> str:
        """A file of a running container's memory group: its name in version 1, and in version 2 of the interface."""
        full = self.docker("inspect", "--format", "{{.Id}}", container)
        return self.lab.sh(f"cat /sys/fs/cgroup/memory/docker/{full}/{one} || cat /sys/fs/cgroup/docker/{full}/{other}")

    def kill_engine(self) -> None:
        """As a crash does it: its containers live on."""
        self.lab.sh("kill -9 $(pidof dockerd)")
        wait_for(lambda: not self.lab.sh("pidof dockerd || true"))

    def start_engine(self) -> None:
        self.lab.sh("rm -f /var/run/docker.pid; setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        wait_for(self._answers, 90.0)

    def _answers(self) -> bool:
        command = ["docker", "exec", self.lab.container, "docker", "version"]
        try:
            return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
        except subprocess.TimeoutExpired:
            return False
