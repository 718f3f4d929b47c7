"""The `multipass` of a test: what it is told, what it was asked, and which VMs it has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hosting import LabHost

from pytest_staging.model.inventory import HostSpec, Lifecycle, VmSpec

HERE = Path(__file__).resolve().parent
KEPT = VmSpec(keep=True)


@dataclass(frozen=True)
class Vms:
    """The `multipass` of a test. VM `staging-vm-1` is the first lab host, `staging-vm-2` the second."""

    folder: Path
    home: Path
    key: Path
    lab: list[LabHost]

    def spec(self, **changes: object) -> HostSpec:
        given = {"key": str(self.key), "lifecycle": Lifecycle.MULTIPASS, **changes}
        return HostSpec(**given)  # type: ignore[arg-type]

    def calls(self, command: str = "") -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(command)]

    def existing(self) -> list[str]:
        return sorted(path.name.removeprefix("vm.") for path in self.folder.glob("vm.*"))

    def make(self, vm: str, state: str = "Running") -> None:
        """Somebody else's VM."""
        address = json.loads((self.folder / "hosts.json").read_text())[vm]["address"]
        (self.folder / f"vm.{vm}").write_text(json.dumps({"state": state, "address": address}))

    def wish(self, vm: str, what: str) -> Path:
        path = self.folder / f"wish.{vm}.{what}"
        path.touch()
        return path

    def records(self) -> list[str]:
        """VMs that are known to be ours."""
        return sorted(path.parent.name for path in self.home.glob(".local/state/pytest-staging/vms/*/made.json"))
