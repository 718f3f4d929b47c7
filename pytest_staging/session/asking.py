"""From pytest's options and ini values to what is asked for. The command line wins over the ini file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_staging.campaign.matrix import ORDERS
from pytest_staging.campaign.planning import CampaignRequest, parse_runs, parse_seed
from pytest_staging.campaign.resuming import Asked
from pytest_staging.contract import REQUIRED_MODES
from pytest_staging.model.errors import UsageProblem
from pytest_staging.session.controller import Orders
from pytest_staging.session.pages import WANTED
from pytest_staging.session.verdicts import FAIL_ON
from pytest_staging.store import Workspace

DEFAULT_RUNS = "10"


def find_workspace(config: pytest.Config) -> Workspace:
    """Raises UsageProblem when the folder is not there."""
    named = config.option.staging_root
    root = Path(named).absolute() if named else config.rootpath / _ini(config, "staging_root")
    if not root.is_dir():
        raise UsageProblem(f"--staging-root {root} is no folder.")
    return Workspace(root)


def read_request(config: pytest.Config) -> CampaignRequest:
    """For a new campaign. Raises UsageProblem."""
    option = config.option
    order = option.staging_order or _ini(config, "staging_order") or ORDERS[0]
    if order not in ORDERS:
        raise UsageProblem(f"--staging-order {order}: known are {', '.join(ORDERS)}.")
    given = option.runs if option.runs is not None else _ini(config, "staging_runs") or DEFAULT_RUNS
    runs, looks = parse_runs(given)
    ini_path = _ini(config, "staging_benchmark_path")
    return CampaignRequest(
        runs=runs,
        looks=looks,
        baseline=option.baseline or _ini(config, "staging_baseline") or None,
        candidates=option.candidate or list(config.getini("staging_candidates")),
        campaign_id=option.campaign_id,
        benchmark_path=_path(option.benchmark_path) or (config.rootpath / ini_path if ini_path else None),
        seed=None if option.staging_seed is None else parse_seed(option.staging_seed),
        order=order,
        smoke=option.staging_smoke,
        hosts=",".join(option.staging_hosts),
        required_modes=list(config.getini("staging_required_modes")) or REQUIRED_MODES,
        policy_api=policy_api_of(config),
        policy_presets=_policy_presets(config),
    )


def policy_api_of(config: pytest.Config) -> str | None:
    """The throughput policy's API, when there is one to be asked."""
    return config.option.staging_policy_api or _ini(config, "staging_policy_api") or None


def _policy_presets(config: pytest.Config) -> tuple[str, dict[str, str]] | None:
    text = config.option.staging_policy_preset
    if text is None:
        return None
    if policy_api_of(config) is None:
        raise UsageProblem("--staging-policy-preset needs the API of the policy: --staging-policy-api URL.")
    from pytest_staging.store import load_throughput
    from pytest_staging.throughput.conditions import parse_presets

    return parse_presets(text, load_throughput(find_workspace(config)).presets)


def read_asked(config: pytest.Config) -> Asked:
    """For a campaign that goes on: only what stands on the command line can contradict it."""
    option = config.option
    return Asked(
        runs=option.runs,
        seed=None if option.staging_seed is None else parse_seed(option.staging_seed),
        order=option.staging_order,
        baseline=option.baseline,
        candidates=tuple(option.candidate),
        benchmark_path=_path(option.benchmark_path),
        smoke=option.staging_smoke,
        campaign_id=option.campaign_id,
        target=option.staging_target,
    )


def read_orders(config: pytest.Config) -> Orders:
    """How the session runs. Raises UsageProblem."""
    option = config.option
    fail_on = option.staging_fail_on or _ini(config, "staging_fail_on") or FAIL_ON[0]
    if fail_on not in FAIL_ON:
        raise UsageProblem(f"--staging-fail-on {fail_on}: known are {', '.join(FAIL_ON)}.")
    page = _ini(config, "staging_html_report") or WANTED[0]
    if page not in WANTED:
        raise UsageProblem(f"staging_html_report = {page}: known are {', '.join(WANTED)}.")
    if option.staging_retry_failed and not option.staging_resume:
        raise UsageProblem("--staging-retry-failed goes with --staging-resume ID.")
    if option.staging_policy_preset and option.staging_resume:
        raise UsageProblem("--staging-policy-preset is pinned by the campaign; leave it out with --staging-resume.")
    return Orders(
        fail_on,
        resumed=bool(option.staging_resume),
        retry_failed=option.staging_retry_failed,
        rebuild_all=option.force_rebuild_images,
        rebuild_modes=tuple(option.force_rebuild_mode),
        policy_api=policy_api_of(config),
        html_report=page,
    )


def _ini(config: pytest.Config, name: str) -> str:
    return str(config.getini(name) or "")


def _path(text: str | None) -> Path | None:
    return Path(text).absolute() if text else None
