"""`run-campaign`: another door to `pytest --staging-campaign`. The run itself is the same program."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from typing import Any

from pytest_staging.cli.command import add_command, workspace_of

USAGE_EXIT = 2
PYTEST_USAGE_EXIT = 4
OPTIONS = (
    ("--runs", "N", "runs of every version in every mode (default: 10)"),
    ("--baseline", "SLUG", "version to compare with (default: the one with status baseline)"),
    ("--campaign-id", "ID", "name of the campaign's folder"),
    ("--benchmark-path", "FILE", "benchmark file"),
    ("--staging-seed", "N", "seed of the order"),
    ("--staging-order", "ORDER", "balanced or fixed"),
    ("--staging-target", "TARGET", "where cells run"),
)


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "run-campaign",
        "measure candidates against the baseline; everything after -- goes to pytest",
        "staging-manager run-campaign --baseline baseline --candidate nodelay --runs 10 -- --junitxml=campaign.xml",
        run_campaign,
    )
    for flag, metavar, text in OPTIONS:
        parser.add_argument(flag, metavar=metavar, help=text)
    parser.add_argument("--candidate", metavar="SLUG", action="append", default=[], help="version to judge; repeatable")
    parser.add_argument("--staging-smoke", action="store_true", help="about 1 s of load per cell")
    parser.add_argument("pytest_arguments", nargs="*", metavar="-- PYTEST ARGUMENTS", help="passed on as they are")


def run_campaign(options: argparse.Namespace) -> int:
    root = workspace_of(options).root
    command = [sys.executable, "-m", "pytest", "--staging-campaign", f"--staging-root={root}"]
    for flag, _, _ in OPTIONS:
        value = getattr(options, flag.lstrip("-").replace("-", "_"))
        if value is not None:
            command.append(f"{flag}={value}")
    command += [f"--candidate={slug}" for slug in options.candidate]
    command += ["--staging-smoke"] if options.staging_smoke else []
    return _run(command + options.pytest_arguments)


def _run(command: list[str]) -> int:
    """Waits while pytest cleans up: Ctrl-C reaches it by itself, SIGTERM is passed on."""
    process = subprocess.Popen(command)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, previous)
    return USAGE_EXIT if code == PYTEST_USAGE_EXIT else code if code >= 0 else 128 - code
