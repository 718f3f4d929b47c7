"""Where the hosts come from: targets.yaml, or the environment of a deploy script. Which of them are used. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import HostSpec, Inventory, Lifecycle, VmSpec

SLOT_MARK = "-slot"
VM_FIELDS = {
    "E2E_VM_CPUS": ("cpus", ""),
    "E2E_VM_MEMORY": ("memory_gb", "G"),
    "E2E_VM_DISK": ("disk_gb", "G"),
}
FIELDS = {"E2E_VM_HOST": "address", "E2E_VM_USER": "user", "E2E_SSH_KEY": "key"}


def inventory_of(environment: Mapping[str, str]) -> Inventory | None:
    """The one host that the E2E_* variables describe. Raises UsageProblem.

    None without E2E_VM_HOST, unless the host is a VM that is yet to be launched; its name may be E2E_VM_NAME.
    """
    named = environment.get("E2E_VM_LIFECYCLE") or Lifecycle.EXTERNAL.value
    known = [one.value for one in Lifecycle]
    if named not in known:
        raise UsageProblem(f"E2E_VM_LIFECYCLE={named}: known are {', '.join(known)}.")
    lifecycle = Lifecycle(named)
    if lifecycle is Lifecycle.EXTERNAL and not environment.get("E2E_VM_HOST"):
        return None
    given = {field: environment[name] for name, field in FIELDS.items() if environment.get(name)}
    vm = _vm_of(environment) if lifecycle is Lifecycle.MULTIPASS else None
    host = HostSpec(lifecycle=lifecycle, vm=vm, **cast(Any, given))
    name = environment.get("E2E_VM_NAME") or "vm"
    return Inventory(hosts={name if lifecycle is Lifecycle.MULTIPASS else "vm": host})


def _vm_of(environment: Mapping[str, str]) -> VmSpec | None:
    """As multipass takes it: E2E_VM_CPUS=2, E2E_VM_MEMORY=4G, E2E_VM_DISK=20G, E2E_VM_IMAGE=lts."""
    given: dict[str, Any] = {}
    for variable, (field, unit) in VM_FIELDS.items():
        if text := environment.get(variable, ""):
            number = text.upper().removesuffix("B").removesuffix("I").removesuffix(unit)
            if not number.isdecimal() or int(number) < 1:
                raise UsageProblem(f"{variable}={text}: needs a whole number, for example {variable}=2{unit}.")
            given[field] = int(number)
    if image := environment.get("E2E_VM_IMAGE"):
        given["image"] = image
    return VmSpec(**given) if given else None


def with_defaults(inventory: Inventory, environment: Mapping[str, str]) -> Inventory:
    """User and key of the environment for hosts that name none."""
    user, key = environment.get("E2E_VM_USER"), environment.get("E2E_SSH_KEY")
    hosts = {
        name: replace(host, user=host.user or user or None, key=host.key or key or None)
        for name, host in inventory.hosts.items()
    }
    return replace(inventory, hosts=hosts)


def choose_hosts(inventory: Inventory, names: Iterable[str], where: str = "--staging-hosts") -> dict[str, HostSpec]:
    """The named hosts, or all that do not only load others.

    Raises UsageProblem with the nearest name; `where` says who named the hosts.
    """
    wanted = list(dict.fromkeys(names))
    generators = {host.generator for host in inventory.hosts.values()}
    for name in wanted:
        if name not in inventory.hosts:
            near = difflib.get_close_matches(name, inventory.hosts, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            known = ", ".join(inventory.hosts)
            raise UsageProblem(f"{where}: there is no host {name!r}. {hint}Known: {known}.")
    chosen = wanted or [name for name in inventory.hosts if name not in generators]
    if not chosen:
        raise UsageProblem("every host of the inventory loads another one; none is left to be measured.")
    return {name: inventory.hosts[name] for name in chosen}


def seats_of(hosts: Mapping[str, HostSpec]) -> dict[str, HostSpec]:
    """One per cell that may be measured at once: `vm-1`, and `vm-1-slot2` for a second slot, in a folder of its own.

    First slots come first, so that few workers are spread over many hosts.
    """
    seats = [(slot, name) for name, host in hosts.items() for slot in range(host.slots)]
    seats.sort(key=lambda one: one[0])
    return {_seat_name(name, slot): _in_slot(hosts[name], slot) for slot, name in seats}


def _seat_name(name: str, slot: int) -> str:
    return f"{name}{SLOT_MARK}{slot + 1}" if slot else name


def _in_slot(host: HostSpec, slot: int) -> HostSpec:
    return replace(host, work_directory=f"{host.work_directory}/slot-{slot + 1}") if slot else host
