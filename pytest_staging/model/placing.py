"""Where the processes of a load run when they do not run beside pytest: generators, their folders and their clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A machine's clock is `ahead_s` seconds ahead of this one's, give or take `uncertainty_s`."""

    ahead_s: float = 0.0
    uncertainty_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine on which `processes` of a load's processes run; the generator `name`, or this one when that is empty.

    `python` runs the driver, `program` is the load tool's own, `ports` are free there. Other generators reach it at
    `address`. `folders` are those of this machine that have their counterpart there; instants that are written there
    are by its own `clock`.
    """

    name: str = ""
    address: str = "127.0.0.1"
    processes: int = 1
    python: str
    program: str
    ports: Sequence[int] = ()
    cpus: float | None = None
    clock: Clock = field(default_factory=Clock)
    folders: Mapping[Path, str] = field(default_factory=dict)

    def there(self, path: Path) -> str:
        """A file or folder of this machine, as it is called on that one. Raises ValueError for one that is not."""
        if not self.name:
            return str(path)
        whole = path.resolve()
        for folder, counterpart in self.folders.items():
            if whole.is_relative_to(folder):
                rest = whole.relative_to(folder).as_posix()
                return counterpart if rest == "." else f"{counterpart}/{rest}"
        raise ValueError(f"{whole} has no counterpart on {self.name}")


@dataclass(frozen=True, kw_only=True)
class LoadPart:
    """What of a load runs on one generator, in the counterpart of the request's folder.

    `log` is a file of this machine. `ready` appears there with the instant at which it sends, `prepared` when it could
    begin; it then waits for `go` to hold the instant of the common start. `cpus` is how many it can use at most.
    """

    place: Place
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str | None = None
    prepared: str | None = None
    go: str | None = None
    cpus: float | None = None


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a load tool needs on a generator: a `program`, or, when that is empty, a package of the Python there.

    `question` are arguments that make it say its version, which `pattern` finds; `least` is the oldest that will do.
    `here` is this machine's own program, which is sent where its version `wanted` is not there. `alone` tools take one
    generator only.
    """

    program: str
    question: Sequence[str]
    pattern: str
    least: tuple[int, ...]
    advice: str
    here: Path | None = None
    wanted: str | None = None
    alone: bool = False
