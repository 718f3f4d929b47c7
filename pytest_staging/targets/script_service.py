"""A service that a script of the user's has deployed, wherever it runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import ServiceFailed, StagingError
from pytest_staging.model.ports import Usage
from pytest_staging.model.script import ScriptSpec
from pytest_staging.targets.script_commands import Ran, ScriptRunner, parse_url

GONE = 3
"""Exit code of a status command that knows: it does not run (as an init script's has always been)."""
MAX_UNKNOWN = 3


class ScriptService:
    """A deployment. Whoever makes one stops it, also when `begin` fails. Its scripts' words are in deploy.log."""

    def __init__(
        self, runner: ScriptRunner, spec: ScriptSpec, environment: Mapping[str, str], log: Path, remembered: Path
    ) -> None:
        self._runner, self._spec, self._environment = runner, spec, environment
        self._log, self._remembered = log, remembered
        self._script_log = log.with_name("deploy.log")
        self._stopped = ""
        self._ended = ""
        self._fetched = False
        self._quit = threading.Event()
        self._watch: threading.Thread | None = None
        self.base_url = ""

    def begin(self) -> None:
        """Deploys. Raises ServiceFailed with the log's tail."""
        spec = self._spec
        ran = self._run(spec.deploy, spec.deploy_timeout_s)
        if ran.status != 0:
            raise self._failed(f"the deploy command {ran.ending(spec.deploy_timeout_s)}")
        url = parse_url(ran.answer)
        if url is None:
            last = (ran.answer.strip().splitlines() or ["nothing"])[-1][:200]
            raise self._failed(f"the deploy command must print url=http://... last, and printed: {last}")
        self.base_url = url
        if spec.status:
            self._watch = threading.Thread(target=self._ask_status, name="script status", daemon=True)
            self._watch.start()

    def poll(self) -> int | None:
        """The status command's word, some seconds old; always None without one."""
        return GONE if self._ended else None

    def ending(self) -> str:
        """As the Protocol says."""
        if not self._ended:
            return "was destroyed" if self._stopped else "still runs"
        self._fetch_log()
        return self._ended

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """Fetches the log, then destroys; nothing of a deployment is kept. The grace is the script's own matter.

        Raises ServiceFailed, the first time, when something may be left.
        """
        if self._stopped:
            return self._stopped
        try:
            self._end_watch()
            self._fetch_log()
        finally:
            # Also when a second interrupt comes while the log is fetched.
            failure = self._destroy()
        if failure:
            raise failure
        return self._stopped

    def peak_resident_bytes(self) -> int | None:
        """What the memory command prints; None without one, or when it prints something else."""
        if not self._spec.memory or self._stopped:
            return None
        try:
            ran = self._run(self._spec.memory, self._spec.command_timeout_s)
        except StagingError:
            return None
        text = ran.answer.strip()
        return int(text) if ran.status == 0 and text.isascii() and text.isdigit() and int(text) > 0 else None

    def usage(self) -> Usage | None:
        """Cannot be told: the scripts have no command for it."""
        return None

    def owns_endpoint(self) -> bool | None:
        """Cannot be told from here."""
        return None

    def _run(self, argv: tuple[str, ...], deadline_s: float) -> Ran:
        try:
            return self._runner.run(argv, self._environment, self._script_log, deadline_s)
        except OSError as error:
            raise self._failed(f"{argv[0]} cannot be run: {error.strerror}") from error

    def _failed(self, reason: str) -> ServiceFailed:
        return ServiceFailed(f"the service cannot be started: {reason}", durable.read_tail(self._script_log))

    def _destroy(self) -> ServiceFailed | None:
        deadline_s = self._spec.destroy_timeout_s
        try:
            ran = self._run(self._spec.destroy, deadline_s)
            how = ran.ending(deadline_s)
        except StagingError as error:
            ran, how = Ran(None), str(error)
        if ran.status == 0:
            durable.remove(self._remembered)
            self._stopped = "destroyed"
            return None
        self._stopped = f"the destroy command {how}: something may be left; see {self._script_log}"
        return ServiceFailed(self._stopped, durable.read_tail(self._script_log))

    def _fetch_log(self) -> None:
        if self._fetched or not self._spec.log or not self.base_url:
            return
        self._fetched = True
        with suppress(OSError, StagingError):  # a log that cannot be had changes nothing about the cell
            self._runner.append(self._spec.log, self._environment, self._log, self._spec.command_timeout_s)

    def _ask_status(self) -> None:
        unknown = 0
        while not self._ended and not self._quit.wait(self._spec.status_every_s):
            code = self._status_code()
            unknown = 0 if code in (0, GONE) else unknown + 1
            if code == GONE:
                self._ended = "does not run any more, says its status command"
            elif unknown == MAX_UNKNOWN:
                self._ended = f"is lost from sight: its status command failed {MAX_UNKNOWN} times in a row"

    def _status_code(self) -> int | None:
        """None when it could not be asked, or the service is being stopped."""
        with suppress(OSError, StagingError):
            assert self._spec.status
            started = self._runner.started(self._spec.status, self._environment, self._script_log)
            with started as (process, _):
                until = self._spec.command_timeout_s
                while until > 0 and not self._quit.is_set():
                    if (code := process.wait(0.1)) is not None:
                        return code
                    until -= 0.1
        return None

    def _end_watch(self) -> None:
        self._quit.set()
        if self._watch:
            self._watch.join(self._spec.command_timeout_s)
