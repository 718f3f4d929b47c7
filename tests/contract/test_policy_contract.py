"""deploy/throughput.yaml: strict, everything that is wrong at once, and never a floor that something may break."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_staging.contract import parse_throughput
from pytest_staging.model.errors import ContractError

FILE = Path(__file__).resolve().parents[2] / "deploy" / "throughput.yaml"
GOOD: dict[str, Any] = yaml.safe_load(FILE.read_text())


def changed(path: str, value: Any) -> str:
    """The shipped file with one value set, or removed with Ellipsis."""
    data = copy.deepcopy(GOOD)
    *way, last = path.split("/")
    place: Any = data
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return yaml.safe_dump(data, sort_keys=False)


def test_the_shipped_file_is_good_and_says_who_belongs_where() -> None:
    """TP-01: presets, classes and their members come from the file."""
    policy = parse_throughput(FILE.read_text())
    assert {"conservative", "balanced", "aggressive"} <= set(policy.presets)
    assert [policy.class_of(work) for work in ("interactive-login", "report-9", "unheard-of")] == [
        "interactive", "expensive", "standard",
    ]  # fmt: skip
    assert policy.expensive == ("expensive",)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("presets/balanced/expensive/floor", 0, "greater than or equal to 1"),
        ("presets/balanced/expensive/floor", 3, "3 is more than the parallelism, 2"),
        ("presets/balanced/expensive/parallelism", 9, "more than the class has without a policy, 4"),
        ("presets/conservative/expensive/parallelism", 3, "more than balanced gives it, 2"),
        ("presets/balanced/expensive", ..., "says nothing about the class 'expensive'"),
        ("presets/balanced/other", {"parallelism": 1, "floor": 1}, "is no class of this file"),
        ("presets/aggressive", ..., "the preset 'aggressive' is missing"),
        ("default_preset", "calm", "there is no preset 'calm'"),
        ("default_class", "calm", "there is no class 'calm'"),
        ("classes/standard/members", ["report-*"], "belongs to standard already"),
        ("classes/standard/tiers", 1, "did you mean 'tier'?"),
        ("queues/enrichment/critical", 100, "100 must be more than warning"),
        ("telemetry/max_age_s", 4, "would count as stale"),
        ("telemetry/url", "http://me:secret@127.0.0.1:15672", "must not hold a user or password"),
        ("telemetry/url", "ftp://127.0.0.1", "is no http or https URL"),
        ("telemetry/password_env", ..., "is missing: the name of the environment variable"),
        ("telemetry/label", "queue", "does not go with kind: rabbitmq"),
        ("override/max_ttl_s", 10, "10 is less than min_ttl_s"),
        ("override/default_ttl_s", 9000, "does not lie between"),
        ("evidence/rollback_triggers", [], "at least 1 item"),
        ("evidence/rollback_triggers/0/when", "after", "needs either metric"),
        ("evidence/rollback_triggers/0/above", 3, "needs exactly one of"),
        ("evidence/rollback_triggers/1/name", "latency-worse", "stands twice"),
        ("evidence/kpis", [], "at least 1 item"),
        ("pressure/sustained_s", 0, "greater than 0"),
        ("pressure/sustained_s", "30", "valid number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(path: str, value: Any, said: str) -> None:
    """TP-01: each broken rule is an error that names what is wrong."""
    with pytest.raises(ContractError, match=r"^throughput") as caught:
        parse_throughput(changed(path, value))
    assert said in str(caught.value)


def test_all_errors_come_at_once() -> None:
    """TP-06: a broken trigger is found beside everything else that is broken, each with its line."""
    text = FILE.read_text().replace("worse_by: 0.10", "worse_by: -1").replace("critical: 500", "critical: 5")
    with pytest.raises(ContractError) as caught:
        parse_throughput(text)
    assert len(caught.value.problems) == 2
    assert all(problem.line for problem in caught.value.problems)
