"""The user's commands for a deployment: run with a deadline, and written down for as long as something may be left."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import ServiceFailed
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.script import ScriptSpec
from pytest_staging.targets.local import LocalProcess, LocalTarget

STOP_GRACE_S = 10.0
POLL_S = 0.02
MAX_ANSWER_BYTES = 1 << 20
# Standard output goes to a file of its own, and standard error to the log.
SEPARATE = ("/bin/sh", "-c", 'exec "$@" >"$0"')
MAX_NAMESPACE_LENGTH = 63
DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Ran:
    """How a command went. `status` is None when it took too long; `answer` is its standard output."""

    status: int | None
    answer: str = ""

    def ending(self, deadline_s: float) -> str:
        """For a sentence that begins with the command's name."""
        if self.status is None:
            return f"did not end in {deadline_s:g} s, or never stopped printing"
        return f"was killed by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What it takes to destroy a deployment, also for another process after the one that deployed has died."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    timeout_s: float


class ScriptRunner:
    """Runs commands in `folder` as processes of the local target."""

    def __init__(self, local: LocalTarget, folder: Path) -> None:
        self._local = local
        self.folder = folder

    def run(self, argv: Sequence[str], environment: Mapping[str, str], log: Path, deadline_s: float) -> Ran:
        """To its end. What it started on this machine and left running is ended too."""
        with self.started(argv, environment, log) as (process, answer):
            until = time.monotonic() + deadline_s
            while (status := process.wait(POLL_S)) is None:
                # Nobody reads this much, and the disk is not the script's to fill.
                if time.monotonic() > until or answer.stat().st_size > MAX_ANSWER_BYTES:
                    return Ran(None)
            process.end_log()
            return Ran(status, answer.read_text(errors="replace"))

    def append(self, argv: Sequence[str], environment: Mapping[str, str], log: Path, deadline_s: float) -> Ran:
        """As run, with all that it prints at the end of `log`, within bounds."""
        process = self._local.start(Command(argv=argv, cwd=self.folder, log=log, env=environment))
        try:
            return Ran(process.wait(deadline_s))
        finally:
            process.stop(0.0)

    @contextmanager
    def started(
        self, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> Iterator[tuple[LocalProcess, Path]]:
        """A running command and the file of its standard output. It is ended at the end."""
        with tempfile.TemporaryDirectory(prefix="pytest-staging-") as folder:
            answer = Path(folder) / "answer"
            answer.touch()
            command = [*SEPARATE, str(answer), *argv]
            process = self._local.start(Command(argv=command, cwd=self.folder, log=log, env=environment))
            try:
                yield process, answer
            finally:
                # One that is interrupted may clean up by itself.
                process.stop(STOP_GRACE_S)


class DestroyRecords:
    """One file for each deployment that may still be there, in a private folder beside the lease."""

    def __init__(self, lease_path: Path) -> None:
        self._folder = lease_path.with_suffix(".scripts")

    def write(self, namespace: str, remembered: Remembered) -> Path:
        """Whole or not at all. Raises StorageError, and then nothing may be deployed."""
        path = self._folder / f"{namespace}.json"
        with durable.storing(path):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        durable.write_text(path, json.dumps(asdict(remembered), indent=1))
        return path

    def paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    @staticmethod
    def read(path: Path) -> Remembered:
        """Raises ServiceFailed for a file that cannot be read."""
        try:
            return Remembered(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ServiceFailed(
                f"{path} says what an earlier campaign left, and cannot be read: {error}. Look at the service's host, "
                "destroy what is there, and remove the file."
            ) from error


def script_environment(spec: ScriptSpec, deployment: Deployment) -> dict[str, str]:
    """What a script learns about a deployment, over the environment of this process."""
    mode, image, limits = deployment.mode, deployment.image, deployment.limits
    service = {**(mode.environment or {}), **deployment.environment}
    found = {
        **(spec.environment or {}),
        **deployment.environment,
        "NAMESPACE": build_namespace(deployment),
        "STAGING_CAMPAIGN": deployment.campaign_id,
        "STAGING_CELL": deployment.cell_id,
        "STAGING_VERSION_ROOT": str(deployment.snapshot),
        "STAGING_IMAGE": image.ref,
        "STAGING_IMAGE_ID": image.id,
        "STAGING_HEALTH": mode.health,
        "STAGING_READY_TIMEOUT_S": str(max(1, round(mode.ready_timeout_s))),
        "STAGING_SERVICE_ENVIRONMENT": json.dumps(service),
    }
    if image.path:
        found["STAGING_ARTIFACT"] = str(image.path)
    if mode.image:
        found |= {"STAGING_SERVICE_PORT": str(mode.image.port), "STAGING_DOCKERFILE": mode.image.dockerfile}
    if limits.cpus:
        found["STAGING_CPUS"] = f"{limits.cpus:g}"
    if limits.memory_mb:
        found["STAGING_MEMORY_MB"] = str(limits.memory_mb)
    return found


def remembered_environment(spec: ScriptSpec, environment: Mapping[str, str]) -> dict[str, str]:
    """What is written down for a later destroy: never the whole environment, which may hold secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in spec.remember)
    }
    # The service's own environment may hold secrets as well, and nothing needs it to destroy.
    return {**kept, **environment, "STAGING_SERVICE_ENVIRONMENT": "{}"}


def build_namespace(deployment: Deployment) -> str:
    """A DNS label for one cell: readable, and its digest tells campaigns of equal names apart."""
    whole = "\0".join((deployment.campaign_id, deployment.cell_id, str(deployment.snapshot), socket.gethostname()))
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:DIGEST_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "-", f"staging-{deployment.campaign_id}-{deployment.cell_id}".lower())
    return f"{readable[: MAX_NAMESPACE_LENGTH - DIGEST_LENGTH - 1].rstrip('-')}-{digest}"


def parse_url(answer: str) -> str | None:
    """The address in the last line of a deploy's answer (`url=http://host:port`), without a slash at its end."""
    from urllib.parse import urlsplit

    name, _, url = (answer.strip().splitlines() or [""])[-1].strip().partition("=")
    with suppress(ValueError):
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", url) and not parts.query
        if name == "url" and fits and parts.port != 0:
            return url.rstrip("/")
    return None
