"""Drift in this repository's own documents: each test breaks a real one in a copy, and sees the gate fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import markdown_it
import pytest

from pytest_staging.cli import build_parser
from pytest_staging.session import contracts

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("docs", "deploy", "scripts", "perf", "benchmark", "versions", "tests", "README.md", "CHANGELOG.md")
COPIED += ("setup.cfg",)
QUIET = ("-p", "no:cacheprovider", "-p", "no:locust", "-p", "no:hypothesispytest", "-p", "no:anyio")
# pytester throws away what a run in this process imports; what is imported here already is not imported again by each.
IMPORTED = (build_parser(), markdown_it.MarkdownIt, contracts)
LOGS = "-p word-stats-dev -f deploy/compose.yaml --profile scale-out logs --tail=50"

# What is broken: the document, the text that becomes another one, and what the gate says about it.
DRIFT = {
    "renamed flag": (
        "docs/quickstart.md", "--candidate pool-v2 --runs 1 ", "--candidat pool-v2 --runs 1 ",
        "staging-manager run-campaign has no option --candidat. Did you mean '--candidate'?",
    ),
    "renamed command": (
        "docs/tutorial.md", "staging-manager lineage", "staging-manager linage",
        "staging-manager has no command 'linage'. Did you mean 'lineage'?",
    ),
    "renamed pytest option": (
        "docs/hosts.md", "--staging-target ssh --staging-hosts", "--staging-target ssh --staging-host",
        "pytest has no option --staging-host. Did you mean '--staging-hosts'?",
    ),
    "unknown target": (
        "docs/images.md", "--staging-target docker --runs", "--staging-target dockr --runs",
        "the target 'dockr' is not in the program. Did you mean 'docker'?",
    ),
    "unknown profile": (
        "docs/usage_guide.md", "capacity start scale-out", "capacity start scale-ot",
        "the capacity profile 'scale-ot' is not in deploy/capacity.yaml. Did you mean 'scale-out'?",
    ),
    "unknown environment": (
        "docs/usage_guide.md", "capacity evidence scale-out --env dev", "capacity evidence scale-out --env devel",
        "the environment 'devel' is not in deploy/capacity.yaml. Did you mean 'dev'?",
    ),
    "unknown preset": (
        "docs/usage_guide.md", "--preset conservative --ttl", "--preset conservativ --ttl",
        "the preset 'conservativ' is not in deploy/throughput.yaml. Did you mean 'conservative'?",
    ),
    "unknown version": (
        "docs/load.md", "--version nodelay --mode", "--version nodely --mode",
        "the version 'nodely' is not in versions/. Did you mean 'nodelay'?",
    ),
    "unknown service": (
        "docs/troubleshooting.md", f"docker-compose {LOGS} worker", f"docker-compose {LOGS} wroker",
        "the service 'wroker' is not in deploy/compose.build.yaml, deploy/compose.yaml. Did you mean 'worker'?",
    ),
    "unknown compose profile": (
        "docs/troubleshooting.md", f"docker-compose {LOGS}", f"docker-compose {LOGS.replace('e-o', 'eo')}",
        "the Compose profile 'scaleout' is not in deploy/compose.build.yaml, deploy/compose.yaml. Did you mean 'scale",
    ),
    "wrong compose flag": (
        "docs/troubleshooting.md", f"docker compose {LOGS}", f"docker compose {LOGS.replace('tail', 'tial')}",
        "docker compose logs has no option --tial. Did you mean '--tail'?",
    ),
    "missing compose file": (
        "docs/troubleshooting.md", "docker compose -p word-stats-dev -f deploy/compose.yaml",
        "docker compose -p word-stats-dev -f deploy/compse.yaml",
        "deploy/compse.yaml does not exist. Did you mean 'compose.yaml'?",
    ),
    "unknown metric": (
        "docs/metrics.md", "<!-- staging: names metric queue_drain_time", "<!-- staging: names metric queue_drain_tim",
        "the metric 'queue_drain_tim' is not in benchmark/benchmark.yaml. Did you mean 'queue_drain_time'?",
    ),
    "missing file": (
        "docs/tutorial.md", "`versions/nodelay/hypothesis.md`", "`versions/nodelay/hypotheses.md`",
        "versions/nodelay/hypotheses.md does not exist. Did you mean 'hypothesis.md'?",
    ),
    "missing link": (
        "README.md", "(docs/tutorial.md)", "(docs/tutoriel.md)",
        "the link leads to 'docs/tutoriel.md', which does not exist. Did you mean 'tutorial.md'?",
    ),
    "missing script": (
        "docs/k3s.md", "scripts/e2e-k3s-helm.sh status", "scripts/e2e-k3s-hlm.sh status",
        "scripts/e2e-k3s-hlm.sh does not exist. Did you mean 'e2e-k3s-helm.sh'?",
    ),
    "unknown command of a script": (
        "docs/k3s.md", "scripts/e2e-k3s-helm.sh destroy", "scripts/e2e-k3s-helm.sh destory",
        "e2e-k3s-helm.sh has no command 'destory'. Did you mean 'destroy'?",
    ),
    "unknown anchor": (
        "docs/files.md", "load.md#several-processes", "load.md#several-process",
        "the link leads to #several-process, and load.md has no such heading. Did you mean 'several-processes'?",
    ),
    "unknown variable": (
        "docs/k3s.md", "E2E_VM_USER=tester", "E2E_VM_USR=tester",
        "nothing reads the environment variable E2E_VM_USR. Did you mean 'E2E_VM_USER'?",
    ),
    "unknown variable of a compose file": (
        "docs/troubleshooting.md", "such as `RABBITMQ_PASSWORD`", "such as `RABBITMQ_PASSWRD`",
        "nothing reads the environment variable RABBITMQ_PASSWRD. Did you mean 'RABBITMQ_PASSWORD'?",
    ),
    "stale generated block": (
        "docs/usage_guide.md", "| `balanced` | parallelism 8", "| `balanced` | parallelism 9",
        "the generated block 'preset-table' is stale: it says '| `balanced` | parallelism 9",
    ),
    "step left out": (
        "docs/usage_guide.md", "manager capacity evidence scale-out", "manager capacity rollback scale-out",
        "the step 'evidence' is missing in this section.",
    ),
    "open quote": (
        "docs/tutorial.md", "'cd pytest-staging", "cd pytest-staging",
        "' is not closed",
    ),
}  # fmt: skip


@pytest.fixture
def repository(pytester: pytest.Pytester) -> pytest.Pytester:
    """A copy of this repository, as far as documents name it."""
    for name in COPIED:
        source, goal = ROOT / name, pytester.path / name
        if name == "tests":
            # Documents name the files of tests, which need not hold anything.
            for path in source.rglob("*.py"):
                (pytester.path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (pytester.path / path.relative_to(ROOT)).touch()
        elif source.is_dir():
            # A version's images are a cache of this machine; those of the documents are linked.
            left_out = ["__pycache__", "out", ".lock", *(["images"] if name == "versions" else [])]
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy(source, goal)
    # pytest warns of modules that this process has imported before it; here that must be no error.
    settings = pytester.path / "setup.cfg"
    settings.write_text(settings.read_text().replace("\n    error\n", "\n"))
    for name in ("campaigns", "pytest_staging"):
        (pytester.path / name).mkdir()
    (pytester.path / "pytest_staging" / "fingerprint.py").touch()
    return pytester


def gate(repository: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The gate, without the blocks that are run for real."""
    return repository.runpytest_inprocess("--staging-contracts", *QUIET, "-k", "not run:", *arguments)


