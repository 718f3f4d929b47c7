"""A campaign inside a pytest session. Imported only when --staging-campaign is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from pytest_staging import store, wiring
from pytest_staging.campaign.matrix import ORDERS
from pytest_staging.campaign.planning import CampaignRequest, parse_runs, parse_seed, plan_campaign
from pytest_staging.contract import REQUIRED_MODES
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.plugin import SESSION_PLUGIN
from pytest_staging.session.cells import CellSession
from pytest_staging.session.controller import Controller
from pytest_staging.store import Workspace

DEFAULT_RUNS = "10"


class StagingExit(pytest.exit.Exception):
    """Ends the session with our exit code and one message. pytest prints this class's name before it."""


StagingExit.__name__ = "staging"


@contextmanager
def exiting() -> Iterator[None]:
    """Turns our errors into the end of the session: no traceback for what the user can put right."""
    try:
        yield
    except StagingError as error:
        raise StagingExit(str(error), returncode=error.exit_code) from None


def begin(config: pytest.Config) -> None:
    """Plans the campaign (controller) or takes it over (xdist worker), and registers what runs it."""
    with exiting():
        workspace = Workspace(_root(config))
        shipped = getattr(config, "workerinput", {}).get("staging_campaign")
        if shipped is not None:
            campaign = store.parse_campaign(json.loads(shipped), "the controller's campaign")
            config.pluginmanager.register(CellSession(config, workspace, campaign), SESSION_PLUGIN)
            return
        campaign = plan_campaign(workspace, _request(config), wiring.make_load_tool)
        _trim_workers(config)
        _default_arguments(config, campaign)
        config.pluginmanager.register(CellSession(config, workspace, campaign), SESSION_PLUGIN)
        config.pluginmanager.register(
            Controller(config, workspace, campaign, json.dumps(asdict(campaign)), exiting), "staging-controller"
        )


def count_hosts(config: pytest.Config) -> int:
    """How many cells may be measured at once: one on each host."""
    with exiting():
        wiring.make_target(config.option.staging_target)
    return 1


def _root(config: pytest.Config) -> Path:
    named = config.option.staging_root
    if named:
        root = Path(named).absolute()
    elif config.getini("staging_root"):
        root = config.rootpath / str(config.getini("staging_root"))
    else:
        root = config.rootpath
    if not root.is_dir():
        raise UsageProblem(f"--staging-root {root} is no folder.")
    return root


def _request(config: pytest.Config) -> CampaignRequest:
    option = config.option
    path = option.benchmark_path
    ini_path = str(config.getini("staging_benchmark_path") or "")
    order = option.staging_order or str(config.getini("staging_order") or ORDERS[0])
    if order not in ORDERS:
        raise UsageProblem(f"--staging-order {order}: known are {', '.join(ORDERS)}.")
    return CampaignRequest(
        runs=parse_runs(option.runs if option.runs is not None else str(config.getini("staging_runs") or DEFAULT_RUNS)),
        baseline=option.baseline or str(config.getini("staging_baseline") or "") or None,
        candidates=option.candidate or list(config.getini("staging_candidates")),
        campaign_id=option.campaign_id,
        benchmark_path=Path(path).absolute() if path else config.rootpath / ini_path if ini_path else None,
        seed=None if option.staging_seed is None else parse_seed(option.staging_seed),
        order=order,
        smoke=option.staging_smoke,
        target=option.staging_target,
        required_modes=list(config.getini("staging_required_modes")) or REQUIRED_MODES,
    )


def _trim_workers(config: pytest.Config) -> None:
    """More workers than hosts would only wait, and disturb what is measured."""
    specs = getattr(config.option, "tx", None)
    if specs:
        hosts = count_hosts(config)
        config.option.tx = specs[:hosts]


def _default_arguments(config: pytest.Config, campaign: Campaign) -> None:
    """Without paths on the command line a campaign collects its own cells only, not the project's other tests."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [campaign.benchmark_path]
