"""Container images of versions: what both ways to build them share, and the classic way, through the engine's API."""

from __future__ import annotations

import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from pytest_staging import durable
from pytest_staging.dockerfile import parse_bases
from pytest_staging.dockerignore import Ignored, parse_dockerignore
from pytest_staging.engine import GONE, LABEL, Engine
from pytest_staging.fingerprint import TreeIndex
from pytest_staging.images.context import IGNORE_FILE, pack_context, read_ignore_file
from pytest_staging.model.building import NOT_HERE, Build, Image
from pytest_staging.model.errors import BuildFailed, EngineLost, WorkspaceError
from pytest_staging.model.version import ImageSpec, Version

REPOSITORY = "pytest-staging"


@dataclass(frozen=True)
class ContainerImages:
    """What an image depends on, and the images that are there. `versions_folder` holds the index of files."""

    versions_folder: Path
    engine: Engine
    name = "docker"

    def require_ready(self) -> None:
        """Raises EngineMissing."""
        _ = self.engine.facts

    def fingerprint(self, version: Version, mode: str, snapshot: Path) -> str:
        index = TreeIndex(self.versions_folder / version.slug / "images" / f".files-{mode}")
        return index.fingerprint(snapshot, self.ignored(image_spec(version, mode), snapshot))

    def ignored(self, spec: ImageSpec, snapshot: Path) -> Ignored | None:
        """The files that the engine never sees."""
        text = read_ignore_file(snapshot / IGNORE_FILE)
        return None if text is None else parse_dockerignore(text, spec.dockerfile)

    def inputs(self, version: Version, mode: str, snapshot: Path) -> Mapping[str, str]:
        spec = image_spec(version, mode)
        path = snapshot / spec.dockerfile
        if not path.is_file():
            raise WorkspaceError(
                f"{spec.dockerfile} of {version.slug} in mode {mode} is not in {snapshot}. "
                "Write it, or name another with image.dockerfile in service.yaml."
            )
        text = path.read_text(encoding="utf-8", errors="replace")
        bases = parse_bases(
            text, {**self.predefined(), **(spec.arguments or {})}, f"{version.slug}/snapshot/{spec.dockerfile}"
        )
        return {
            "mode": mode,
            "builder": self.name,
            "platform": self.engine.facts.platform,
            spec.dockerfile: durable.hash_file(path),
            "build arguments": json.dumps(dict(spec.arguments or {}), sort_keys=True),
            **{f"base image {base}": found or NOT_HERE for base, found in self.engine.image_ids(bases).items()},
        }

    def predefined(self) -> Mapping[str, str]:
        """Values of build arguments that the builder itself gives."""
        return {}

    def inspect(self, ref: str) -> Image | None:
        found = self.engine.inspect_image(ref)
        return None if found is None else Image(ref=ref, id=str(found["Id"]), size_bytes=int(found["Size"]))

    def remove(self, slug: str, ref: str) -> None:
        found = self.engine.inspect_image(ref)
        if found is None:
            return
        if (found["Config"].get("Labels") or {}).get(f"{LABEL}.version") != slug:
            # A manifest is a file that anybody may have written.
            raise WorkspaceError(
                f"{ref} was not built by this program for {slug}, so it is not removed. Correct the manifest of {slug}."
            )
        # Somebody else may have removed it meanwhile.
        self.engine.call(f"remove image {ref}", self.engine.client.api.remove_image, ref, accept=(GONE,))

    def made(self, build: Build, ref: str) -> Image:
        """What a build that ended well has made."""
        image = self.inspect(ref)
        if image is None:
            raise EngineLost(f"{build.label}: the engine built {ref} and does not know it. Run again.")
        return image


