"""The images that a Dockerfile names and does not make, read as the builders read it (docker 20.10, both builders)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.dockerfile import parse_bases
from pytest_staging.model.errors import ContractError

BASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "one": ("FROM eclipse-temurin:17\n", ("eclipse-temurin:17",)),
    "no newline at the end": ("FROM a", ("a",)),
    "small letters, spaces, lines of Windows": ("\n\t from \t a:1 as b\r\nFrom c\r\n", ("a:1", "c")),
    "a byte order mark": ("\ufeffFROM a\n", ("a",)),
    "registry, port and digest": ("FROM r.example:5000/x/y@sha256:0123\n", ("r.example:5000/x/y@sha256:0123",)),
    "platform": ("FROM --platform=$BUILDPLATFORM a AS b\n", ("a",)),
    "scratch": ("FROM scratch\nCOPY . /\n", ()),
    "stages": ("FROM a AS Build\nFROM build\nCOPY --from=BUILD /x /x\nFROM c\nFROM scratch\n", ("a", "c")),
    "each once, in order": ("FROM b\nFROM a\nFROM b\nCOPY --from=a x x\n", ("b", "a")),
    "a stage with its image's name": ("FROM a AS a\nFROM a\n", ("a",)),
    "a later stage is none yet": ("FROM b\nFROM a AS b\n", ("b", "a")),
    "FROM knows no numbers": ("FROM a\nFROM 0\n", ("a", "0")),
    "COPY knows them": ("FROM a\nFROM b\nCOPY --from=0 x x\nCOPY --chown=1:1 --from=2 x x\n", ("a", "b", "2")),
    "copied from an image": ("FROM a\nCOPY --chmod=755 --from='busybox:1' /bin/sh /sh\n", ("a", "busybox:1")),
    "no flag behind the first word": ("FROM a\nCOPY x --from=b /\nRUN echo --mount=from=c\n", ("a",)),
    "not copied": ("FROM a\nADD --from=b x /\nLABEL --from=b\n", ("a",)),
    "mounted": ("FROM a\nRUN --mount=type=cache --network=none --mount=type=bind,From=b,rw make\n", ("a", "b")),
    "mounted from a stage": ("FROM a AS s\nFROM b\nRUN --mount=from=s --mount=from=0 x\n", ("a", "b")),
    "syntax": ("# syntax = docker/dockerfile:1.7 \nFROM a\n", ("docker/dockerfile:1.7", "a")),
    "syntax behind a comment": ("# hello\n# syntax=x\nFROM a\n", ("a",)),
    "syntax behind an unknown directive": ("# foo=bar\n# syntax=x\nFROM a\n", ("a",)),
    "comments": ("# FROM x\n  # FROM y\nFROM a # no comment\n", ("a",)),
    "continued": ("FR\\\nOM a:\\  \n# comment\n\n  # another\n1\n", ("a:1",)),
    "continued into FROM": ("FROM a\nRUN x \\\nFROM b\n", ("a",)),
    "continued at the end": ("FROM a\nRUN x \\\n", ("a",)),
    "an escaped backslash": ("FROM a\nRUN echo \\\\\nFROM b\n", ("a", "b")),
    "another escape": ("# escape=`\nFROM `\na\nRUN dir c:\\\nFROM b\n", ("a", "b")),
    "heredoc": ("FROM a\nRUN <<EOF\nFROM x\n EOF\nEOF\nFROM b\n", ("a", "b")),
    "heredoc with tabs and quotes": ("FROM a\nRUN cat <<-'E F' | sh\nFROM x\n\tE F\nFROM b\n", ("a", "b")),
    "two heredocs": ('FROM a\nCOPY <<A <<"B" /\nFROM x\nA\nFROM y\nB\nFROM b\n', ("a", "b")),
    "heredoc of Windows": ("FROM a\r\nRUN 3<<EOF\r\nFROM x\r\nEOF\r\nFROM b\r\n", ("a", "b")),
    "no heredocs": ('FROM a\nRUN x <<<EOF\nRUN x "<<EOF" a<<EOF\nLABEL <<EOF\nRUN ["<<EOF"]\nFROM b\n', ("a", "b")),
    "default": ("ARG T=17\nFROM a:$T\n", ("a:17",)),
    "given": ("ARG GIVEN=default\nFROM a:$GIVEN\n", ("a:given",)),
    "given without default": ("ARG GIVEN\nFROM a:${GIVEN}\n", ("a:given",)),
    "given and not declared": ("FROM a:${GIVEN:-default}\n", ("a:default",)),
    "several at once": ("ARG A=1 B=\"2\" C='3'\nFROM a:$A$B-$C\n", ("a:12-3",)),
    "one from another": ("ARG A=1\nARG B=x/$A\nFROM $B:${A}\n", ("x/1:1",)),
    "declared again": ("ARG A=1\nARG A=2\nFROM a:$A\n", ("a:2",)),
    "of a stage only": ("ARG A=1\nFROM a:$A\nARG A=2\nFROM b:$A\n", ("a:1", "b:1")),
    "quoted": ('ARG A="x:1"\nFROM "$A"\n', ("x:1",)),
    "in single quotes": ("FROM 'a:\\1'\n", ("a:\\1",)),
    "default in place": ("ARG E=\nFROM a:${N:-1}-${E:-2}-${N-3}-${E-4}\n", ("a:1-2-3-",)),
    "default from another": ("ARG A=1\nFROM a:${N:-x${M:-$A}}\n", ("a:x1",)),
    "a default that is not needed": ("ARG A=1\nFROM a:${A:-$N}${N:+$M}\n", ("a:1",)),
    "alternative": ("ARG A=1 E=\nFROM a${A:+:2}${N:+x}${E:+y}${E+z}${N+q}\n", ("a:2z",)),
    "demanded": ("ARG A=1\nFROM a:${A:?not there}\n", ("a:1",)),
    "a dollar of its own": ("FROM a\\$b\n", ("a$b",)),
    "an unused variable without value": ("ARG A=$N\nFROM a\n", ("a",)),
    "BuildKit's own": ("FROM a-$TARGETARCH\n", ("a-arm64",)),
}  # fmt: skip

REFUSED: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", ["has no FROM"]),
    "no FROM": ("ARG A=1\n# FROM a\nRUN x\n", ["has no FROM"]),
    "no image": ("RUN x\n\nFROM\n", ["line 3: FROM: names no image"]),
    "only a platform": ("FROM --platform=x\n", ["line 1: FROM: names no image"]),
    "an empty value": ("ARG A=\nFROM $A\n", ["line 2: FROM: names no image"]),
    "no value": ("FROM a:$NAME\n", ["line 1: FROM: $NAME has no value"]),
    "no value in braces": ("FROM a:${NAME}\n", ["$NAME has no value"]),
    "value taken away": ("ARG A=1\nARG A\nFROM a:$A\n", ["line 3: FROM: $A has no value"]),
    "a default without value": ("ARG A=$B\nFROM a:$A\n", ["line 2: FROM: $A has no value"]),
    "a stage's argument": ("FROM a\nARG A=1\nFROM b:$A\n", ["line 3: FROM: $A has no value"]),
    "used default without value": ("FROM a:${A:-$B}\n", ["line 1: FROM: $B has no value"]),
    "demanded": ("FROM a:${A:?is needed}\n", ["line 1: FROM: $A has no value"]),
    "a pattern": ("ARG A=1\nFROM a:${A#x}\n", ["line 2: FROM: ${A#x} has no value"]),
    "line of a continued one": ("RUN x \\\n y\nFROM \\\n# c\n $A\n", ["line 3: FROM: $A has no value"]),
    "a variable source": ("ARG A=b\nFROM a\nCOPY --from=$A x x\n", ["line 3: from: $A: builders take no variables"]),
    "an open heredoc": ("FROM a\nRUN <<EOF\nFROM b\n", ["line 2: RUN: <<EOF has no end"]),
    "all of them": ("FROM a:$A-$B\nFROM\n", ["$A has no value", "$B has no value", "line 2: FROM: names no image"]),
}  # fmt: skip


@pytest.mark.parametrize("what", BASES)
def test_bases(what: str) -> None:
    """SM-05: a new base image is another build."""
    text, bases = BASES[what]
    assert parse_bases(text, {"GIVEN": "given", "TARGETARCH": "arm64"}) == bases


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_builder_can_build(what: str) -> None:
    """SM-05: said before the build, with file and line, and all of it."""
    text, messages = REFUSED[what]
    with pytest.raises(ContractError) as raised:
        parse_bases(text, {}, "one/snapshot/Dockerfile")
    assert str(raised.value).startswith("one/snapshot/Dockerfile: ")
    assert len(raised.value.problems) == len(messages)
    for problem, message in zip(raised.value.problems, messages, strict=True):
        assert message in str(problem)


WORDS = st.sampled_from(
    ["FROM ", "ARG ", "COPY ", "RUN ", "--from=", "--mount=", "a", "$A", "${A", ":-", "}", "=", '"', "'", "\\", "\n",
     "<<E", "E", "#", " ", "syntax", "escape", "\t", "\r", "$", "AS ", ","]
)  # fmt: skip


@given(st.lists(WORDS, max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """SM-05: a Dockerfile is a user's file: names, or the one error, and always the same."""
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(parse_bases(text, {"A": "x"}))
        except ContractError as error:
            outcomes.append((str(error),))
    assert outcomes[0] == outcomes[1]
    assert all(isinstance(name, str) for name in outcomes[0])
