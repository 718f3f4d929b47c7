"""What a .dockerignore leaves out. That the builders agree is tested with a real engine in tests/lab."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_staging.dockerignore import Ignored, parse_dockerignore
from pytest_staging.engine import Engine
from pytest_staging.images.buildkit import BuildKitBuilder
from pytest_staging.images.container import ClassicBuilder
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.model.version import ImageSpec
from pytest_staging.targets.local import LocalTarget

KEPT = ["a", "dir/a", "dir/sub/a", "other/dir/a", "x.c", "dir/x.c", "Dockerfile", ".dockerignore", "a b", "ab"]


def kept(rules: str, *paths: str) -> list[str]:
    ignored = parse_dockerignore(rules)
    return [path for path in paths or KEPT if not ignored(path)]


@pytest.mark.parametrize(
    ("rules", "left_out"),
    [
        ("", []),
        ("\n  \n# a\n#dir\n", []),
        ("a", ["a"]),
        (" a \r\nx.c\r\n", ["a", "x.c"]),
        ("a b", ["a b"]),
        ("dir", ["dir/a", "dir/sub/a", "dir/x.c"]),
        ("dir/", ["dir/a", "dir/sub/a", "dir/x.c"]),
        ("/dir", ["dir/a", "dir/sub/a", "dir/x.c"]),
        ("./other/../dir/sub/.", ["dir/sub/a"]),
        ("*/a", ["dir/a"]),
        ("**/a", ["a", "dir/a", "dir/sub/a", "other/dir/a"]),
        ("**/dir", ["dir/a", "dir/sub/a", "other/dir/a", "dir/x.c"]),
        ("dir/**", ["dir/a", "dir/sub/a", "dir/x.c"]),
        ("*.c", ["x.c"]),
        ("**/*.c", ["x.c", "dir/x.c"]),
        ("?", ["a"]),
        ("a?", ["ab"]),
        ("[ax].c", ["x.c"]),
        ("a*", ["a", "a b", "ab"]),
        ("dir\n!dir/sub", ["dir/a", "dir/x.c"]),
        ("dir\n!dir/a\n", ["dir/sub/a", "dir/x.c"]),
        ("!a\na", ["a"]),
        ("a\n!a", []),
        ("a\n! a", []),
        ("*\n!a\n!Dockerfile", ["dir/a", "dir/sub/a", "other/dir/a", "x.c", "dir/x.c", "a b", "ab"]),
        (".", []),
        ("/", []),
        ("\ufeffa\nab", ["ab"]),
    ],
)
def test_rules(rules: str, left_out: list[str]) -> None:
    """SM-05: the last rule that matches decides, and a folder's rule holds for all below it."""
    assert kept(rules) == [path for path in KEPT if path not in left_out]


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ("readme.md", "README.md"),  # the SDK knows no capitals
        ("x[!2].c", "x1.c"),
        ("x[^2].c", "x1.c"),
        (r"x\[1\].c", "x[1].c"),
        (r"back\slash", r"back\slash"),
        ("../a", "a"),
        (" #hash", "#hash"),
        ("a+b", "a+b"),  # the old client: a repetition
        ("a+b", "aab"),
        ("**foo", "xfoo"),  # since 23 the end of a path
        ("*\n!**/keep", "dir/keep"),  # buildx looks into folders
        ("dir\n!dir/keep\n*r", "dir/keep"),
        ("dir/sub\n!dir", "dir/sub/a"),
        ("[[:alpha:]]", "a"),
    ],
)
def test_where_builders_differ_nothing_is_left_out(rules: str, path: str) -> None:
    """SM-05: one of them sends it, so its content counts."""
    assert kept(rules, path) == [path]


@pytest.mark.parametrize("rules", ["a\n!", "a\nlibc++", "a\n[z-a]x"])
def test_a_builder_that_refuses_is_not_asked(rules: str) -> None:
    """SM-05: for the others the rules hold."""
    if rules.endswith("x"):  # nobody takes it, but for Go that shows only when a file is compared
        assert kept(rules, "a", "b") == ["a", "b"]
    else:
        assert kept(rules, "a", "b") == ["b"]


def test_a_dockerfile_in_an_excluded_folder() -> None:
    """SM-05: the SDK looks for it there, and then finds the folder's other files."""
    assert not parse_dockerignore("**/docker", "docker/jvm")("docker/other")
    assert parse_dockerignore("**/docker")("docker/other")


def test_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: BuildKit needs none. The digest says that other readers decided."""
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "docker":
            raise ImportError(name)
        return real(name, *arguments, **named)

    with_it = parse_dockerignore("readme.md\n../a\ndir")
    parse_dockerignore.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    without_it = parse_dockerignore("readme.md\n../a\ndir")
    assert [without_it(path) for path in ("README.md", "readme.md", "a", "dir/x")] == [False, True, False, True]
    assert without_it.digest != with_it.digest


def test_digest() -> None:
    """SM-05: what an index remembers of one set of rules is not taken for another's."""
    found = [
        parse_dockerignore(text, dockerfile).digest
        for text, dockerfile in [("", "Dockerfile"), ("a", "Dockerfile"), ("!a", "Dockerfile"), ("a", "other")]
    ]
    assert len(set(found)) == 4
    assert parse_dockerignore("a") == parse_dockerignore("a")
    assert parse_dockerignore("a") != parse_dockerignore("b")
    assert isinstance(parse_dockerignore("a"), Ignored)


def test_odd_names(tmp_path: Path) -> None:
    """SM-05: names that are no text, and names with line breaks."""
    assert kept("caf?\nline*", "caf\udce9", "caf", "line\nbreak", "dir/line") == ["caf", "dir/line"]


PIECES = st.sampled_from(
    ["a", "b", "/", "*", "**", "?", "[", "]", "!", "^", "-", "\\", "+", "(", "{", "\n", "#", ".", ".."]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.lists(st.sampled_from("ab+/"), min_size=1).map("".join))
def test_any_rules_are_read(rules: str, path: str) -> None:
    """SM-05: it is a user's file; a pattern that nobody understands is for the builder to refuse."""
    ignored = parse_dockerignore(rules)
    path = "/".join(part for part in path.split("/") if part) or "a"
    assert ignored(path) is ignored(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """SM-05: refused before anything is sent; a link that leads nowhere is as good as none, as for the SDK."""
    classic, kit = ClassicBuilder(tmp_path, Engine()), BuildKitBuilder(tmp_path, Engine(), LocalTarget())
    (tmp_path / ".dockerignore").symlink_to("nowhere")
    assert classic.ignored(ImageSpec(), tmp_path) is None
    (tmp_path / ".dockerignore").unlink()
    for builders, name in (((kit,), "Dockerfile.dockerignore"), ((kit, classic), ".dockerignore")):
        make(tmp_path / name)
        for builder in builders:
            with pytest.raises(WorkspaceError, match=f"{tmp_path}/{name} is no file. Remove it, or write"):
                builder.ignored(ImageSpec(), tmp_path)
        (tmp_path / name).rmdir() if make is os.mkdir else (tmp_path / name).unlink()
