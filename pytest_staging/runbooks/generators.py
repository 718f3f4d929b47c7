"""What generated blocks are made of. Each returns markdown and depends on nothing but the project.

argparse's own help differs between versions of Python, so commands are described from their parsers here.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from pytest_staging.runbooks.grammar import every_parser
from pytest_staging.runbooks.nearest import hint, listed
from pytest_staging.runbooks.project import Project


def cli_help(project: Project, *words: str) -> str:
    """A command and all of its subcommands with their arguments. `words` may begin with the program's name."""
    name = words[0] if words and words[0] in project.programs else next(iter(project.programs))
    rest = words[1:] if words and words[0] in project.programs else words
    parser = _find(project.programs[name].parser, rest)
    leaves = [one for one in every_parser(parser) if _subcommands(one) is None]
    helps = _one_line_helps(project.programs[name].parser)
    commands = [[f"`{_usage(one)}`", _sentence(helps.get(one.prog, one.description or ""))] for one in leaves]
    arguments = {f"`{_spelling(each)}`": _help(each) for one in leaves for each in _shown(one)}
    tables = [_table(["command", "what it does"], commands)]
    return "\n\n".join(tables + ([_table(["argument", "meaning"], arguments.items())] if arguments else []))


def prints(project: Project, *words: str) -> str:
    """What a command prints now. Only of commands that change nothing and ask nobody."""
    program = project.programs.get(words[0]) if words else None
    if program is None or program.main is None:
        known = [name for name, one in project.programs.items() if one.main]
        raise ValueError(f"'prints' needs a program that can be asked: {listed(known)}")
    if not any(words[1:][: len(safe)] == safe for safe in program.safe):
        raise ValueError(f"'prints' takes only {listed(' '.join(safe) for safe in program.safe)}")
    here = os.getcwd()
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as complaint:
        try:
            # Not by an option: some commands print it, and a document must not tell where it was made.
            os.chdir(project.root)
            code = program.main([*words[1:]])
        except SystemExit as leaving:
            code = leaving.code
        finally:
            os.chdir(here)
    if code:
        raise ValueError(f"{' '.join(words)!r} ended with {code}: {complaint.getvalue().strip()}")
    lines = [line.rstrip() for line in printed.getvalue().rstrip().split("\n")]
    return "\n".join(["```text", *lines, "```"])


def profile_matrix(project: Project) -> str:
    """Capacity profiles: services, replicas and settings of each."""
    profiles = _mapping_of(project.facts.capacity, "profiles", project.facts.places.capacity)
    head = ["profile", "what it is", "services", "Compose profiles", "replicas", "settings"]
    rows = [
        [
            f"`{name}`",
            str(one.get("description", "")),
            _codes(one.get("services")),
            _codes(one.get("compose_profiles")),
            _pairs(one.get("replicas")),
            _pairs(one.get("variables")),
        ]
        for name, one in profiles.items()
    ]
    return _table(head, rows)


def preset_table(project: Project) -> str:
    """Throughput presets: parallelism and floor of each class."""
    path = project.facts.places.throughput
    presets = _mapping_of(project.facts.throughput, "presets", path)
    classes = list(_mapping_of(project.facts.throughput, "classes", path))
    rows = [[f"`{name}`", *(_numbers(one.get(each)) for each in classes)] for name, one in presets.items()]
    return _table(["preset", *(f"`{one}`" for one in classes)], rows)


def metric_table(project: Project) -> str:
    """What the benchmark measures, and how much of it may change."""
    metrics = _mapping_of(project.facts.benchmark, "metrics", project.facts.places.benchmark)
    rows = []
    for name, one in metrics.items():
        limits = [f"{one['tolerance']:.0%}"] if "tolerance" in one else []
        limits += [f"{one['absolute_tolerance']} {one.get('unit', '')}".strip()] if "absolute_tolerance" in one else []
        facts = [str(one.get("unit", "")), str(one.get("direction", "")), " or ".join(limits)]
        rows.append([f"`{name}`", *facts, "shown only" if one.get("advisory") else "counted"])
    return _table(["metric", "unit", "better", "may change by", "verdict"], rows)


def environment_table(project: Project, *paths: str) -> str:
    """Environment variables of the compose files, with their defaults."""
    files = project.facts.compose
    for path in paths:
        if path not in files:
            raise ValueError(f"{path} is no compose file of this project.{hint(path, files)} Known: {listed(files)}.")
    rows: dict[str, tuple[str | None, list[str]]] = {}
    for path in paths or files:
        for name, default in project.facts.interpolated(path).items():
            rows.setdefault(name, (default, []))[1].append(path)
    lines = [
        [f"`{name}`", "must be set" if default is None else f"`{default}`" if default else "empty", _codes(used)]
        for name, (default, used) in sorted(rows.items())
    ]  # fmt: skip
    return _table(["variable", "default", "read by"], lines)


def _find(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    for word in words:
        known = _subcommands(parser) or {}
        if word not in known:
            raise ValueError(f"{parser.prog} has no command {word!r}.{hint(word, known)} Known: {listed(known)}.")
        parser = known[word]
    return parser


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else None


def _one_line_helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    """`prog` of every subcommand to the line that its group's help has for it."""
    found: dict[str, str] = {}
    for one in every_parser(parser):
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {f"{one.prog} {each.dest}": each.help or "" for each in action._choices_actions}
    return found


def _shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".removesuffix(".")


def _usage(parser: argparse.ArgumentParser) -> str:
    """Positional arguments first, as people type them."""
    actions = sorted(_shown(parser), key=lambda action: (bool(action.option_strings), not action.required))
    return " ".join([parser.prog, *(_in_usage(action) for action in actions)])


def _in_usage(action: argparse.Action) -> str:
    text = _spelling(action).split(", ")[-1]
    if not action.option_strings:
        return {"*": f"[{text}...]", "+": f"{text}...", "?": f"[{text}]"}.get(str(action.nargs), text)
    return text if action.required else f"[{text}]"


def _spelling(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return value
    return ", ".join(f"{option} {value}".rstrip() for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "/".join(str(one) for one in action.choices) if action.choices else action.dest.upper()


def _help(action: argparse.Action) -> str:
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    choices = f" ({', '.join(str(one) for one in action.choices)})" if action.choices and action.metavar else ""
    return text + choices


def _mapping_of(data: Any, key: str, path: str) -> dict[str, dict[str, Any]]:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, dict):
        raise ValueError(f"{path} has no {key}, or cannot be read")
    return {str(name): one if isinstance(one, dict) else {} for name, one in value.items()}


def _codes(names: Iterable[Any] | None) -> str:
    return ", ".join(f"`{name}`" for name in names or ())


def _pairs(mapping: Any) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in mapping.items()) if isinstance(mapping, dict) else ""


def _numbers(one: Any) -> str:
    if not isinstance(one, dict):
        return "–"
    return ", ".join(f"{name} {value}" for name, value in one.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


GENERATORS = {
    "cli-help": cli_help,
    "prints": prints,
    "profile-matrix": profile_matrix,
    "preset-table": preset_table,
    "metric-table": metric_table,
    "environment": environment_table,
}