@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_caught(repository: pytest.Pytester, drift: str) -> None:
    """RB-02: a real document passes; broken in one place it fails with file, line and the nearest valid name."""
    document, old, new, message = DRIFT[drift]
    path = repository.path / document
    text = path.read_text()
    assert old in text, "the document no longer says what this test breaks"
    broken = text.replace(old, new, 1)
    require_good(repository, document)
    path.write_text(broken)
    result = gate(repository, document)
    assert result.ret == 1
    # A sequence is claimed in one line and broken in another.
    place = document if drift == "step left out" else f"{document}:{line_of(new, broken)}"
    assert f"{place}: {message}" in str(result.stdout) or (drift == "step left out" and message in str(result.stdout))


def line_of(part: str, text: str) -> int:
    """The line in which the first `part` of a text begins."""
    return text[: text.index(part)].count("\n") + 1


GOOD: set[str] = set()


def require_good(repository: pytest.Pytester, document: str) -> None:
    """The unbroken document passes; asked once for all tests that break it."""
    if document not in GOOD:
        result = gate(repository, document)
        assert result.ret == 0, str(result.stdout)
        GOOD.add(document)


def test_two_steps_in_the_wrong_order_are_caught(repository: pytest.Pytester) -> None:
    """RB-02: evidence that stands below the rollback is found, with both lines."""
    path = repository.path / "docs" / "usage_guide.md"
    evidence, rollback = (f"staging-manager capacity {step} scale-out --env dev" for step in ("evidence", "rollback"))
    text = path.read_text()
    require_good(repository, "docs/usage_guide.md")
    swapped = text.replace(evidence, "@").replace(rollback, evidence).replace("@", rollback)
    path.write_text(swapped)
    last = f"the step 'rollback' stands before 'evidence' (line {line_of(evidence, swapped)})"
    message = f"docs/usage_guide.md:{line_of(rollback, swapped)}: {last}"
    assert message in str(gate(repository, "docs/usage_guide.md").stdout)


