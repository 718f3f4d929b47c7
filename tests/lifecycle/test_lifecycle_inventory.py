"""A VM that is yet to be launched, as the environment of a deploy script describes it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from pytest_staging.contract import parse_inventory
from pytest_staging.inventory import FIELDS, inventory_of, with_defaults
from pytest_staging.lifecycle.multipass import vm_name
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, HostSpec, Inventory, Lifecycle, VmSpec
from pytest_staging.store import Workspace, load_inventory


def test_no_address_is_needed(tmp_path: Path) -> None:
    """SM-06: E2E_VM_LIFECYCLE=multipass alone is an inventory; E2E_VM_NAME is the VM's own name."""
    environment = {"E2E_VM_LIFECYCLE": "multipass", "E2E_SSH_KEY": "/k"}
    host = HostSpec(lifecycle=Lifecycle.MULTIPASS, key="/k")
    assert load_inventory(Workspace(tmp_path), environment) == Inventory(hosts={"vm": host})
    (name,) = load_inventory(Workspace(tmp_path), {**environment, "E2E_VM_NAME": "staging-one"}).hosts
    assert (vm_name("vm"), vm_name(name)) == ("staging-vm", "staging-one")


@pytest.mark.parametrize("lifecycle", ["", "external"])
def test_an_external_host_needs_one(lifecycle: str) -> None:
    """SM-06: without an address there is no host, and its name is not that of a VM."""
    environment = {"E2E_VM_LIFECYCLE": lifecycle, "E2E_VM_NAME": "staging-one"}
    assert inventory_of(environment) is None
    found = inventory_of({**environment, "E2E_VM_HOST": "10.0.0.7"})
    assert found == Inventory(hosts={"vm": HostSpec(address="10.0.0.7")})


def test_unknown_lifecycle() -> None:
    """SM-06: the known ones are named."""
    with pytest.raises(UsageProblem, match="E2E_VM_LIFECYCLE=vagrant: known are external, multipass"):
        inventory_of({"E2E_VM_LIFECYCLE": "vagrant"})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("E2E_VM_HOST", "-x y", "E2E_VM_HOST='-x y' is no address or name of a host"),
        ("E2E_VM_HOST", " ", "E2E_VM_HOST=' ' is no address or name of a host"),
        ("E2E_VM_USER", "-oProxyCommand=id", "E2E_VM_USER='-oProxyCommand=id' is no name of a user"),
    ],
)
def test_what_would_become_an_option(variable: str, value: str, said: str) -> None:
    """SM-06: an address and a user of the environment obey the rule of targets.yaml."""
    with pytest.raises(UsageProblem, match=re.escape(said)):
        inventory_of({"E2E_VM_HOST": "10.0.0.7", variable: value})
    if variable == "E2E_VM_USER":
        with pytest.raises(UsageProblem, match=re.escape(said)):
            with_defaults(Inventory(hosts={"a": HostSpec()}), {variable: value})


def test_the_document() -> None:
    """SM-10: docs/hosts.md names every field and variable, and its inventories are such as the program takes."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "hosts.md").read_text()
    names = [field.name for shape in (HostSpec, GeneratorSpec, Inventory) for field in fields(shape)]
    assert [name for name in [*names, *FIELDS] if name not in text] == []
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [list(parse_inventory(block).hosts) for block in blocks] == [["vm-1", "vm-2"], ["vm-1", "vm-2"], ["vm-1"]]


def test_what_the_environment_gives_a_vm() -> None:
    """SM-06: CPUs, memory, disk and image of a VM, as multipass writes them."""
    given = {"E2E_VM_LIFECYCLE": "multipass", "E2E_VM_CPUS": "3", "E2E_VM_MEMORY": "4G", "E2E_VM_DISK": "20GB"}
    found = inventory_of({**given, "E2E_VM_IMAGE": "24.04"})
    assert found is not None
    assert next(iter(found.hosts.values())).vm == VmSpec(cpus=3, memory_gb=4, disk_gb=20, image="24.04")
    with pytest.raises(UsageProblem, match="E2E_VM_MEMORY=4096M: needs a whole number"):
        inventory_of({**given, "E2E_VM_MEMORY": "4096M"})
