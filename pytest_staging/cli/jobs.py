"""Several builds at a time, each a process of its own: Ctrl-C reaches them as it reaches one that runs alone."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any

STOP_S = 15.0
Pair = tuple[str, str]


def build_in_parallel(options: argparse.Namespace, pairs: list[Pair]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of the table in the order of `pairs`, and what the builds that failed say, with their exit status."""
    live = sys.stderr.isatty() if options.live is None else options.live
    crew = _Crew(live)
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            done = list(pool.map(lambda pair: crew.run(pair, _command(options, pair, live)), pairs))
        except BaseException:
            crew.stop()
            raise
    rows = [row for printed, status, _ in done if status == 0 for row in json.loads(printed)]
    failures = {
        said.strip() or f"staging-manager: build of {slug} in mode {mode} ended with status {status}": max(status, 1)
        for (slug, mode), (_, status, said) in zip(pairs, done, strict=True)
        if status != 0
    }
    return rows, failures


class _Crew:
    """The builds under way."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, pair: Pair, command: list[str]) -> tuple[str, int, str]:
        with self._lock:
            if self._stopped:
                return "", 130, ""
            # In a session of its own, or a terminal's Ctrl-C would reach it twice, and break its clean-up off.
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                errors="replace", start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        assert process.stdout
        assert process.stderr
        said: list[str] = []
        reader = threading.Thread(target=self._relay, args=(process.stderr, pair, said), daemon=True)
        reader.start()
        printed = process.stdout.read()
        reader.join()
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return printed, status, "".join(said)

    def stop(self) -> None:
        """Asks as Ctrl-C does; after STOP_S it kills."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _relay(self, stream: IO[str], pair: Pair, said: list[str]) -> None:
        for line in stream:
            said.append(line)
            if self._live:
                sys.stderr.write(f"{pair[0]} {pair[1]} | {line}")
                sys.stderr.flush()


def _command(options: argparse.Namespace, pair: Pair, live: bool) -> list[str]:
    slug, mode = pair
    command = [sys.executable, "-m", "pytest_staging", "--root", str(options.root), "build-images", "--json"]
    command += ["--slug", slug, "--mode", mode, "--target", options.target, "--live" if live else "--no-live"]
    forced = options.force_rebuild_images or mode in options.force_rebuild_mode
    return [*command, "--force-rebuild-images"] if forced else command
