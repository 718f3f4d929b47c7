"""Finished campaigns that several modules look at: the same one serial and with -n 2, run side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from running import NO_PAGE, folder_of, make_small, run_campaign

HOOKS = '''
import os
from pathlib import Path

def note(config, what):
    where = os.environ.get("PYTEST_XDIST_WORKER", "controller")
    with (config.rootpath / "hooks.txt").open("a") as file:
        file.write(f"{where} {what}\\n")

def pytest_staging_cell_finished(config, summary):
    written = (config.rootpath / "campaigns" / "c" / summary.cell.folder / "cell-summary.json").is_file()
    note(config, f"cell {summary.cell.cell_id} {summary.outcome} {written}")

def pytest_staging_campaign_finished(config, aggregate):
    written = (config.rootpath / "campaigns" / "c" / "aggregate-comparison.json").is_file()
    note(config, f"campaign {aggregate['campaign_id']} {written}")
'''


@dataclass(frozen=True)
class Finished:
    """A workspace with its finished campaign `c`."""

    root: Path
    result: CompletedProcess[str]

    @property
    def folder(self) -> Path:
        return folder_of(self.root)

    @property
    def junit(self) -> Path:
        return self.root / "junit.xml"


@pytest.fixture(scope="session")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """`serial` and `n2`: two runs, two modes, two versions, the same seed, and the load tool that is the default."""
    folder = tmp_path_factory.mktemp("campaigns")
    arguments = {"serial": (), "n2": ("-n", "2")}

    def finish(name: str) -> Finished:
        root = make_small(folder / name, duration_s=1.0, modes=("jvm", "native"), ini=NO_PAGE, locust=True)
        (root / "conftest.py").write_text(HOOKS)
        (root / "test_project.py").write_text("def test_of_the_project():\n    pass\n")
        result = run_campaign(root, "--runs=2", "--junitxml=junit.xml", *arguments[name])
        return Finished(root, result)

    with ThreadPoolExecutor() as pool:
        return dict(zip(arguments, pool.map(finish, arguments), strict=True))


@pytest.fixture(scope="session")
def serial(campaigns: dict[str, Finished]) -> Finished:
    return campaigns["serial"]


@pytest.fixture(scope="session", params=["serial", "n2"])
def finished(request: pytest.FixtureRequest, campaigns: dict[str, Finished]) -> Finished:
    """Each of the two."""
    return campaigns[request.param]
