"""The house: which room may import which, how big a module may be, and what an ordinary pytest run costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pytest_staging
from pytest_staging import stats

PACKAGE = Path(pytest_staging.__file__).parent
MAX_LINES = 350

# A room imports rooms on strictly lower floors, and itself.
FLOORS = {
    "__init__": 0, "model": 0,
    "wording": 0.5, "yamltext": 0.5, "durable": 0.5, "deadline": 0.5, "fingerprint": 0.75,
    "stats": 1, "contract": 1, "lineage": 1, "promotion": 1, "capacity": 1, "runbooks": 1,
    "calibrations": 1, "dockerfile": 1, "dockerignore": 1, "engine": 1, "ssh": 1, "inventory": 1,
    "targets": 2, "lifecycle": 2, "loadtools": 2, "metrics": 2, "images": 2, "store": 2, "reports": 2, "throughput": 2,
    "campaign": 3, "versioning": 3, "transitions": 3, "operating": 3,
    "wiring": 4,
    "plugin": 5, "session": 5, "hookspecs": 5, "cli": 5, "__main__": 5,
}  # fmt: skip

# Same-floor arrows, each with its reason.
ALLOWED = {
    ("plugin", "hookspecs"): "registers the hooks",
    ("plugin", "session"): "the door opens it, inside a function and only for a campaign",
    ("__main__", "cli"): "is the same program",
}
PYTEST_ROOMS = {"plugin", "session", "hookspecs"}
HEAVY = {"yaml", "paramiko", "tabulate", "pydantic", "rich", "httpx", "locust", "filelock", "prometheus_client"}
HEAVY |= {"xdist", "docker", "markdown_it", "fastapi", "starlette", "uvicorn"}
HEAVY |= {"jinja2", "altair", "vl_convert", "ruptures", "numpy"}

# Exceptions that are no errors of the tree, each with its reason.
ELSEWHERE = {
    "session.exits.StagingExit": "pytest's own way to end a session",
    "session.items.CellFailed": "how a cell's test fails, for pytest only",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module by its name below the package (`model.names`; a package's own file is `model`)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def is_package(name: str) -> bool:
    return (PACKAGE / name.replace(".", "/")).is_dir()


def targets_of(node: ast.AST, importer: str) -> Iterator[str]:
    """What an import statement names, as absolute module names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            home = importer.split(".") if is_package(importer) else importer.split(".")[:-1]
            kept = home[: len(home) - node.level + 1]
            base = ".".join(["pytest_staging", *kept, *([base] if base else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full.removeprefix("pytest_staging.") in modules() else base


def imports(name: str, everywhere: bool) -> set[str]:
    """What module `name` imports: at module level (TYPE_CHECKING included), or `everywhere`."""
    tree = modules()[name]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    return {
        target
        for node in ast.walk(tree)
        if everywhere or id(node) not in inside
        for target in targets_of(node, name)
    }  # fmt: skip


def own(names: set[str]) -> set[str]:
    """Modules of ours among `names`, without the package's prefix."""
    ours = {name for name in names if name.split(".")[0] == "pytest_staging"}
    return {name.removeprefix("pytest_staging").removeprefix(".") or "__init__" for name in ours}


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in modules()} - set(FLOORS) == set()


def test_imports_go_down() -> None:
    upward = [
        f"{name} -> {target}"
        for name in modules()
        for target in sorted(own(imports(name, everywhere=True)))
        if room(target) != room(name)
        and FLOORS[room(target)] >= FLOORS[room(name)]
        and (room(name), room(target)) not in ALLOWED
    ]
    assert upward == []


def test_no_allowance_is_left_over() -> None:
    used = {(room(name), room(target)) for name in modules() for target in own(imports(name, everywhere=True))}
    assert set(ALLOWED) - used == set()


def test_no_cycles() -> None:
    graph = {name: own(imports(name, everywhere=False)) & set(modules()) - {name} for name in modules()}
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert graph == {}


def test_the_graph_is_not_empty() -> None:
    """Guards the tests above: a reader that finds no imports would let everything pass."""
    assert {"store", "images.cache", "wiring"} <= own(imports("cli.images", everywhere=True))
    assert "campaign.matrix" in own(imports("campaign.planning", everywhere=False))
    assert "stats.summary" in own(imports("stats", everywhere=False))
    assert "model.campaign" in own(imports("hookspecs", everywhere=False)), "TYPE_CHECKING imports count"


@pytest.mark.parametrize("name", [name for name in modules() if room(name) not in PYTEST_ROOMS])
def test_the_core_does_not_know_pytest(name: str) -> None:
    foreign = {target.split(".")[0] for target in imports(name, everywhere=True)}
    assert not foreign & {"pytest", "_pytest", "pluggy"}


@pytest.mark.parametrize("name", ["plugin", "hookspecs", "__init__"])
def test_nothing_heavy_at_the_door(name: str) -> None:
    """PT-06: neither the door nor what it imports at module level imports anything heavy."""
    seen, queue = set(), [name]
    while queue:
        one = queue.pop()
        if one not in seen and one in modules():
            seen.add(one)
            # hookspecs names a model class for type checkers only.
            queue += [] if one == "hookspecs" else own(imports(one, everywhere=False))
    assert {target.split(".")[0] for one in seen for target in imports(one, everywhere=False)} & HEAVY == set()


def test_an_ordinary_run_imports_and_makes_nothing(tmp_path: Path) -> None:
    """PT-06: an ordinary pytest run imports at most 4 modules of ours, nothing heavy, and makes no file."""
    (tmp_path / "test_ordinary.py").write_text("def test_nothing(): pass\n")
    (tmp_path / "versions").mkdir()
    program = (
        "import json, sys, pytest\n"
        "code = pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'staging'])\n"
        "print('\\nMODULES ' + json.dumps([int(code), sorted(sys.modules)]))\n"
    )
    # Alone, because other plugins of this environment bring heavy modules of their own.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES "))
    code, names = json.loads(line.removeprefix("MODULES "))
    ours = [name for name in names if name.split(".")[0] == "pytest_staging"]
    assert code == 0, done.stdout
    assert "pytest_staging.plugin" in ours, "the plugin is not installed here, so this test would prove nothing"
    assert len(ours) <= 4, ours
    assert {name.split(".")[0] for name in names} & HEAVY == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_ordinary.py", "versions"]


@pytest.mark.parametrize("name", modules())
def test_modules_are_small(name: str) -> None:
    path = PACKAGE / f"{name.replace('.', '/')}.py"
    path = path if path.is_file() else PACKAGE / name.replace(".", "/") / "__init__.py"
    assert len(path.read_text().splitlines()) < MAX_LINES


def test_public_names_are_documented() -> None:
    """Functions of cli/ are documented by their commands' help texts, which tests/cli reads."""
    undocumented = [
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not name.startswith("cli.")
        and not node.name.startswith(("_", "pytest_"))
        and ast.get_docstring(node) is None
    ]
    assert undocumented == []


def test_modules_are_documented() -> None:
    assert [name for name, tree in modules().items() if ast.get_docstring(tree) is None] == []


def test_every_error_is_in_the_tree() -> None:
    """Outside model/errors.py no class is an exception, apart from the few named above."""
    known = {node.name for node in modules()["model.errors"].body if isinstance(node, ast.ClassDef)}
    builtin = {"Exception", "BaseException", "ValueError", "RuntimeError", "OSError", "KeyboardInterrupt"}
    found = {
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and name != "model.errors"
        and any(ast.unparse(base).split(".")[-1] in known | builtin for base in node.bases)
    }
    assert {"StagingError", "ContractError", "CellFailure"} <= known
    assert found - set(ELSEWHERE) == set()


def test_exported_names_of_stats() -> None:
    """What other rooms and users may rely on: a name that goes or comes is a decision, made here too."""
    assert sorted(stats.__all__, key=str.lower) == [
        "ALPHA", "campaign_verdict", "compare", "Comparison", "decide", "Decision", "Detectable", "detectable", "judge",
        "Judgement", "LOOKS", "MetricVerdict", "nominal_levels", "percentile", "runs_needed", "SMALLEST_PASS",
        "smallest_regression", "stopping_levels", "StoppingLevels", "summarise", "Summary", "unusable_reason",
        "Verdict",
    ]  # fmt: skip
    assert [name for name in stats.__all__ if not hasattr(stats, name)] == []
