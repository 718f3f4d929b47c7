"""Docker Compose as a program: `docker compose` (v2) where it is there, else `docker-compose` (v1)."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import ComposeFailed, ComposeMissing
from pytest_staging.model.ports import Command, CommandRunner

ASK_DEADLINE_S = 20.0
STOP_GRACE_S = 10
TAIL_LINES = 15
CANDIDATES = (("docker", "compose"), ("docker-compose",))
NOT_THERE = (
    "neither Compose v2 (docker compose) nor v1 (docker-compose) answers here. Install one: on Debian, apt-get install "
    "docker-compose; elsewhere docs.docker.com/compose/install says how."
)
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class ComposeProgram:
    """How it is called, and which version answered."""

    argv: tuple[str, ...]
    version: str

    @property
    def is_v1(self) -> bool:
        return self.version.startswith("1.")


def find_compose(runner: CommandRunner) -> ComposeProgram:
    """Asks both for their version, v2 first. Raises ComposeMissing."""
    for argv in CANDIDATES:
        found = _VERSION.search(_ask(runner, [*argv, "version"]))
        if found:
            return ComposeProgram(argv, ".".join(part for part in found.groups() if part))
    raise ComposeMissing(NOT_THERE)


def _ask(runner: CommandRunner, argv: Sequence[str]) -> str:
    """What it prints; nothing when it is not there, fails, or does not end."""
    try:
        code, output = run_logged(runner, argv, {}, ASK_DEADLINE_S)
    except OSError:
        return ""
    # A docker client without the plugin prints its own help or version, and fails.
    return output if code == 0 and "compose" in output.lower() else ""


def run_logged(
    runner: CommandRunner,
    argv: Sequence[str],
    environment: Mapping[str, str],
    deadline_s: float,
    echo: Callable[[bytes], None] | None = None,
) -> tuple[int | None, str]:
    """Exit status (None: killed at the deadline) and output. Raises OSError when the program cannot be started."""
    with tempfile.TemporaryDirectory(prefix="staging-compose-") as folder:
        log = Path(folder) / "log"
        command = Command(argv=argv, cwd=Path.cwd(), log=log, env=environment, echo=echo)
        code = runner.run(command, deadline_s)
        return code, durable.read_tail(log, lines=10_000, max_bytes=1 << 20)


class ComposeProject:
    """One Compose project: its files, and the environment that they are read in.

    `files` are read from `folder`; `variables` are set over the environment of this process.
    """

    def __init__(
        self,
        program: ComposeProgram,
        runner: CommandRunner,
        name: str,
        files: Sequence[Path],
        variables: Mapping[str, str],
        engine_address: str,
    ) -> None:
        self._program, self._runner = program, runner
        self.name, self._files = name, tuple(files)
        # Both Compose and we must talk to one engine, whatever context the docker client is in.
        self._variables = {**variables, "DOCKER_HOST": engine_address, "COMPOSE_PROFILES": ""}

    def argv(self, arguments: Sequence[str], profiles: Sequence[str] = (), overlay: Sequence[Path] = ()) -> list[str]:
        """The whole command."""
        files = [part for file in (*self._files, *overlay) for part in ("-f", str(file))]
        chosen = [part for profile in profiles for part in ("--profile", profile)]
        plain = ["--ansi", "never"]
        return [*self._program.argv, *plain, "-p", self.name, *files, *chosen, *arguments]

    def shown(self, arguments: Sequence[str], profiles: Sequence[str] = (), overlay: Sequence[Path] = ()) -> str:
        """The same as people would type it; variables that are set with it are told elsewhere."""
        return shlex.join(self.argv(arguments, profiles, overlay))

    def run(
        self,
        arguments: Sequence[str],
        profiles: Sequence[str] = (),
        overlay: Sequence[Path] = (),
        deadline_s: float = 300.0,
        echo: Callable[[bytes], None] | None = None,
    ) -> str:
        """What it prints. Raises ComposeFailed with its last words; it is killed at the deadline."""
        argv = self.argv(arguments, profiles, overlay)
        variables = {**self._variables, "COMPOSE_PROFILES": ",".join(profiles)}
        try:
            code, output = run_logged(self._runner, argv, variables, deadline_s, echo)
        except OSError as error:
            raise ComposeFailed(f"{argv[0]} cannot be started: {error.strerror}") from error
        if code == 0:
            return output
        raise self._failure(argv, code, output, deadline_s)

    def read(
        self, arguments: Sequence[str], profiles: Sequence[str] = (), deadline_s: float = 60.0
    ) -> Mapping[str, Any]:
        """What it prints as YAML, without its warnings. Raises ComposeFailed."""
        from pytest_staging.yamltext import YamlText

        argv = self.argv(arguments, profiles)
        variables = {**self._variables, "COMPOSE_PROFILES": ",".join(profiles)}
        with tempfile.TemporaryDirectory(prefix="staging-compose-") as folder:
            complaints = Path(folder) / "stderr"
            apart = ["sh", "-c", 'exec "$@" 2>"$0"', str(complaints), *argv]
            code, output = run_logged(self._runner, apart, variables, deadline_s)
            if code != 0:
                raise self._failure(argv, code, durable.read_tail(complaints), deadline_s)
        data = YamlText(output).data
        if not isinstance(data, dict):
            raise ComposeFailed(f"{shlex.join(argv)} printed no mapping of keys")
        return data

    def _failure(self, argv: Sequence[str], code: int | None, output: str, deadline_s: float) -> ComposeFailed:
        how = f"took longer than {deadline_s:g} s and was killed" if code is None else f"failed with status {code}"
        last = "\n".join(f"  {line}" for line in output.splitlines()[-TAIL_LINES:])
        return ComposeFailed(f"{shlex.join(argv)} {how}\n{last}".rstrip())


def create() -> list[str]:
    """Makes every container and starts none."""
    return ["up", "--no-start", "--no-build"]


def up(services: Sequence[str] = ()) -> list[str]:
    """Starts what is not as it should be, in the background, and builds nothing."""
    return ["up", "-d", "--no-build", "--remove-orphans", *services]


def build() -> list[str]:
    """Builds every image that has a build section."""
    return ["build"]


def stop() -> list[str]:
    """Stops containers and keeps them."""
    return ["stop", "--timeout", str(STOP_GRACE_S)]


def remove(services: Sequence[str]) -> list[str]:
    """Stops and removes the containers of some services."""
    return ["rm", "--stop", "--force", "-v", *services]


def down() -> list[str]:
    """Removes containers, networks and volumes, also of services that no file has any more."""
    return ["down", "--volumes", "--remove-orphans", "--timeout", str(STOP_GRACE_S)]


def config() -> list[str]:
    """Prints the files as Compose resolves them."""
    return ["config"]