def test_the_canonical_runbook_out_of_order_is_caught(repository: pytest.Pytester) -> None:
    """RB-01: the steps of docs/docker_compose.md stand in their order, or the gate fails with both lines."""
    path = repository.path / "docs" / "docker_compose.md"
    require_good(repository, "docs/docker_compose.md")
    text = path.read_text()
    start, evidence = text.index("### 2. Start it"), text.index("### 4. Collect evidence")
    end = text.index("### 5. Roll back")
    moved = text[:start] + text[evidence:end] + text[start:evidence] + text[end:]
    path.write_text(moved)
    place = line_of("staging-manager capacity evidence baseline", moved)
    message = f"docs/docker_compose.md:{place}: the step 'evidence' stands before 'status'"
    assert message in str(gate(repository, "docs/docker_compose.md").stdout)


@pytest.mark.parametrize(
    ("file", "old", "new", "document", "message"),
    [
        ("deploy/capacity.yaml", "  scale-out:\n    description", "  wide:\n    description", "docs/usage_guide.md",
         "the capacity profile 'scale-out' is not in deploy/capacity.yaml."),
        ("deploy/throughput.yaml", "  conservative:  ", "  cautious:  ", "docs/usage_guide.md",
         "the preset 'conservative' is not in deploy/throughput.yaml."),
        ("benchmark/benchmark.yaml", "tolerance: 0.25", "tolerance: 0.35", "docs/usage_guide.md",
         "the generated block 'metric-table' is stale"),
        ("deploy/compose.yaml", "WORD_STATS_PORT:-8080", "WORD_STATS_PORT:-8081", "docs/troubleshooting.md",
         "the generated block 'environment deploy/compose.yaml' is stale"),
        ("docs/load.md", "## Invalid cells", "## Cells that do not count", "docs/troubleshooting.md",
         "the link leads to #invalid-cells, and load.md has no such heading."),
    ],
)  # fmt: skip
def test_a_change_beside_the_document_is_caught(
    repository: pytest.Pytester, file: str, old: str, new: str, document: str, message: str
) -> None:
    """RB-02: it is the other file that changes, and the document that becomes wrong."""
    require_good(repository, document)
    path = repository.path / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    result = gate(repository, document)
    assert result.ret == 1
    assert message in str(result.stdout)


def test_every_document_passes() -> None:
    """RB-01: quickstart, performance, troubleshooting, usage guide and the rest agree with the program as it is."""
    # With every plugin: documents name options of pytest's own, such as --lf.
    command = [sys.executable, "-m", "pytest", "--staging-contracts", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 300


def test_no_document_tells_where_it_was_made() -> None:
    """RB-02: what a generated block prints is the same in every clone."""
    texts = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    assert [name for name, text in texts.items() if str(ROOT) in text] == []
