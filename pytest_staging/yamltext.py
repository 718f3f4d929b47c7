"""YAML text to plain data, with the line of every key. Pure: no file is opened here.

Stricter than YAML itself: a key that stands twice is an error, instants stay text, and nothing but plain data is built.
"""

from __future__ import annotations

from typing import Any

import yaml

from pytest_staging.model.errors import Problem

Path = tuple[str | int, ...]
MAX_NODES = 200_000
_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class PlainLoader(yaml.SafeLoader):
    """SafeLoader that leaves instants as text: a rewritten file must not change what the user wrote."""


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class YamlText:
    """Parsed text: `data` is plain data (None when unreadable), `problems` what is wrong, `line_of` finds a path."""

    def __init__(self, text: str, loader_class: type[PlainLoader] = PlainLoader) -> None:
        self.data: Any = None
        self.problems: list[Problem] = []
        self._lines: dict[Path, int] = {}
        self._count = 0
        try:
            loader = loader_class(text)
            try:
                node = loader.get_single_node()
                if node is not None:
                    self._walk(node, ())
                    if not self.problems:
                        self.data = loader.construct_document(node)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            self.problems.append(Problem("", f"is not valid YAML: {error.problem or error.context}", line))
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(Problem("", f"is not valid YAML: {str(error).splitlines()[0]}"))
        except (LookupError, AttributeError, TypeError):
            # What PyYAML raises for a tag that does not fit its value: `!!int ""`, `!!bool maybe`, `!!timestamp x`.
            self.problems.append(Problem("", "is not valid YAML: an explicit tag (!!) does not fit its value"))
        except RecursionError:
            self.problems.append(Problem("", "is nested too deeply, or an alias contains itself"))

    def line_of(self, path: Path) -> int | None:
        """The line of the nearest enclosing key that the file has."""
        for length in range(len(path), -1, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None

    def _walk(self, node: yaml.Node, path: Path) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.tag not in _KEY_TAGS:
                    message = f"the key {_shown(key)} is no text; put it in quotes"
                    self.problems.append(Problem(dotted(path), message, line))
                    continue
                name = str(key.value)
                if name in seen and name != "<<":
                    self.problems.append(Problem(dotted((*path, name)), "stands twice", line))
                seen.add(name)
                self._lines[(*path, name)] = line
                self._walk(value, (*path, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*path, index))


def _shown(key: yaml.Node) -> str:
    return str(key.value)[:40] if isinstance(key, yaml.ScalarNode) else "(a list or mapping)"


def dotted(path: Path) -> str:
    """`('modes', 'jvm', 'build', 0)` as people write it: `modes.jvm.build[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
