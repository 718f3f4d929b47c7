"""Which files of a build context a .dockerignore leaves out: text in, decisions out.

The programs that send a context to an engine read these rules in three ways:

- the Docker SDK for Python, which sends it to the classic builder: no escapes, capitals are small letters, `[!x]`;
- the docker client up to 20.10, with BuildKit or without: `+ ( ) | { }` are operators, and of the folders above a file
  only the one as deep as the pattern is looked at; neither it nor the SDK looks into an excluded folder when no
  exception begins with its name;
- the docker client since 23 and buildx: each folder hands its matches on to what is in it, and exceptions with
  wildcards find files in excluded folders.

They agree on the rules that people write. Where they do not, a file is left out only if all of them leave it out: then
no change of a file that is sent can pass unseen, and the price is a build that was not needed.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any

_READINGS = "1"  # to be raised with any change of what these rules mean here
_ALWAYS_ESCAPED = ".$"
_ESCAPED_SINCE_23 = ".+()|{}$"
# Go's regular expressions refuse these, and Python's do not, or not in each version.
_NESTED_REPETITION = ("*+", "++", "}+")
# Read in another way by Python's regular expressions than by Go's.
_FOREIGN = ("[:", "{,")

_Reading = Callable[[str], bool]


@dataclass(frozen=True)
class Ignored:
    """The files that no builder sends. Rules with equal `digest` decide equally."""

    digest: str
    _readings: tuple[_Reading, ...] = field(repr=False, compare=False)

    def __call__(self, path: str) -> bool:
        """Whether the file or link at `path`, relative to the context and with '/', is left out."""
        return bool(self._readings) and all(reading(path) for reading in self._readings)


@lru_cache(maxsize=64)  # each cell of a campaign reads the same few
def parse_dockerignore(text: str, dockerfile: str = "Dockerfile") -> Ignored:
    """The rules of a .dockerignore's `text`. Never fails: who refuses a pattern sends nothing, and is not asked.

    `dockerfile` is the Dockerfile's path in the context: the SDK sends it, and looks for it in excluded folders.
    """
    sdk, version = _sdk_reading(text, dockerfile)
    patterns = _split(text)
    readings = [sdk, _old_reading(patterns), _current_reading(patterns)]
    facts = "\0".join([_READINGS, version, dockerfile, text])
    digest = hashlib.sha256(facts.encode(errors="surrogatepass")).hexdigest()
    return Ignored(digest, tuple(reading for reading in readings if reading is not None))


def split_for_sdk(text: str) -> list[str]:
    """Patterns as docker.api.build takes them from a .dockerignore."""
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def _split(text: str) -> list[str] | None:
    """Patterns as the docker client cleans them, exceptions with their '!'. None if it refuses them."""
    patterns = []
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = "" if line.startswith("#") else line.strip()
        mark = "!" if pattern.startswith("!") else ""
        cleaned = pattern.removeprefix("!").strip()
        if mark and not cleaned:
            return None
        if cleaned:
            cleaned = posixpath.normpath(re.sub("^/+", "/", cleaned))
            patterns.append(mark + (cleaned[1:] or cleaned if cleaned.startswith("/") else cleaned))
    return patterns


def _parents(path: str) -> list[str]:
    """The folders above, from the outside in: a, a/b for a/b/c."""
    return list(accumulate(path.split("/")[:-1], lambda above, name: f"{above}/{name}"))


def _old_reading(patterns: Sequence[str] | None) -> _Reading | None:
    if patterns is None or any(sign in pattern for pattern in patterns for sign in _NESTED_REPETITION):
        return None
    try:
        rules = [
            (one.startswith("!"), one.count("/"), _translate(one.removeprefix("!"), _ALWAYS_ESCAPED))
            for one in patterns
        ]
    except re.error:
        return _nothing

    def is_matched(path: str) -> bool:
        matched, parents = False, _parents(path)
        for exception, slashes, expression in rules:
            above = parents[slashes : slashes + 1]
            if any(expression.search(one) for one in (path, *above)):
                matched = not exception
        return matched

    exceptions = [one.removeprefix("!") + "/" for one in patterns if one.startswith("!")]
    return _skipping_folders(is_matched, lambda folder: any(one.startswith(f"{folder}/") for one in exceptions))


def _sdk_reading(text: str, dockerfile: str) -> tuple[_Reading | None, str]:
    """None without the SDK, which then sends nothing either, or if it fails on a pattern. And its version."""
    try:
        import docker
        from docker.utils.build import PatternMatcher
    except ImportError:
        return None, ""
    matcher: Any = PatternMatcher([*split_for_sdk(text), f"!{dockerfile}"])
    is_matched = _without_warnings(matcher.matches) if "[" in text else matcher.matches
    try:
        is_matched("any")
    except re.error:
        return None, docker.__version__
    exceptions = [one.cleaned_pattern for one in matcher.patterns if one.exclusion]
    reading = _skipping_folders(is_matched, lambda folder: any(one.startswith(folder) for one in exceptions))
    return reading, docker.__version__


def _skipping_folders(is_matched: _Reading, looks_into: _Reading) -> _Reading:
    """Excludes what matches, and all below a folder that matches and is not looked into."""
    skipped: dict[str, bool] = {}

    def is_skipped(folder: str) -> bool:
        if folder not in skipped:
            skipped[folder] = is_matched(folder) and not looks_into(folder)
        return skipped[folder]

    return lambda path: any(is_skipped(folder) for folder in _parents(path)) or is_matched(path)


def _current_reading(patterns: Sequence[str] | None) -> _Reading | None:
    if patterns is None:
        return None
    try:
        rules = [(one.startswith("!"), _translate_current(one.removeprefix("!"))) for one in patterns]
    except re.error:
        return _nothing
    inherited: dict[str, list[bool]] = {"": [False] * len(rules)}

    def match(path: str, above: list[bool]) -> tuple[bool, list[bool]]:
        matched, matches = False, []
        for (exception, expression), known in zip(rules, above, strict=True):
            # What would not change the outcome is not tried, and so not handed on either.
            found = known or (exception == matched and bool(expression.search(path)))
            matched = not exception if found else matched
            matches.append(found)
        return matched, matches

    def is_matched(path: str) -> bool:
        above = ""
        for folder in _parents(path):
            if folder not in inherited:
                inherited[folder] = match(folder, inherited[above])[1]
            above = folder
        return match(path, inherited[above])[0]

    return is_matched


def _nothing(path: str) -> bool:
    return False


def _translate_current(pattern: str) -> re.Pattern[str]:
    rest = pattern.removeprefix("**")
    if rest != pattern and not re.search(r"[*?\[\]\\]", rest):  # since 23 compared as the end of a path
        return re.compile(
            f"^(?:.*/)?{re.escape(rest[1:])}\\Z" if rest.startswith("/") else f"(?s:.*){re.escape(rest)}\\Z"
        )
    return _translate(pattern, _ESCAPED_SINCE_23)


def _translate(pattern: str, escaped: str) -> re.Pattern[str]:
    """As the docker client does, mistakes included. Raises re.error for what Python would read in another way."""
    if any(sign in pattern for sign in _FOREIGN):
        raise re.error(f"{pattern} means something else to Go")
    tokens = re.findall(r"\*\*/?|\\.|.", pattern, re.DOTALL)
    body = ""
    for number, token in enumerate(tokens, 1):
        if token in ("**", "**/"):
            body += ".*" if number == len(tokens) else "(.*/)?"
        elif token in ("*", "?"):
            body += "[^/]*" if token == "*" else "[^/]"
        else:
            body += f"\\{token}" if token in escaped else token
    compiled: re.Pattern[str] = _without_warnings(re.compile)(f"^{body}\\Z", re.ASCII)
    return compiled


def _without_warnings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Python says that it may change what [[ means; Go will not, and the SDK's authors will have to see to it."""

    def quiet(*arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return function(*arguments)

    return quiet
