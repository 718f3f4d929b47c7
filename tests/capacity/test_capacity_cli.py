"""`staging-manager capacity`: strict arguments, deterministic text, and Compose as v2, v1 or not at all."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from systems import CAPACITY, COMPOSE, ROOT, manager, write_system
from workspaces import wait_for

from pytest_staging.cli import build_parser, main
from pytest_staging.model.ports import Command
from pytest_staging.targets.compose_program import Unleased
from pytest_staging.targets.local import LocalTarget

STEPS = ["validate", "start", "status", "evidence", "rollback", "stop", "clean"]
NEEDS_PROFILE = [step for step in STEPS if step != "validate"]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The program in this process, over a system of its own: exit code and complaint."""

    def called(*arguments: str) -> tuple[int, str]:
        write_system(tmp_path)
        try:
            code: object = main(["--root", str(tmp_path), "capacity", *arguments])
        except SystemExit as leaving:
            code = leaving.code
        told = capsys.readouterr()
        assert told.out == ""
        return int(str(code)), told.err

    return called


@pytest.mark.parametrize("step", [*NEEDS_PROFILE, "show", "validate"])
def test_an_unknown_name_names_the_known_ones_nearest_first(step: str, run: Callable[..., tuple[int, str]]) -> None:
    """CP-01: profiles and environments are those of the file; exit code 2, and nothing was asked of an engine."""
    code, complaint = run(step, "wid", "--env", "dev")
    assert (code, "no profile 'wid' in deploy/capacity.yaml. Known: wide, small." in complaint) == (2, True), complaint
    code, complaint = run(step, "wide", "--env", "prd")
    assert (code, "no environment 'prd' in deploy/capacity.yaml. Known: prod, dev." in complaint) == (2, True), (
        complaint
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "wide", "--env", "dev", "--biuld"], "there is no flag --biuld. Known: --build, "),
        (["status", "wide", "--env", "dev", "--jsn=1"], "there is no flag --jsn. Known: --json, "),
        (["stop", "wide", "--env", "dev", "--build"], "there is no flag --build. Known: "),
        (["start", "wide", "small", "--env", "dev"], "'small' is one argument too many"),
        (["start", "wide"], "the following arguments are required: --env"),
        (["start", "--env", "dev"], "the following arguments are required: PROFILE"),
        (["strt", "wide"], "invalid choice: 'strt'"),
        (["start", "wide", "--en", "dev"], "--env"),
        (["evidence", "wide", "--env", "dev", "--drain-timeout", "-1"], "--drain-timeout needs more than 0"),
        (["evidence", "wide", "--env", "dev", "--drain-timeout", "nan"], "--drain-timeout needs more than 0"),
    ],
)
def test_arguments_are_strict(arguments: list[str], words: str, run: Callable[..., tuple[int, str]]) -> None:
    """CP-01: a mistyped flag is refused with exit code 2 and the valid ones, the nearest first; none is abbreviated."""
    code, complaint = run(*arguments)
    assert (code, words in complaint) == (2, True), complaint


def test_no_capacity_file_is_one_clear_error(tmp_path: Path) -> None:
    """CP-01: what is missing, and what to do."""
    done = manager(tmp_path, "list")
    assert done.returncode == 2
    assert "deploy/capacity.yaml" in done.stderr
    assert "staging-manager schema capacity" in done.stderr


def test_another_file_may_be_named(tmp_path: Path) -> None:
    """CP-01: a user's own system; the commands that show prints name the file too."""
    write_system(tmp_path)
    (tmp_path / "deploy").rename(tmp_path / "ours")
    done = manager(tmp_path, "show", "wide", "--env", "dev", "--file", "ours/capacity.yaml")
    assert done.returncode == 0
    assert f"staging-manager --root {tmp_path} capacity start wide --env dev --file ours/capacity.yaml" in done.stdout


@pytest.mark.parametrize("profile", ["baseline", "observability", "scale-out"])
def test_show_gives_the_same_bytes_each_time(profile: str) -> None:
    """CP-02: whatever the environment holds; text and JSON name the same commands, which the program itself parses."""
    environments = [{"PATH": os.environ["PATH"]}, {"PATH": "/nowhere", "HOME": "/tmp", "PYTHONHASHSEED": "7", "A": "b"}]
    told = [manager(ROOT, "show", profile, "--env", "prod", env=one).stdout for one in environments]
    assert told[0] == told[1] != ""
    data = [manager(ROOT, "show", profile, "--env", "prod", "--json", env=one).stdout for one in environments]
    assert data[0] == data[1]
    commands = json.loads(data[0])["commands"]
    assert list(commands) == STEPS
    for step, argv in commands.items():
        assert shlex.join(argv) in told[0]
        parsed = build_parser().parse_args(argv[1:])
        assert (parsed.profile, parsed.env) == (profile, "prod"), step
    lines = [line for line in told[0].splitlines() if line and not line.startswith("#")]
    assert lines == [shlex.join(commands[step]) for step in STEPS[:5]]
    assert subprocess.run(["bash", "-n"], input=told[0], text=True, timeout=20).returncode == 0


