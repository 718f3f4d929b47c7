"""In a job of GitHub Actions: the campaign writes the step's summary and its annotations by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_staging.model.errors import UsageProblem
from pytest_staging.reports.github import SUMMARY_BYTES, render_annotations, render_step_summary

CHOICES = ("auto", "never")


def make_github_report(config: pytest.Config, benchmark: Path, fail_on: str) -> GithubReport | None:
    """None outside GitHub's jobs, and when the ini file says never. Raises UsageProblem."""
    choice = str(config.getini("staging_github") or CHOICES[0])
    if choice not in CHOICES:
        raise UsageProblem(f"staging_github = {choice}: known are {', '.join(CHOICES)}.")
    found = GithubReport(config, benchmark, fail_on, os.environ)
    return found if choice == "auto" and found.is_wanted else None


class GithubReport:
    """Registered on the controller only. What it cannot write it says, and never fails the campaign for that."""

    def __init__(self, config: pytest.Config, benchmark: Path, fail_on: str, environment: Mapping[str, str]) -> None:
        self._config = config
        self._fail_on = fail_on
        self._summary = environment.get("GITHUB_STEP_SUMMARY")
        self._annotates = environment.get("GITHUB_ACTIONS") == "true"
        self._file = _in_repository(benchmark, environment.get("GITHUB_WORKSPACE"))
        self._lines: list[str] = []

    @property
    def is_wanted(self) -> bool:
        """Whether there is a job of GitHub's that would show it."""
        return bool(self._summary) or self._annotates

    def pytest_staging_campaign_finished(self, aggregate: dict[str, Any]) -> None:
        self._lines = [*self._write_summary(aggregate)]
        if self._annotates:
            self._lines += render_annotations(aggregate, self._file, self._fail_on)
        if not self._config.pluginmanager.hasplugin("terminalreporter"):
            print(*self._lines, sep="\n", flush=True)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # GitHub takes a command only at the beginning of a line.
        terminalreporter.ensure_newline()
        for line in self._lines:
            terminalreporter.write_line(line)

    def _write_summary(self, aggregate: Mapping[str, Any]) -> Iterator[str]:
        if not self._summary:
            return
        path = Path(self._summary)
        try:
            used = path.stat().st_size if path.exists() else 0
            text = render_step_summary(aggregate, SUMMARY_BYTES - used)
            if not text:
                yield f"staging: the step's summary has no room left: {used} bytes of it are used."
                return
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            yield f"staging: the step's summary {path} cannot be written: {error.strerror or error}."


def _in_repository(benchmark: Path, repository: str | None) -> str:
    """As GitHub names files: relative to the repository's root."""
    if repository and benchmark.is_relative_to(repository):
        return benchmark.relative_to(repository).as_posix()
    return str(benchmark)
