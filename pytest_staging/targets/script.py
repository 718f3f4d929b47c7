"""Cells as services that scripts of the user's deploy and destroy, wherever that is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import ServiceFailed, StagingError, ToolMissing
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.script import ScriptSpec, Takes
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets.local import LocalProcess, LocalTarget
from pytest_staging.targets.script_commands import (
    DestroyRecords,
    Ran,
    Remembered,
    ScriptRunner,
    remembered_environment,
    script_environment,
)
from pytest_staging.targets.script_service import ScriptService


class ScriptTarget:
    """`spec`'s commands run in `folder`; the lease is that of `local`, and so are the load tool's processes."""

    name = "script"

    def __init__(self, local: LocalTarget, spec: ScriptSpec, folder: Path | None = None) -> None:
        self._local = local
        self._spec = spec
        self._runner = ScriptRunner(local, folder or Path.cwd())
        self._records = DestroyRecords(local.lease_path)

    def require_ready(self) -> None:
        """Raises ToolMissing naming a command whose program is not there."""
        spec, folder = self._spec, self._runner.folder
        commands = {"deploy": spec.deploy, "destroy": spec.destroy, "status": spec.status, "log": spec.log}
        for what, argv in {**commands, "memory": spec.memory}.items():
            program = argv[0] if argv else ""
            if program and not shutil.which(str(folder / program) if "/" in program else program):
                raise ToolMissing(
                    f"the target script cannot {what}: {program} is no program that can be run in {folder}. Correct "
                    f"`{what}` in deploy/script-target.yaml, or make it executable: chmod +x {program}"
                )

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return "has no image" if self._spec.takes is Takes.IMAGE and mode.image is None else None

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """This machine's. Raises LeaseTimeout; ServiceFailed when what a dead holder left cannot be destroyed."""
        with self._local.lease(holder, timeout_s):
            self._reap()
            try:
                yield
            finally:
                # An interrupt between a deploy and its end leaves nothing either. What cannot be destroyed now stays
                # written down, and who takes the lease next hears of it; it must not hide what happened here.
                with suppress(StagingError):
                    self._reap()

    def facts(self) -> Mapping[str, Any]:
        """Those of this machine, where the load comes from, and the command that says where the service runs."""
        return {**self._local.facts(), "deployed_by": list(self._spec.deploy)}

    def start(self, command: Command) -> LocalProcess:
        return self._local.start(command)

    def deploy(self, deployment: Deployment) -> ScriptService:
        """Raises ServiceFailed with the log's tail; whatever there was is destroyed then."""
        with durable.storing(deployment.log):
            deployment.log.touch()
        environment = script_environment(self._spec, deployment)
        remembered = Remembered(
            argv=self._spec.destroy,
            cwd=str(self._runner.folder),
            environment=remembered_environment(self._spec, environment),
            timeout_s=self._spec.destroy_timeout_s,
        )
        path = self._records.write(environment["NAMESPACE"], remembered)
        service = ScriptService(self._runner, self._spec, environment, deployment.log, path)
        try:
            service.begin()
        except BaseException:
            # What went wrong first matters more; what cannot be destroyed is tried again when the lease is given back.
            with suppress(StagingError):
                service.stop(0.0)
            raise
        return service

    def _reap(self) -> None:
        """Destroys all that is still written down. Raises the first failure, after all were tried."""
        failures = []
        for path in self._records.paths():
            try:
                self._destroy_recorded(path)
            except ServiceFailed as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _destroy_recorded(self, path: Path) -> None:
        found, log = self._records.read(path), path.with_suffix(".log")
        try:
            ran = ScriptRunner(self._local, Path(found.cwd)).run(found.argv, found.environment, log, found.timeout_s)
            how = ran.ending(found.timeout_s)
        except OSError as error:
            ran, how = Ran(None), f"cannot be run: {error.strerror}"
        if ran.status != 0:
            raise ServiceFailed(
                f"what an earlier campaign deployed may still run: {found.argv[0]} {how}. Destroy it with the "
                f"environment in {path}, and remove that file.",
                durable.read_tail(log),
            )
        durable.remove(path)
        log.unlink(missing_ok=True)
