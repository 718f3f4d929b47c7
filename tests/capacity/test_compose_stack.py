"""The stack of a cell, made of what Compose resolved: pure data in and out; and the target's own notation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from systems import CAPACITY

from pytest_staging.capacity.choosing import parse_choice
from pytest_staging.contract import parse_capacity
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.errors import UsageProblem
from pytest_staging.targets.compose_stack import UnderTest, build_stack

CONFIG: dict[str, Any] = {
    "name": "theirs",
    "services": {
        "api": {
            "image": "api:1",
            "build": {"context": "/x"},
            "container_name": "one",
            "ports": ["127.0.0.1:8080:80/tcp", "9000:90"],
            "environment": {"A": "$$1", "B": "2"},
            "healthcheck": {"test": ["CMD", "x"]},
            "deploy": {"replicas": 3},
            "depends_on": {"db": {"condition": "service_healthy"}, "gone": {"condition": "service_started"}},
        },
        "db": {"image": "db:1", "labels": ["a=b"], "ports": [{"target": 5432, "published": 5432, "protocol": "tcp"}]},
        "front": {"image": "front:1", "depends_on": {"api": {"condition": "service_healthy"}}, "restart": "always"},
        "gone": {"image": "gone:1", "profiles": ["other"]},
    },
    "networks": {"default": {"name": "theirs_default"}, "shared": {"external": True, "name": "shared"}},
    "volumes": {"data": {"name": "theirs_data"}},
}
TESTED = UnderTest(
    service="api", port=80, image_id="sha256:1", environment={"B": "$x"}, limits=ContainerLimits(cpus=0.5, memory_mb=64)
)


def test_a_stack_is_the_cells_own() -> None:
    """CP-06: any free port on loopback, no fixed names, labels to find it by, and the version's image and limits."""
    stack = build_stack(CONFIG, ["api", "db", "front"], TESTED, {"mark": "1"})
    api, db, front = (stack["services"][name] for name in ("api", "db", "front"))
    assert set(stack["services"]) == {"api", "db", "front"}
    assert api["ports"] == ["127.0.0.1::90/tcp", "127.0.0.1::80"]
    assert db["ports"] == ["127.0.0.1::5432/tcp"]
    assert api["environment"] == {"A": "$$1", "B": "$$x"}
    assert (api["image"], api["cpus"], api["mem_limit"]) == ("sha256:1", 0.5, 64 << 20)
    assert api["healthcheck"] == {"disable": True}
    assert {"build", "container_name", "deploy"}.isdisjoint(api)
    assert api["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert front["depends_on"] == {"api": {"condition": "service_started"}}
    assert {one["restart"] for one in stack["services"].values()} == {"no"}
    assert db["labels"] == {"a": "b", "mark": "1"}
    assert stack["networks"]["default"] == {"labels": {"mark": "1"}}
    assert stack["networks"]["shared"] == {"external": True, "name": "shared"}
    assert stack["volumes"]["data"] == {"labels": {"mark": "1"}}
    assert "name" not in stack


def test_the_profile_of_each_version() -> None:
    """CP-06: one profile for all, or another for a version; the environment is the file's first unless it is named."""
    capacity = parse_capacity(yaml.safe_dump(CAPACITY, sort_keys=False))
    one = parse_choice("wide", capacity)
    assert (one.profile_of("any"), one.environment, one.profiles) == ("wide", "dev", ["wide"])
    two = parse_choice("small,fast=wide@prod", capacity)
    assert (two.profile_of("fast"), two.profile_of("any"), two.environment) == ("wide", "small", "prod")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no profile ''. Known: small, wide"),
        ("wid", "no profile 'wid'"),
        ("small,wide", "'wide' is no VERSION=PROFILE"),
        ("small,a=wid", "no profile 'wid'"),
        ("small@nowhere", "no environment 'nowhere'. Known: dev, prod"),
    ],
)
def test_a_wrong_notation_names_what_there_is(text: str, words: str) -> None:
    """CP-06: exit code 2 before anything is built."""
    with pytest.raises(UsageProblem) as caught:
        parse_choice(text, parse_capacity(yaml.safe_dump(CAPACITY, sort_keys=False)))
    assert words in str(caught.value)
    assert "compose:PROFILE[,VERSION=PROFILE...][@ENVIRONMENT]" in str(caught.value)
