"""A campaign inside a pytest session. Imported only when --staging-campaign is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_staging import store, wiring
from pytest_staging.campaign.fleet import HostFleet
from pytest_staging.campaign.planning import load_pinned_benchmark, plan_campaign
from pytest_staging.campaign.resuming import resume_campaign
from pytest_staging.campaign.runner import smoke_benchmark
from pytest_staging.campaign.transitions import settled
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.session.asking import (
    find_workspace,
    read_asked,
    read_orders,
    read_request,
)
from pytest_staging.session.cells import SESSION_PLUGIN, CellSession, OnlyOnce, find_session
from pytest_staging.session.controller import Controller
from pytest_staging.session.exits import exiting
from pytest_staging.session.github import make_github_report
from pytest_staging.session.hosts import count_slots, hosts_of, obtain_hosts, read_target
from pytest_staging.store import Workspace

__all__ = ["begin", "count_hosts", "find_session"]


def begin(config: pytest.Config) -> None:
    """Plans or resumes the campaign (controller), or takes it over (xdist worker), and registers what runs it."""
    if config.option.staging_build_dry_run:
        config.option.collectonly = True  # all of pytest, xdist too, then knows that nothing is run
    with exiting():
        workspace = find_workspace(config)
        shipped = getattr(config, "workerinput", {}).get("staging")
        if shipped is None:
            with settled(workspace, changing=False):
                controller = _make_controller(config, workspace)
            _trim_workers(config, controller.slots)
            config.pluginmanager.register(controller, "staging-controller")
            _report_to_github(config, workspace.root / controller.campaign.benchmark_path)
            shipped = json.dumps(controller.shipment())
        data = json.loads(shipped)
        campaign = store.parse_campaign(data["campaign"], "the controller's campaign")
        _default_arguments(config, workspace.root / campaign.benchmark_path)
        session = CellSession(config, workspace, campaign, data["finished"], hosts_of(data["hosts"]))
        config.pluginmanager.register(session, SESSION_PLUGIN)
        config.pluginmanager.register(OnlyOnce(), "staging-only-once")


def count_hosts(config: pytest.Config) -> int:
    """How many cells may be measured at once: one on each host."""
    with exiting():
        return count_slots(config, find_workspace(config))


def _make_controller(config: pytest.Config, workspace: Workspace) -> Controller:
    orders = read_orders(config)
    hosts = obtain_hosts(config, workspace)
    target = wiring.make_fleet(workspace, read_target(config, workspace), hosts.seats)
    tools = wiring.load_tools(hosts.seats, hosts.generators)
    if orders.resumed:
        campaign = resume_campaign(workspace, config.option.staging_resume, read_asked(config), tools)
        target.require_ready()
        benchmark = load_pinned_benchmark(workspace.campaign_folder(campaign.campaign_id), campaign)
    else:
        campaign = plan_campaign(workspace, read_request(config), tools, target)
        benchmark = _load_current(workspace.root / campaign.benchmark_path, campaign.smoke)
    left_out = target.left_out if isinstance(target, HostFleet) else {}
    return Controller(config, workspace, campaign, benchmark, orders, hosts.without(left_out))


def _load_current(path: Path, smoke: bool) -> Benchmark:
    benchmark = store.load_benchmark(path, str(path), required_modes=())
    return smoke_benchmark(benchmark) if smoke else benchmark


def _report_to_github(config: pytest.Config, benchmark: Path) -> None:
    report = make_github_report(config, benchmark, read_orders(config).fail_on)
    if report:
        config.pluginmanager.register(report, "staging-github")


def _trim_workers(config: pytest.Config, slots: int) -> None:
    """More workers than hosts would only wait, and disturb what is measured."""
    specs = getattr(config.option, "tx", None)
    if specs:
        config.option.tx = specs[:slots]


def _default_arguments(config: pytest.Config, benchmark_path: Path) -> None:
    """Without paths on the command line a campaign collects its own cells only, not the project's other tests."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(benchmark_path)]
