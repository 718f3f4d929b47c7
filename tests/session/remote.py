"""Workspaces whose services run on real SSH hosts of the lab."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from running import make_small

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ssh"))

from hosting import NOTICE_S, LabHost, call, make_key, remove_hosts, run_lab_script, start_host

__all__ = ["NOTICE_S", "LabHost", "call", "make_key", "remove_hosts", "run_lab_script", "start_host"]

WORK = "/srv/staging"
PYTHON = ["/usr/bin/python3", "-I", "{artifact}/service.py"]


@dataclass(frozen=True)
class Lab:
    """Three hosts, and what an inventory says about them."""

    hosts: dict[str, LabHost]
    key: Path

    def entry(self, name: str) -> dict[str, object]:
        host = self.hosts[name]
        inside = call("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", host.container)
        return {
            "address": host.address,
            "user": "root",
            "key": str(self.key),
            "known_hosts": str(host.known_hosts),
            "service_address": inside,
            "work_directory": WORK,
        }

    def left(self) -> list[str]:
        """What of ours still runs on the hosts that answer."""
        return [line for host in self.hosts.values() for line in host.processes("service.py")]


def start_lab(count: int, key: Path, folder: Path) -> Lab:
    """So many hosts, called vm-1 and so on."""
    return Lab({f"vm-{number}": start_host(key, folder / f"vm-{number}") for number in range(1, count + 1)}, key)


def make_remote(root: Path, lab: Lab, **top: object) -> Path:
    """A workspace whose service runs on the lab's hosts, and whose inventory names them."""
    make_small(root, duration_s=1.0)
    for path in root.glob("versions/*/snapshot/service.yaml"):
        data = json.loads(path.read_text())
        for mode in data["modes"].values():
            mode["start"] = PYTHON
        path.write_text(json.dumps(data))
    write_inventory(root, {name: lab.entry(name) for name in lab.hosts}, **top)
    return root


def write_inventory(root: Path, hosts: dict[str, dict[str, object]], **top: object) -> None:
    text = yaml.safe_dump({"hosts": hosts, "generator_slots": 3, **top}, sort_keys=False)
    (root / "targets.yaml").write_text(text)