def test_list_shows_every_profile(tmp_path: Path) -> None:
    """CP-01: with what each switches on."""
    write_system(tmp_path)
    told = json.loads(manager(tmp_path, "list", "--json").stdout)
    assert [one["profile"] for one in told] == ["small", "wide"]
    assert told[1]["replicas"] == {"extra": 1}
    assert "PARALLEL=8" in manager(tmp_path, "list").stdout


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_list_and_show_have_all_that_a_profile_declares(columns: int) -> None:
    """CP-01: replicas too; the list fits into the terminal."""
    told = manager(ROOT, "list", env={"PATH": "/usr/bin:/bin", "COLUMNS": str(columns)}).stdout
    assert max(map(len, told.splitlines())) <= columns
    assert "replicas: worker=1, worker-1=1, worker-2=1, worker-3=1" in " ".join(told.split())
    assert "variables: POLICY_WORKERS=4, WORKER_MAX_PARALLEL=8" in " ".join(told.split())
    shown = manager(ROOT, "show", "scale-out", "--env", "dev").stdout
    assert "# replicas: worker=1, worker-1=1, worker-2=1, worker-3=1\n" in shown


@pytest.mark.parametrize("page", ["docker_compose.md", "usage_guide.md"])
def test_a_documented_rollback_follows_the_start_of_its_profile(page: str) -> None:
    """RB-01: rollback refuses a profile that was not started last, so a page has to start it first."""
    rollbacks = 0
    for section in (ROOT / "docs" / page).read_text().partition("\n## Every command")[0].split("\n## "):
        started: list[str] = []
        for step, profile in re.findall(r"^ *staging-manager capacity (start|rollback) (\S+)", section, re.MULTILINE):
            if step == "rollback":
                rollbacks += 1
                assert profile in started[-1:], section.partition("\n")[0]
            else:
                started.append(profile)
    assert rollbacks


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


