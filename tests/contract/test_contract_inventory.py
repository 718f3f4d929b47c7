"""Generators in targets.yaml: who loads whom, and every mistake about it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pytest_staging.contract import build_schema, parse_inventory
from pytest_staging.inventory import choose_generators, choose_hosts, machines_of, require_generator, with_defaults
from pytest_staging.model.errors import ContractError, UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, Inventory

GENERATORS: dict[str, Any] = {"gen-1": {"address": "10.0.0.5"}, "gen-2": {"address": "10.0.0.6", "python": "/opt/py"}}


def text(hosts: dict[str, Any], generators: Any = None) -> str:
    data = {"hosts": hosts, **({} if generators is None else {"generators": generators})}
    return yaml.safe_dump(data, sort_keys=False)


def read(hosts: dict[str, Any], generators: Any = GENERATORS) -> Inventory:
    return parse_inventory(text(hosts, generators))


def test_one_or_several() -> None:
    """XP-06: a name, or a list of names; without any, the load comes from this machine."""
    found = read({"a": {"generator": "gen-1"}, "b": {"generator": ["gen-1", "gen-2"]}, "c": {}})
    assert [host.generators for host in found.hosts.values()] == [("gen-1",), ("gen-1", "gen-2"), ()]
    assert found.generators["gen-2"].python == "/opt/py"
    assert "generators" in build_schema("targets")["properties"]


@pytest.mark.parametrize(
    ("host", "generators", "said"),
    [
        ({"generator": "gen-11"}, GENERATORS, "'gen-11' is no generator of this file; did you mean 'gen-1'?"),
        ({"generator": "b"}, GENERATORS, "'b' is a host, which is measured itself"),
        ({"generator": ["gen-1", "gen-1"]}, GENERATORS, "'gen-1' is named twice"),
        ({"generator": []}, GENERATORS, "names nobody"),
        ({"generator": "gen-1", "address": "10.0.0.5"}, GENERATORS, "'gen-1' is this host"),
        ({"generator": "gen-1", "traffic": "forwarded"}, GENERATORS, "no generator reaches"),
        ({"generator": "b"}, {"b": {}}, "is the name of a host too"),
        ({"generator": "gen-1"}, {"gen-1": {}, "gen-3": {}}, "generators.gen-3: loads no host"),
        ({"generator": "gen-1"}, {"gen-1": {"slots": 2}}, "unknown key"),
        ({"generator": "gen-1"}, {"gen-1": {"work_directory": "/"}}, "must be an absolute path of a folder of its own"),
        ({"generator": "gen-1"}, {"gen-1": {"peer_address": "-oProxyCommand=x"}}, "is no peer address"),
        ({"generator": "gen-1"}, {"gen-1": {"python": "python3; id"}}, "is no name or path of a Python"),
        ({"generator": "-x"}, {"-x": {}}, "generator name"),
        ({"generator": 7}, GENERATORS, "hosts.a.generator"),
        ({}, ["gen-1"], "generators"),
    ],
)
def test_mistakes(host: dict[str, Any], generators: Any, said: str) -> None:
    """XP-06: each is one clear error that names its place."""
    with pytest.raises(ContractError) as error:
        read({"a": host, "b": {"generator": ["gen-1", "gen-2"]} if generators is GENERATORS else {}}, generators)
    assert said in str(error.value)


def test_a_generator_that_is_measured() -> None:
    """XP-06: another name for a chosen host is found out; of hosts that are not chosen nothing is said."""
    generators = {"gen-1": {"address": "10.0.0.1"}}
    found = read({"a": {"generator": "gen-1", "address": "10.0.0.7"}, "b": {"address": "10.0.0.1"}}, generators)
    with pytest.raises(UsageProblem, match="generator gen-1 is the host b, which is measured in the same campaign"):
        choose_generators(found, choose_hosts(found, []))
    assert list(choose_generators(found, choose_hosts(found, ["a"]))) == ["gen-1"]
    assert choose_generators(found, choose_hosts(found, ["b"])) == {}


def test_the_order_is_the_files() -> None:
    """XP-06: leases are taken in one order, whatever order a host names its generators in."""
    found = read({"a": {"generator": ["gen-2", "gen-1"]}})
    assert list(choose_generators(found, found.hosts)) == ["gen-1", "gen-2"]


def test_generators_are_machines_too() -> None:
    """SM-06: `hosts` commands see them; user and key of the environment are theirs as well."""
    found = with_defaults(read({"a": {"generator": ["gen-1", "gen-2"]}}), {"E2E_VM_USER": "me", "E2E_SSH_KEY": "/k"})
    machines = machines_of(found).hosts
    assert list(machines) == ["a", "gen-1", "gen-2"]
    assert {(one.user, one.key) for one in machines.values()} == {("me", "/k")}
    assert GeneratorSpec(peer_address="10.1.0.5").as_host().service_address == "10.1.0.5"
    assert require_generator(found, "gen-2") == "gen-2"
    with pytest.raises(UsageProblem, match="Did you mean 'gen-2'"):
        require_generator(found, "gen-22")