@dataclass(frozen=True)
class ClassicBuilder(ContainerImages):
    """The engine's own builder through the SDK. It keeps its steps in the engine and needs no docker client."""

    def commands(self, build: Build) -> list[list[str]]:
        return [["env", "DOCKER_BUILDKIT=0", *docker_build(build)]]

    def build(self, build: Build) -> Image:
        with durable.storing(build.log):
            log = build.log.open("ab", buffering=0)
        with log, pack_context(build, image_spec(build.version, build.mode).dockerfile) as context:
            self.engine.call(build.label, self._run, build, context, _writer(log, build.echo))
        return self.made(build, reference(build))

    def _run(self, build: Build, context: IO[bytes], write: Callable[[str], None]) -> None:
        spec, limit_s = image_spec(build.version, build.mode), build.spec.build_timeout_s
        api, deadline = self.engine.client.api, time.monotonic() + limit_s
        try:
            with _hanging_up(api, limit_s):
                stream = api.build(
                    fileobj=context,
                    custom_context=True,
                    dockerfile=spec.dockerfile,
                    tag=reference(build),
                    buildargs=dict(spec.arguments or {}),
                    labels=labels(build),
                    rm=True,
                    forcerm=True,
                    nocache=build.fresh,
                    decode=True,
                    timeout=limit_s,
                )
                if not _follow(stream, build, write):
                    raise EngineLost(f"{build.label}: the engine stopped telling before the end. Run again.")
        except BuildFailed:
            raise
        except Exception as error:  # a connection that is cut off breaks in many ways
            if time.monotonic() < deadline:
                raise
            what = f"{build.label} did not end in {limit_s:g} s; see {build.log}"
            raise BuildFailed(what, durable.read_tail(build.log)) from error


def image_spec(version: Version, mode: str) -> ImageSpec:
    """Raises WorkspaceError when the mode declares no image."""
    spec = version.service.modes[mode].image
    if spec is None:
        raise WorkspaceError(
            f"versions/{version.slug}/snapshot/service.yaml: modes.{mode} has no image; say how it is built."
        )
    return spec


def reference(build: Build) -> str:
    """The name that a build gives: never moved by another build, for its end is the fingerprint's beginning."""
    return f"{REPOSITORY}:{build.tag}"


def labels(build: Build) -> dict[str, str]:
    """By which the image is known to be ours."""
    return {f"{LABEL}.version": build.version.slug, f"{LABEL}.mode": build.mode}


def docker_build(build: Build, *options: str) -> list[str]:
    """The docker client's command for a build, to be run in the snapshot's folder."""
    spec = image_spec(build.version, build.mode)
    options = (*options, *(["--no-cache"] if build.fresh else []))
    command = ["docker", "build", *options, "--tag", reference(build), "--file", spec.dockerfile]
    command += [word for name, value in labels(build).items() for word in ("--label", f"{name}={value}")]
    command += [
        word for name, value in (spec.arguments or {}).items() for word in ("--build-arg", f"{name}={value}")
    ]  # fmt: skip
    return [*command, "."]


def _follow(stream: Iterable[dict[str, Any]], build: Build, write: Callable[[str], None]) -> bool:
    """Whether the engine said that it built something. Raises BuildFailed with what else it said."""
    built = False
    for part in stream:
        write(str(part["stream"]) if "stream" in part else f"{part['status']}\n" if "status" in part else "")
        if "error" in part:
            write(f"\n{part['error']}\n")
            what = f"{build.label}: the engine says: {str(part['error']).strip()}; see {build.log}"
            raise BuildFailed(what, durable.read_tail(build.log))
        built = built or "ID" in (part.get("aux") or {}) or str(part.get("stream", "")).startswith("Successfully built")
    return built


@contextmanager
def _hanging_up(api: Any, limit_s: float) -> Iterator[None]:
    """Cuts off what the engine sends this thread when the block ends, and after `limit_s`: that makes it give up.

    A timeout of the SDK is one between two pieces of output, and its stream, when closed, leaves the connection open
    for as long as an exception holds the frames that were reading from it.
    """
    thread, answers = threading.get_ident(), []

    def keep(answer: Any, *_: Any, **__: Any) -> None:
        if threading.get_ident() == thread:
            answers.append(answer)

    def cut() -> None:
        for answer in answers:
            if connection := answer.raw.connection:  # none when all of it was read
                _hang_up(connection.sock)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    api.hooks["response"].append(keep)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        api.hooks["response"].remove(keep)
        cut()
        for answer in answers:
            answer.close()


def _hang_up(connection: Any) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)  # which, unlike close, ends a read that another thread is in
    except OSError:
        connection.close()  # over SSH it is a process


def _writer(log: BinaryIO, echo: Callable[[bytes], None] | None) -> Callable[[str], None]:
    def write(text: str) -> None:
        data = text.encode()
        with durable.storing(Path(log.name)):
            log.write(data)
        if echo:
            echo(data)

    return write


def shown(command: list[str]) -> str:
    """A command as a person types it."""
    return shlex.join(command)