V2 = (
    'if [ "$1" = compose ]; then shift; [ "$1" = version ] && echo "Docker Compose version v2.29.7"; exit 0; fi; exit 1'
)
OLD_CLIENT = 'echo "Docker version 20.10.24"; exit 0'
V1 = '[ "$1" = version ] && echo "docker-compose version 1.29.2, build unknown"; exit 0'
PROGRAMS = {
    "v2": ({"docker": V2}, "docker compose "),
    "both": ({"docker": V2, "docker-compose": V1}, "docker compose "),
    "v1": ({"docker-compose": V1}, "docker-compose "),
    "a docker client without the plugin": ({"docker": OLD_CLIENT, "docker-compose": V1}, "docker-compose "),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_compose_is_found_in_whichever_version_there_is(case: str, tmp_path: Path) -> None:
    """CP-04: v2 first, then v1; a dry run prints the commands, and runs none of them."""
    programs, expected = PROGRAMS[case]
    write_system(tmp_path)
    for name, script in programs.items():
        fake(tmp_path / "bin", name, f'echo "$@" >>{tmp_path}/called\n{script}')
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin-none:/bin-none", "DOCKER_HOST": "unix:///nowhere"}
    done = manager(tmp_path, "start", "wide", "--env", "dev", "--dry-run", env=environment)
    assert done.returncode == 0, done.stderr
    commands = [line.removeprefix("+ ") for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert commands[0] == (
        f"{expected}--ansi never -p tests-dev -f {tmp_path}/deploy/compose.yaml --profile wide "
        "up -d --no-build --remove-orphans"
    )
    assert done.stdout.startswith("# with PARALLEL=8\n")
    called = (tmp_path / "called").read_text().splitlines()
    assert all(line.endswith("version") for line in called), called
    assert not (tmp_path / "capacity").exists()


@pytest.mark.parametrize("step", ["start", "stop", "clean"])
def test_no_compose_at_all_is_one_clear_error(step: str, tmp_path: Path) -> None:
    """CP-04: exit code 2, and what to install."""
    write_system(tmp_path)
    environment = {"PATH": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}
    done = manager(tmp_path, step, "wide", "--env", "dev", "--dry-run", env=environment)
    assert done.returncode == 2
    assert "neither Compose v2 (docker compose) nor v1 (docker-compose) answers here" in done.stderr


def test_taking_down_names_every_compose_profile(tmp_path: Path) -> None:
    """CP-04: Compose leaves the services of profiles that are not named; so small's clean names wide too."""
    write_system(tmp_path)
    fake(tmp_path / "bin", "docker-compose", V1)
    environment = {"PATH": str(tmp_path / "bin"), "DOCKER_HOST": "unix:///nowhere"}
    for step, words in {"stop": "stop --timeout", "clean": "down --volumes --remove-orphans"}.items():
        done = manager(tmp_path, step, "small", "--env", "prod", "--dry-run", env=environment)
        assert (done.returncode, f"--profile wide {words}" in done.stdout) == (0, True), done.stderr
    done = manager(tmp_path, "start", "small", "--env", "dev", "--dry-run", env=environment)
    assert "--profile wide rm --stop --force -v extra" in done.stdout
    assert not (tmp_path / "capacity").exists(), "a dry run takes no lock and writes nothing"


def test_a_dry_run_shows_no_value_of_the_environment(tmp_path: Path) -> None:
    """CP-04: whatever they are called, an environment's variables may be secrets; the profile's own are told."""
    broker = {"service": "store", "user_env": "USER_ENV", "password_env": "PASSWORD"}
    variables = {"DB_PASSWORD": "hunter2", "PARALLEL": "5", "PASSWORD": "hunter3"}
    wide = {**CAPACITY["profiles"]["wide"], "variables": {"PARALLEL": "8", "PASSWORD": "hunter4"}}
    capacity = {**CAPACITY, "environments": {"dev": {"variables": variables}}, "profiles": {"wide": wide}}
    compose = COMPOSE.replace("environment: {", 'environment: {P: "${PASSWORD}", D: "${DB_PASSWORD}", ', 1)
    write_system(tmp_path, compose, {**capacity, "broker": broker})
    fake(tmp_path / "bin", "docker-compose", V1)
    environment = {"PATH": str(tmp_path / "bin"), "DOCKER_HOST": "unix:///nowhere"}
    done = manager(tmp_path, "start", "wide", "--env", "dev", "--dry-run", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# with DB_PASSWORD=... PARALLEL=8 PASSWORD=...\n")
    assert "hunter" not in done.stdout + done.stderr


def test_a_start_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """CP-03 CP-04: mismatches and variables that are not set: exit code 2, nothing recorded."""
    write_system(tmp_path, COMPOSE.replace("    healthcheck: {test: [CMD, check]}\n", "", 1))
    fake(tmp_path / "bin", "docker-compose", V1)
    environment = {"PATH": str(tmp_path / "bin"), "DOCKER_HOST": "unix:///nowhere"}
    done = manager(tmp_path, "start", "wide", "--env", "dev", env=environment)
    assert (done.returncode, "needs a healthcheck" in done.stderr) == (2, True)
    done = manager(tmp_path, "start", "wide", "--env", "prod", env=environment)
    assert (done.returncode, "environment prod needs TOKEN to be set" in done.stderr) == (2, True)
    done = manager(tmp_path, "start", "small", "--env", "dev", "--build", env=environment)
    assert done.returncode == 2
    assert not (tmp_path / "capacity").exists()


@pytest.mark.parametrize("step", ["start", "status", "stop", "clean", "evidence"])
def test_an_engine_that_is_down_is_one_clear_error(step: str, tmp_path: Path) -> None:
    """CP-04: which engine was asked, and what to do; nothing is recorded as started."""
    write_system(tmp_path)
    fake(tmp_path / "bin", "docker-compose", V1)
    environment = {"PATH": str(tmp_path / "bin"), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = manager(tmp_path, step, "wide", "--env", "dev", env=environment)
    assert done.returncode == 2
    assert f"no Docker engine answers at unix://{tmp_path}/none.sock" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "capacity" / "tests-dev" / "history.json").exists()


def test_a_campaign_that_takes_the_lease_ends_no_command(tmp_path: Path, lease_folder: Path) -> None:
    """CP-04: what a campaign takes for leftovers are processes of campaigns; Compose of an operator is none."""
    runner, ended = Unleased(), []
    command = Command(argv=["sleep", "600"], cwd=tmp_path, log=tmp_path / "log")
    thread = threading.Thread(target=lambda: ended.append(runner.run(command, 2.0)))
    thread.start()
    wait_for(lambda: session_of(tmp_path))
    with LocalTarget().lease("a campaign", 10):
        assert ended in ([], [None]), "it still runs, if taking the lease was not slower than its deadline"
    thread.join(30)
    assert ended == [None], "its own deadline ended it"


def session_of(folder: Path) -> bool:
    """Whether a program runs in that folder."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if path.readlink() == folder and path.parent.name != str(os.getpid()):
                return True
    return False
