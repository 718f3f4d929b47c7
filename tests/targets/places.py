"""The places of the contract suite: a target, and what to deploy there. A new target becomes one more of them."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_staging.model.building import Image
from pytest_staging.model.inventory import HostSpec
from pytest_staging.model.ports import Deployment, Target
from pytest_staging.model.version import ImageSpec, ModeSpec, Runtime
from pytest_staging.targets.docker import DockerTarget
from pytest_staging.targets.local import LocalTarget
from pytest_staging.targets.ssh import SshTarget
from pytest_staging.targets.ssh_docker import SshDockerTarget

HERE = Path(__file__).resolve().parent
REPLY_TIMEOUT_S = 5.0
# Not the port that the service of another target is told to use by chance.
PORT = 7070
WORK = "/var/tmp/staging-targets-test"
PROBE_FOLDER = "/srv/probe"
TTL_S = 30
"""Of leases on lab hosts. None runs out because this machine stood still, and a dead holder's is not waited for."""


@dataclass(frozen=True)
class Place:
    """Where the probe runs. `broken` is an image or mode that cannot be started there, `unfit` one that never could.

    With `arguments` another process makes the same place.
    """

    name: str
    make_target: Callable[[], Target]
    image: Image
    mode: ModeSpec
    broken: tuple[Image, ModeSpec]
    unfit: ModeSpec
    arguments: tuple[str, ...] = ()
    snapshot: Path = HERE

    def deployment(self, folder: Path, act: str = "serve", **changes: Any) -> Deployment:
        """The probe for a cell of its own, which does what `act` says."""
        given: dict[str, Any] = {
            "campaign_id": "c1",
            "cell_id": f"run001-{act}",
            "image": self.image,
            "mode": self.mode,
            "snapshot": self.snapshot,
            "log": folder / "service.log",
            "environment": {"STAGING_CELL": f"run001-{act}", "PROBE": act},
        }
        return Deployment(**given | changes)


def local_place() -> Place:
    """The probe as a Python program of this machine."""
    image = Image(ref="probe", id="probe", size_bytes=0, path=HERE)
    mode = ModeSpec(runtime=Runtime.NATIVE, start=(sys.executable, "-I", "{artifact}/probe.py"))
    broken = ModeSpec(runtime=Runtime.NATIVE, start=("no-such-program-here",))
    return Place("local", LocalTarget, image, mode, (image, broken), ModeSpec(runtime=Runtime.NATIVE))


def docker_place(image_id: str, broken_id: str) -> Place:
    """The probe as a static C program, alone in its image."""
    image = Image(ref="probe:latest", id=image_id, size_bytes=0)
    broken = Image(ref="probe:broken", id=broken_id, size_bytes=0)
    mode = ModeSpec(runtime=Runtime.NATIVE, image=ImageSpec(port=PORT))
    unfit = ModeSpec(runtime=Runtime.NATIVE)
    return Place("docker", DockerTarget, image, mode, (broken, mode), unfit, (image_id, broken_id))


def ssh_spec(address: str, service_address: str, key: str, known_hosts: str, **changes: Any) -> HostSpec:
    """A lab host as an inventory has it."""
    given = {"address": address, "user": "root", "key": key, "known_hosts": known_hosts}
    return HostSpec(**{**given, "service_address": service_address, "work_directory": WORK, **changes})


def ssh_place(snapshot: str, *where: str) -> Place:
    """The probe as a Python program of a lab host, on which it lies in a folder of its own."""
    spec = ssh_spec(*where)
    image = Image(ref="probe", id="probe", size_bytes=0, path=Path(PROBE_FOLDER))
    mode = ModeSpec(runtime=Runtime.NATIVE, start=("python3", "-I", "{artifact}/probe.py"))
    broken = ModeSpec(runtime=Runtime.NATIVE, start=("no-such-program-here",))
    unfit = ModeSpec(runtime=Runtime.NATIVE)
    make = lambda: SshTarget("lab", spec, ttl_s=TTL_S)  # noqa: E731
    return Place("ssh", make, image, mode, (image, broken), unfit, (snapshot, *where), Path(snapshot))


def ssh_docker_place(image_id: str, broken_id: str, *where: str) -> Place:
    """The static C program again, in a container of a lab host's own engine."""
    spec = ssh_spec(*where)
    place = docker_place(image_id, broken_id)
    make = lambda: SshDockerTarget("lab", spec, ttl_s=TTL_S)  # noqa: E731
    return replace(place, name="ssh-docker", make_target=make, arguments=(image_id, broken_id, *where))


PLACES: dict[str, Callable[..., Place]] = {
    "local": local_place,
    "docker": docker_place,
    "ssh": ssh_place,
    "ssh-docker": ssh_docker_place,
}


def answer(base_url: str) -> str | None:
    """What the probe says; None when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base_url}/healthz", timeout=REPLY_TIMEOUT_S) as reply:
            return str(reply.read().decode())
    except OSError:  # nobody listens, or docker-proxy does and the service does not
        return None
