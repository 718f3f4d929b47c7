"""staging-manager: what --help says, and that both doors lead to the same program."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_staging import __version__
from pytest_staging.cli import build_parser, main

PROGRAMS = {
    "staging-manager": [str(Path(sys.executable).with_name("staging-manager"))],
    "python -m": [sys.executable, "-m", "pytest_staging"],
}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Every command with its parser; nested commands as `policy set`."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, prefix: str) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    found[f"{prefix}{name}"] = below
                    walk(below, f"{prefix}{name} ")

    walk(build_parser(), "")
    return found


def run(*arguments: str, program: str = "python -m") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAMS[program], *arguments], capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_programs(program: str) -> None:
    """SM-01: `staging-manager` and `python -m pytest_staging` are the same program."""
    if program == "staging-manager":
        assert shutil.which(PROGRAMS[program][0]), "the console script is not installed"
    shown = run("--help", program=program)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == build_parser().format_help()
    assert run("--version", program=program).stdout == f"pytest-staging {__version__}\n"


@pytest.mark.parametrize("command", ["create-version", "build-images", "run-campaign"])
def test_help_lists_the_commands(command: str) -> None:
    """SM-01: --help names every command."""
    listed = [line.split()[0] for line in build_parser().format_help().splitlines() if line.startswith("    ")]
    assert command in listed
    assert set(subparsers()) >= {command}


@pytest.mark.parametrize("command", subparsers())
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-01: each --help exits 0 and ends with an example."""
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: staging-manager {command}")
    assert "example:\n  staging-manager" in shown


@pytest.mark.parametrize("command", subparsers())
def test_the_examples_are_real(command: str) -> None:
    """SM-01: what the help shows is what the parser takes."""
    lines = str(subparsers()[command].epilog).split("example:\n")[1].splitlines()
    for line in lines:
        words = shlex.split(line.split(" > ")[0])
        assert words[0] == "staging-manager"
        options = build_parser().parse_args(words[1:])
        assert callable(options.run)


@pytest.mark.parametrize("command", subparsers())
def test_every_option_is_explained(command: str) -> None:
    options = [one for one in subparsers()[command]._actions if not isinstance(one, argparse._SubParsersAction)]
    unexplained = [action.dest for action in options if not action.help]
    assert [name for name in unexplained if name != "help"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "required: COMMAND"),
        (["create-versions"], "invalid choice: 'create-versions'"),
        (["create-version"], "required: --slug, --from"),
        (["create-version", "--slug", "a"], "required: --from"),
        (["build-images", "--force-rebuild"], "there is no flag --force-rebuild. Known: --force-rebuild"),
        (["run-campaign", "--run", "3"], "there is no flag --run. Known: --runs"),
        (["schema", "versions"], "invalid choice: 'versions'"),
        (["--rot", ".", "schema", "version"], ""),
    ],
)
def test_bad_usage(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-01: strict arguments: no abbreviations, exit code 2, and the message names what is wrong."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert expected in shown.err
    assert shown.err.startswith("usage: staging-manager")
