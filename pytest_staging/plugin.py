"""The pytest plugin's door: options and fixtures only. Nothing else is imported unless a campaign is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_staging import hookspecs

INI = (
    ("staging_root", "workspace with versions/, benchmark/ and campaigns/ (default: the rootdir)"),
    ("staging_benchmark_path", "benchmark file (default: benchmark/benchmark.yaml)"),
    ("staging_runs", "number of runs (default: 10)"),
    ("staging_order", "order of the versions within a block: balanced (default) or fixed"),
    ("staging_baseline", "slug of the baseline (default: the version with status baseline)"),
    ("staging_fail_on", "verdict that fails its test case: regression (default), inconclusive or never"),
    ("staging_html_report", "report.html at the end: auto (default, when the extra report is installed) or never"),
    ("staging_github", "step summary and annotations in jobs of GitHub Actions: auto (default) or never"),
    ("staging_policy_api", "URL of the throughput policy whose status is taken before, during and after"),
    ("staging_lease_timeout_s", "how long a block waits for its host, in seconds (default: 3600)"),
)
INI_LISTS = (
    ("staging_candidates", "slugs of the candidates (default: every version with status candidate)"),
    ("staging_required_modes", "modes that platform_modes must contain (default: jvm native)"),
)
CONTRACTS_INI = (
    ("staging_contracts_paths", "args", "documents and folders to check (default: README.md docs)"),
    ("staging_contracts_programs", "linelist", "programs whose commands are checked: name=module:function"),
    ("staging_contracts_generators", "linelist", "makers of generated blocks: name=module:function"),
    ("staging_contracts_compose", "args", "compose files (default: those in . and deploy/)"),
    ("staging_contracts_capacity", "string", "capacity profiles (default: deploy/capacity.yaml)"),
    ("staging_contracts_throughput", "string", "presets and classes (default: deploy/throughput.yaml)"),
    ("staging_contracts_benchmark", "string", "metrics (default: benchmark/benchmark.yaml)"),
    ("staging_contracts_versions", "string", "folder of the versions (default: versions)"),
    ("staging_contracts_sources", "args", "files and folders whose text names the environment variables that exist"),
    ("staging_contracts_variables", "args", "further environment variables that exist"),
    ("staging_contracts_prefixes", "args", "further beginnings of environment variables that are checked"),
    ("staging_contracts_made", "args", "globs of paths that programs make, and that need not be there"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every option is declared here and read in session/."""
    group = parser.getgroup("staging", "compare versions of a service (pytest-staging)")
    option = group.addoption
    option("--staging-campaign", action="store_true", help="run a campaign: version × mode × run index")
    option("--runs", metavar="N", help="runs of every version in every mode, or auto")
    option("--baseline", metavar="SLUG", help="version to compare with")
    option("--candidate", metavar="SLUG", action="append", default=[], help="version to judge; may be given again")
    option("--campaign-id", metavar="ID", help="name of the campaign's folder (default: from date and seed)")
    option("--benchmark-path", metavar="FILE", help="benchmark file (default: benchmark/benchmark.yaml)")
    option("--staging-root", metavar="FOLDER", help="workspace (default: the rootdir)")
    option("--staging-seed", metavar="N", help="seed of the order (default: drawn, and recorded)")
    option("--staging-order", metavar="ORDER", help="balanced (default) or fixed")
    option("--staging-resume", metavar="ID", help="go on with a campaign; finished cells are not run again")
    option("--staging-retry-failed", action="store_true", help="with --staging-resume: run failed cells again")
    option("--staging-fail-on", metavar="VERDICT", help="regression (default), inconclusive, or never")
    option("--staging-smoke", action="store_true", help="about 1 s of load per cell, to check the wiring")
    option(
        "--staging-target",
        metavar="TARGET",
        help="where cells run: local (default), docker, ssh, ssh-docker, script, compose:PROFILE",
    )
    option("--staging-hosts", metavar="NAMES", action="append", default=[], help="hosts of targets.yaml (default: all)")
    option("--staging-vm", metavar="NAME", help="host of targets.yaml for the fixture staging_vm (default: the first)")
    option("--staging-policy-api", metavar="URL", help="throughput policy whose status is taken as evidence")
    option("--staging-policy-preset", metavar="PRESETS", help="measure under PRESET[,VERSION=PRESET...] of that policy")
    option("--staging-keep-failed", action="store_true", help="leave the container of a failed cell to be looked at")
    option("--force-rebuild-images", action="store_true", help="build every version before the campaign begins")
    option("--force-rebuild-mode", metavar="MODE", action="append", default=[], help="the same, for one mode")
    option("--staging-build-dry-run", action="store_true", help="say what would be built, and why, and run no cell")
    option(
        "--staging-junit-cell-properties",
        action="store_true",
        help="metrics as properties of each test case in JUnit XML (strict schemas refuse them)",
    )
    option("--staging-contracts", action="store_true", help="check documents against the program: PATHS are markdown")
    option("--staging-contracts-update", action="store_true", help="the same, after rewriting stale generated blocks")
    for name, kind, text in CONTRACTS_INI:
        parser.addini(name, text, type=kind, default=None if kind == "string" else [])  # type: ignore[arg-type]
    for name, text in INI:
        parser.addini(name, text, default="")
    for name, text in INI_LISTS:
        parser.addini(name, text, type="args", default=[])


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if (config.option.staging_contracts or config.option.staging_contracts_update) and not config.option.help:
        from pytest_staging.session import contracts

        contracts.begin(config)
        return
    if config.option.staging_campaign and not config.option.help:
        from pytest_staging.session import begin

        begin(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` asks for as many workers as there are hosts."""
    if not config.option.staging_campaign:
        return None
    from pytest_staging.session import count_hosts

    return count_hosts(config)


@pytest.fixture
def staging_cell(request: pytest.FixtureRequest) -> Any:
    """The cell of this test: `staging_cell.run()` deploys, loads and measures it. Needs --staging-campaign."""
    if not request.config.option.staging_campaign:
        pytest.skip("staging_cell needs --staging-campaign")
    from pytest_staging.session import find_session

    return find_session(request.config).cell_for(request)


@pytest.fixture(scope="session")
def staging_images(request: pytest.FixtureRequest) -> Any:
    """`staging_images(slug, mode)` is that version's image (`ref`, `id`), built when the cache has none.

    For ordinary tests too; with target="local" it is the folder (`path`) of files that a process is started from.
    """
    from pytest_staging.session.asking import find_workspace
    from pytest_staging.session.images import ImagesForTests

    return ImagesForTests(find_workspace(request.config), request.config.option.staging_target)


@pytest.fixture(scope="session")
def staging_vm(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A host of targets.yaml over SSH: `run`, `put`, `get`, `sync`, `forward`. Skips where no host is named."""
    from pytest_staging.session.asking import find_workspace
    from pytest_staging.session.hosts import one_vm
    from pytest_staging.session.vm import StagingVm

    with one_vm(request.config, find_workspace(request.config)) as found:
        if found is None:
            pytest.skip("staging_vm needs a host: write targets.yaml, or set E2E_VM_HOST")
        vm = StagingVm(*found)
        yield vm
        vm.close()
