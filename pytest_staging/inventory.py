"""Where the hosts come from: targets.yaml, or the environment of a deploy script. Which of them are used. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, HostSpec, Inventory, Lifecycle, VmSpec
from pytest_staging.model.names import ADDRESS_PATTERN

M = TypeVar("M", HostSpec, GeneratorSpec)
SSH_PORT = 22
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
    _require_plain(environment)
    vm = _vm_of(environment) if lifecycle is Lifecycle.MULTIPASS else None
    host = HostSpec(lifecycle=lifecycle, vm=vm, **cast(Any, given))
    name = environment.get("E2E_VM_NAME") or "vm"
    return Inventory(hosts={name if lifecycle is Lifecycle.MULTIPASS else "vm": host})


def _require_plain(environment: Mapping[str, str]) -> None:
    """By the rule of targets.yaml."""
    for variable, kind in (("E2E_VM_HOST", "address or name of a host"), ("E2E_VM_USER", "name of a user")):
        if (text := environment.get(variable)) and not re.fullmatch(ADDRESS_PATTERN, text):
            raise UsageProblem(f"{variable}={text!r} is no {kind}.")


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
    """User and key of the environment for hosts and generators that name none. Raises UsageProblem."""
    _require_plain(environment)
    user, key = environment.get("E2E_VM_USER"), environment.get("E2E_SSH_KEY")

    def completed(one: M) -> M:
        return replace(one, user=one.user or user or None, key=one.key or key or None)

    return replace(
        inventory,
        hosts={name: completed(host) for name, host in inventory.hosts.items()},
        generators={name: completed(one) for name, one in inventory.generators.items()},
    )


def choose_hosts(inventory: Inventory, names: Iterable[str], where: str = "--staging-hosts") -> dict[str, HostSpec]:
    """The named hosts, or all. Raises UsageProblem with the nearest name; `where` says who named the hosts."""
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in inventory.hosts:
            near = difflib.get_close_matches(name, inventory.hosts, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            known = ", ".join(inventory.hosts)
            raise UsageProblem(f"{where}: there is no host {name!r}. {hint}Known: {known}.")
    return {name: inventory.hosts[name] for name in wanted or inventory.hosts}


def choose_generators(inventory: Inventory, hosts: Mapping[str, HostSpec]) -> dict[str, GeneratorSpec]:
    """What loads these hosts, in the order of the file. Raises UsageProblem for one that is measured itself."""
    wanted = {name for host in hosts.values() for name in host.generators}
    chosen = {name: one for name, one in inventory.generators.items() if name in wanted}
    measured = {(host.address or name, host.port or SSH_PORT): name for name, host in hosts.items()}
    for name, one in chosen.items():
        if host := measured.get((one.address or name, one.port or SSH_PORT)):
            raise UsageProblem(
                f"generator {name} is the host {host}, which is measured in the same campaign: its load would disturb "
                "it. Name the hosts to be measured with --staging-hosts, or another generator."
            )
    return chosen


def require_generator(inventory: Inventory, name: str) -> str:
    """The name. Raises UsageProblem with the nearest when there is no generator of that name."""
    if name not in inventory.generators:
        near = difflib.get_close_matches(name, inventory.generators, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        known = ", ".join(inventory.generators) or "none"
        raise UsageProblem(f"--generator: there is no generator {name!r} in targets.yaml. {hint}Known: {known}.")
    return name


def machines_of(inventory: Inventory) -> Inventory:
    """Generators as hosts beside the others, for what looks after all of them."""
    generators = {name: one.as_host() for name, one in inventory.generators.items()}
    return replace(inventory, hosts={**inventory.hosts, **generators})


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
