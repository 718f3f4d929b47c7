"""What is wrong with the text itself: every contract file is read the same way, and only ever raises ContractError."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_staging import contract
from pytest_staging.model.errors import ContractError
from pytest_staging.yamltext import YamlText, dotted

PARSERS: list[Callable[[str], Any]] = [contract.parse_benchmark, contract.parse_service, contract.parse_version]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{later}: &{later} [{','.join([f'*{earlier}'] * 9)}]\n"
    for earlier, later in zip("abcdefgh", "bcdefghi", strict=True)
)

BROKEN = {
    "malformed": ("a: [1, 2\nb: 3\n", "is not valid YAML"),
    "tab": ("a:\n\tb: 1\n", "is not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "is not valid YAML"),
    "empty": ("", "is empty"),
    "comment only": ("# nothing\n", "is empty"),
    "null": ("~\n", "is empty"),
    "list": ("- a\n- b\n", "is a list"),
    "text": ("hello\n", "is a text"),
    "number": ("5\n", "is a number"),
    "double key": ("a: 1\nb: 2\na: 3\n", "line 3: a: stands twice"),
    "double key below": ("a:\n  b: 1\n  b: 2\n", "line 3: a.b: stands twice"),
    "key that is no text": ("on: 1\n", "line 1: the key on is no text; put it in quotes"),
    "key that is a number": ("a:\n  404: x\n", "line 2: a: the key 404 is no text"),
    "key that is a list": ("? [a, b]\n: 1\n", "(a list or mapping) is no text"),
    "undefined alias": ("a: *nothing\n", "undefined alias"),
    "recursive alias": ("a: &a\n  b: *a\n", "an alias contains itself"),
    "recursive list": ("a: &a [*a]\n", "an alias contains itself"),
    "alias bomb": (BOMB, "more than 200000 values"),
    "deep nesting": ("a: " + "[" * 3_000 + "]" * 3_000, "nested too deeply"),
    "python object": ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
    "tag that does not fit": ('a: !!int ""\n', "does not fit its value"),
    "tag of a truth value": ("a: !!bool maybe\n", "does not fit its value"),
    "tag of an instant": ("a: !!timestamp soon\n", "does not fit its value"),
    "binary": ("a: !!binary aGVsbG8=\n", "not plain data"),
    "control character": ("a: \x00\n", "is not valid YAML"),
    "number of 5000 digits": ("a: " + "9" * 5000 + "\n", "is not valid YAML"),
    "half a character": ('a: "\\ud800"\n', "bench.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_text(parse: Callable[[str, str], Any], name: str) -> None:
    """SM-02, SM-04: a file that cannot be read gives one clear error that names it."""
    text, expected = BROKEN[name]
    with pytest.raises(ContractError) as caught:
        parse(text, "bench.yaml")
    message = str(caught.value)
    assert message.startswith("bench.yaml: ")
    assert expected in message
    assert "Print the schema with: staging-manager schema " in message


def test_a_bomb_costs_little() -> None:
    """Nine to the ninth values would take hours; the limit is what makes this end. Measured against a plain file."""
    plain = "a: [" + "x," * 20_000 + "]\n"
    assert _seconds(BOMB) < 60 * _seconds(plain)


def _seconds(text: str) -> float:
    started = time.process_time()
    YamlText(text)
    return time.process_time() - started


def test_instants_stay_text() -> None:
    """A rewrite must not change what the user wrote."""
    assert YamlText("a: 2026-01-31T12:00:00Z\nb: 2026-01-31\n").data == {"a": "2026-01-31T12:00:00Z", "b": "2026-01-31"}


def test_merge_keys_and_aliases_work() -> None:
    document = YamlText("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n")
    assert document.problems == []
    assert document.data["use"] == {"x": 1, "y": 3}


def test_lines() -> None:
    document = YamlText("a: 1\nb:\n  - c: 2\n    d: 3\n")
    assert document.line_of(("b", 0, "d")) == 4
    assert document.line_of(("b", 0, "missing")) == 3, "the nearest enclosing key"
    assert document.line_of(("missing",)) == 1


@pytest.mark.parametrize(
    ("path", "shown"),
    [((), ""), (("a",), "a"), (("modes", "jvm", "build", 0), "modes.jvm.build[0]"), ((0, "a"), "[0].a")],
)
def test_dotted(path: tuple[str | int, ...], shown: str) -> None:
    assert dotted(path) == shown


KEYS = st.sampled_from(
    ["slug", "kind", "status", "parent", "created_at", "platform_modes", "load", "payloads", "metrics", "functions",
     "modes", "jvm", "build", "start", "rate", "shape", "unit", "schema_version", "<<", "function_profile"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["staging", "open", "closed", "subset", "../x", "{artifact}", "{what}"])  # fmt: skip
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
)
WORDS = st.lists(
    st.sampled_from(["a", ":", " ", "\n", "- ", "? ", "&x ", "*x", "[", "]", "{", "}", "!!int ", "!!set ", '"', "'",
                     "|", ">", "#", "<<: ", "0x", "1:2", ".inf", ".nan", "%", "\t", "!!omap ", "!!float ", "---", "="])
).map("".join)  # fmt: skip


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@settings(max_examples=150, deadline=None)
@given(text=st.text() | WORDS)
def test_any_text(parse: Callable[[str], Any], text: str) -> None:
    """SM-02, SM-04: whatever the text, the answer is a model or a ContractError."""
    with suppress(ContractError):
        parse(text)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@settings(max_examples=70, deadline=None)
@given(data=st.dictionaries(KEYS, TREES, max_size=8))
def test_any_tree(parse: Callable[[str], Any], data: dict[str, Any]) -> None:
    """SM-02, SM-04: so it is for well-formed files with anything in the known places."""
    with suppress(ContractError):
        parse(yaml.safe_dump(data))
