"""The hosts of a session: which ones the options name, which ones answer, and how they are told to workers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from pytest_staging import store, wiring
from pytest_staging.contract import parse_inventory
from pytest_staging.inventory import choose_generators, choose_hosts, inventory_of, seats_of
from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, HostSpec, Inventory
from pytest_staging.store import Workspace

DEFAULT_TARGET = "local"


@dataclass(frozen=True)
class Hosts:
    """The host slots on which this session measures, the ones that it cannot use, and how many loads are sent at once.

    Empty for targets that measure where pytest runs. `generators` are those that load one of them.
    """

    seats: Mapping[str, HostSpec] = field(default_factory=dict)
    generators: Mapping[str, GeneratorSpec] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    generator_slots: int | None = None

    def without(self, left_out: Mapping[str, str]) -> Hosts:
        """The same, less those that cannot be used, each with its reason."""
        seats = {name: host for name, host in self.seats.items() if name not in left_out}
        return replace(self, seats=seats, left_out=left_out)

    def shipment(self) -> dict[str, Any]:
        """As plain data, for workers."""
        return {"hosts": {name: asdict(host) for name, host in self.seats.items()},
                "generators": {name: asdict(one) for name, one in self._used().items()},
                "generator_slots": self.generator_slots}  # fmt: skip

    def render(self) -> list[str]:
        """For the session's header."""
        lines = [f"staging: hosts {', '.join(self.seats)}"] if self.seats else []
        if self._used():
            lines.append(f"staging: load from {', '.join(self._used())}")
        return [*lines, *(f"staging: left out: {name}: {reason}" for name, reason in self.left_out.items())]

    def _used(self) -> Mapping[str, GeneratorSpec]:
        """Less those that only load hosts that are left out."""
        wanted = {name for host in self.seats.values() for name in host.generators}
        return {name: one for name, one in self.generators.items() if name in wanted}


def hosts_of(shipment: Mapping[str, Any]) -> Hosts:
    """What `Hosts.shipment` made."""
    if not shipment["hosts"]:
        return Hosts()
    inventory = parse_inventory(json.dumps(shipment), "the controller's hosts")
    return Hosts(inventory.hosts, inventory.generators, generator_slots=inventory.generator_slots)


def read_target(config: pytest.Config, workspace: Workspace) -> str:
    """The target's name: of the option, of the campaign that goes on, or the default."""
    if named := config.option.staging_target:
        return str(named)
    folder = workspace.campaign_folder(config.option.staging_resume) if config.option.staging_resume else None
    if folder and (folder / "campaign.json").is_file():
        return store.load_campaign(folder).target
    return DEFAULT_TARGET


def count_slots(config: pytest.Config, workspace: Workspace) -> int:
    """How many cells may be measured at once, as far as the inventory tells. Raises UsageProblem."""
    inventory = _read_inventory(config, workspace)
    return len(seats_of(inventory.hosts)) if inventory else 1


def obtain_hosts(config: pytest.Config, workspace: Workspace) -> Hosts:
    """The host slots that the campaign may use; VMs are launched for it, and taken away when the session ends.

    None are for a target that measures here. Raises UsageProblem, ToolMissing, VmFailed.
    """
    inventory = _read_inventory(config, workspace)
    if inventory is None:
        return Hosts()
    hosts = inventory.hosts
    if not config.option.collectonly:
        from pytest_staging.lifecycle.obtaining import obtained

        held = ExitStack()
        config.add_cleanup(lambda: _close(held))
        hosts = held.enter_context(obtained(hosts, _say))
    return Hosts(seats_of(hosts), inventory.generators, generator_slots=inventory.generator_slots)


@contextmanager
def one_vm(config: pytest.Config, workspace: Workspace) -> Iterator[tuple[str, HostSpec] | None]:
    """The host that --staging-vm names, or the first, for as long as the block lasts; None without an inventory.

    Raises UsageProblem, ToolMissing, VmFailed.
    """
    named = config.option.staging_vm
    if named is None and not (workspace.root / "targets.yaml").exists() and inventory_of(os.environ) is None:
        yield None
        return
    from pytest_staging.lifecycle.obtaining import obtained

    hosts = choose_hosts(store.load_inventory(workspace), [] if named is None else [named], "--staging-vm")
    first = next(iter(hosts))
    with obtained({first: hosts[first]}, _say) as found:
        yield first, found[first]


def _read_inventory(config: pytest.Config, workspace: Workspace) -> Inventory | None:
    target = read_target(config, workspace)
    given = config.option.staging_hosts
    names = [name.strip() for one in given for name in one.split(",") if name.strip()]
    if given and not names:  # a variable of a script that is not set must not mean every machine
        raise UsageProblem("--staging-hosts names no host. Name some, or leave the option out for all.")
    if not wiring.needs_hosts(target):
        if names:
            raise UsageProblem(f"--staging-hosts goes with a target that has hosts, not with {target}.")
        return None
    inventory = store.load_inventory(workspace)
    chosen = choose_hosts(inventory, names)
    return replace(inventory, hosts=chosen, generators=choose_generators(inventory, chosen))


def _close(held: ExitStack) -> None:
    """pytest is past its reports by then, so what cannot be taken away is said here."""
    try:
        held.close()
    except StagingError as error:
        _say(str(error))


def _say(sentence: str) -> None:
    print(f"staging: {sentence}", flush=True)
