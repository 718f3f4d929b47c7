"""What works with a throughput policy: its telemetry, the watch of a campaign, and presets while cells are measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging import store
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.store import Workspace

if TYPE_CHECKING:
    from pytest_staging.throughput.telemetry import Poller
    from pytest_staging.throughput.watching import PolicyWatch


def make_policy_poller(
    policy: ThroughputPolicy,
    offer: Callable[[Mapping[str, int] | None, str, float], None],
    now_s: Callable[[], float],
    environment: Mapping[str, str] = os.environ,
) -> Poller:
    """What asks for the depths of the policy's queues. Raises UsageProblem for a variable that is not set."""
    from pytest_staging.metrics.fetching import Endpoint
    from pytest_staging.throughput.telemetry import Poller, build_url, parse_depths

    spec = policy.telemetry
    for name in (spec.user_env, spec.password_env):
        if name and not environment.get(name):
            raise UsageProblem(f"the throughput policy reads {name} from the environment, and it is not set.")
    login = (
        (environment[spec.user_env], environment[spec.password_env]) if spec.user_env and spec.password_env else None
    )
    endpoint = Endpoint(build_url(spec, policy.queues), spec.timeout_s, login)
    return Poller(endpoint.fetch, partial(parse_depths, spec, policy.queues), offer, now_s, spec.interval_s, spec.url)


def make_policy_watch(
    workspace: Workspace, url: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> PolicyWatch:
    """What takes the policy's status while a campaign runs; the token is STAGING_POLICY_TOKEN.

    Raises UsageProblem and ContractError: without a good deploy/throughput.yaml there is nothing to judge by.
    """
    from pytest_staging.throughput.client import PolicyClient
    from pytest_staging.throughput.watching import PolicyWatch

    text = store.read_policy_text(workspace)
    return PolicyWatch(PolicyClient(url, environment.get("STAGING_POLICY_TOKEN")), folder, text)


def conditions_of(campaign: Campaign) -> dict[str, Any]:
    """What holds while a cell is measured; nothing, unless versions are compared under presets."""
    if not campaign.policy_presets or campaign.policy_api is None:
        return {}
    from pytest_staging.throughput.client import PolicyClient
    from pytest_staging.throughput.conditions import UnderPreset

    client = PolicyClient(campaign.policy_api, os.environ.get("STAGING_POLICY_TOKEN"))
    return {"conditions": UnderPreset(client, campaign.campaign_id, campaign.policy_presets)}
