"""Services that misbehave: each costs its own cell, says why, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import (
    DEADLINE_S,
    await_that,
    folder_of,
    make_bad,
    make_small,
    marked_processes,
    read_aggregate,
    read_summaries,
    run_campaign,
    started_campaign,
)
from workspaces import SERVICE, make_version

GOOD = ("baseline", "forking", "stubborn", "verbose")
PROMPT_HEALTH = 'self.answer(200 if self.path == "/healthz" else 404, b"up")'
EXTRA = "EXTRA = None\n"
SPAWN = """
import subprocess
for session in (False, True):
    subprocess.Popen([sys.executable, "-Ic", "import time; time.sleep(300)"], start_new_session=session)
"""
ORPHAN = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(300)
    os._exit(0)
"""
CHATTER = """
line = b"x" * 1023 + b"\\n"
for _ in range(24 << 10):
    os.write(1, line)
os.write(1, b"the last line\\n")
"""


def altered(old: str, new: str) -> str:
    """The ordinary service with one thing changed."""
    assert SERVICE.count(old) == 1
    return SERVICE.replace(old, new)


def with_extra(code: str) -> str:
    """The ordinary service that does something else before it serves."""
    return altered(EXTRA, code)


DYING = """
        global LEFT
        LEFT -= 1
        if LEFT < 0:
            print("out of luck", flush=True)
            os._exit(7)
"""


# What is wrong with each candidate: its service, changes to its modes, and what its cell must say.
BAD = {
    "dies-at-once": ("import sys\nprint('no configuration')\nsys.exit(3)\n", {}, "ended with status 3 before it was"),
    "never-healthy": (SERVICE, {"start": ["sh", "-c", "echo still loading; sleep 300"], "ready_timeout_s": 1.5},
                      "not healthy within 1.5 s"),
    "sick": (altered(PROMPT_HEALTH, 'print("no database", flush=True); self.answer(500, b"down")'),
             {"ready_timeout_s": 5}, "answered 500"),
    "dies-under-load": (altered("time.sleep(DELAY_S)", DYING.strip()).replace(EXTRA, "LEFT = 2\n"), {},
                        "ended with status 7"),
    "killed": (with_extra("print('going', flush=True)\nos.kill(os.getpid(), 9)\n"), {}, "killed by signal 9"),
    "always-500": (altered('self.answer(200, b"{}")', 'print("oops", flush=True); self.answer(500, b"{}")'), {},
                   "requests failed"),
    "build-fails": (SERVICE, {"build": [["sh", "-c", "echo cannot find symbol; exit 4"]]}, "sh ended with status 4"),
    "build-hangs": (SERVICE, {"build": [["sh", "-c", "echo resolving; sleep 300"]], "build_timeout_s": 1.5},
                    "did not end in 1.5 s"),
    "no-compiler": (SERVICE, {"build": [["no-such-compiler-9", "-O2"]]}, "no-such-compiler-9 is not installed"),
    "no-program": (SERVICE, {"start": ["{artifact}/missing-binary"]}, "cannot be started"),
}
TAILS = {
    "dies-at-once": "no configuration",
    "never-healthy": "still loading",
    "sick": "no database",
    "dies-under-load": "out of luck",
    "killed": "going",
    "always-500": "oops",
    "build-fails": "cannot find symbol",
    "build-hangs": "resolving",
}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """One campaign with every bad candidate, and its result."""
    root = make_small(tmp_path_factory.mktemp("ward") / "w", candidates=(), duration_s=0.2)
    for slug, (service, changes, _) in BAD.items():
        make_bad(root, slug, service, **changes)
    make_bad(root, "forking", with_extra(SPAWN + ORPHAN))
    make_bad(root, "stubborn", altered("lambda *_: os._exit(0)", "signal.SIG_IGN"), stop_timeout_s=0.3)
    make_bad(root, "verbose", with_extra(CHATTER))
    # In an order that ends with a bad one: nothing but its own cell may clean up after it.
    result = run_campaign(root, "--staging-order=fixed", "--junitxml=junit.xml")
    return root, result, marked_processes(root)


def cell(slug: str) -> str:
    return f"run001-native-{slug}"


def test_the_campaign_goes_on_and_exits_with_1(ward):
    """SM-07: a failed cell is a failed test; the others are measured."""
    root, result, _ = ward
    assert result.returncode == 1, result.stdout
    outcomes = {name: one["outcome"] for name, one in read_summaries(root).items()}
    assert outcomes == {
        **{cell(slug): "passed" for slug in GOOD}, **{cell(slug): "failed" for slug in BAD}
    }, result.stdout
    assert "Traceback" not in result.stdout
    assert f"{len(BAD)} failed, {len(GOOD)} passed" in result.stdout


@pytest.mark.parametrize("slug", BAD)
def test_a_failed_cell_says_why(ward, slug):
    """SM-07: the reason stands in the cell's summary, in the report and in the aggregate's list of what is missing."""
    root, result, _ = ward
    summary = read_summaries(root)[cell(slug)]
    assert BAD[slug][2] in summary["reason"]
    assert set(summary["metrics"].values()) == {None}
    failures = result.stdout[result.stdout.index("= FAILURES ="):]
    assert f"{cell(slug)}: {summary['reason']}" in failures
    missing = {one["cell"]: one["reason"] for one in read_aggregate(root)["missing"] if one["metric"] is None}
    assert missing[cell(slug)] == summary["reason"]


@pytest.mark.parametrize("slug", TAILS)
def test_the_report_shows_the_end_of_the_log(ward, slug):
    """SM-07: the last lines of the log that explains a failure are in the report and in the summary."""
    root, result, _ = ward
    assert TAILS[slug] in read_summaries(root)[cell(slug)]["log_tail"]
    failures = result.stdout[result.stdout.index("= FAILURES ="):]
    section = failures[failures.index(f"{cell(slug)}: "):]
    assert TAILS[slug] in section[: section.find("\n____") if "\n____" in section else None]


def test_the_aggregate_invents_nothing(ward):
    """SM-08: a candidate without a measured cell has null for every statistic, and the baseline keeps its values."""
    root, _, _ = ward
    for row in read_aggregate(root)["rows"]:
        if row["candidate_slug"] in BAD:
            assert {row["candidate"][name] for name in ("median", "mean", "min", "max")} == {None}
            assert {row["delta"][name] for name in ("median", "mean", "min", "max")} == {None}
        if row["metric"] == "p95":
            assert row["baseline"]["median"] > 0


def test_no_process_outlives_its_cell(ward):
    """SM-07: children, orphans and children in sessions of their own end with the cell; so does a hanging build."""
    root, _, left = ward
    assert left == []
    stop = read_summaries(root)[cell("forking")]["host"]["service_stop"]
    assert "left over killed" in stop


def test_a_service_that_ignores_the_request_to_end_is_killed(ward):
    """SM-07: terminate, then kill: the cell's measurement stands."""
    root, _, _ = ward
    summary = read_summaries(root)[cell("stubborn")]
    assert summary["host"]["service_stop"] == "killed"
    assert summary["phases"]["stop"] >= 0.3
    assert summary["metrics"]["throughput"] > 0


def test_a_service_log_is_bounded(ward):
    """SM-07: 24 MB of log are kept as a beginning and an end, with a note of what was left out."""
    root, _, _ = ward
    log = folder_of(root) / "runs" / "run-001" / "verbose__native" / "service.log"
    assert log.stat().st_size < 12 << 20
    text = log.read_text()
    assert "bytes left out" in text
    assert text.endswith("the last line\n")
    assert text.startswith("x")


# -- ports ------------------------------------------------------------------------------------------------------------

IMPOSTOR = '''
import http.server, socket, threading
import pytest_staging.targets.local as local

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

taken = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
threading.Thread(target=taken.serve_forever, daemon=True).start()
honest, asked = local.LocalTarget.free_port, []

def free_port(self):
    asked.append(1)
    return taken.server_port if len(asked) <= {times} else honest(self)

local.LocalTarget.free_port = free_port
'''


@pytest.mark.parametrize("shared", [False, True], ids=["dies", "lives"])
def test_a_port_that_was_taken_is_given_up_for_another(tmp_path, shared):
    """SM-07: somebody else's healthy answer is never measured: the service gets another port, dead or alive."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    (root / "conftest.py").write_text(IMPOSTOR.format(times=2))
    if shared:
        for slug, status in (("baseline", "baseline"), ("faster", "candidate")):
            make_patient(root, slug, status)
    result = run_campaign(root)
    assert result.returncode == 0, result.stdout
    assert all(one["metrics"]["fail_rate"] == 0 for one in read_summaries(root).values())


def make_patient(root: Path, slug: str, status: str) -> None:
    """A version that waits for its port instead of ending when it is taken."""
    serve = 'Server((os.environ["STAGING_HOST"], int(os.environ["STAGING_PORT"])), Handler).serve_forever()'
    patient = f"while True:\n    try:\n        {serve}\n    except OSError:\n        time.sleep(0.05)\n"
    make_version(root, slug, status, altered(serve, patient))


def test_a_port_that_is_always_taken_fails_the_cell(tmp_path):
    """SM-07: after a few ports the cell fails and says that another process answers; nothing of ours is left."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    (root / "conftest.py").write_text(IMPOSTOR.format(times=1000))
    result = run_campaign(root)
    assert result.returncode == 1, result.stdout
    summaries = read_summaries(root)
    assert [one["outcome"] for one in summaries.values()] == ["failed", "failed"]
    assert all("its port" in one["reason"] and "another process" in one["reason"] for one in summaries.values())
    assert marked_processes(root) == []


# -- changes in mid-campaign ------------------------------------------------------------------------------------------


def test_a_snapshot_that_changes_fails_the_cells_that_follow(tmp_path):
    """SM-07: a changed snapshot is not measured as if it were the pinned one; the other version's cells go on."""
    root = make_small(tmp_path / "w", duration_s=2.0)
    with started_campaign(root, "--runs=2", "--staging-order=fixed") as process:
        await_that(lambda: "run001-native-faster" in read_summaries(root), "the first run")
        source = root / "versions" / "faster" / "snapshot" / "service.py"
        source.write_text(source.read_text() + "# changed\n")
        assert process.wait(DEADLINE_S) == 1
    summaries = read_summaries(root)
    assert {name: one["outcome"] for name, one in summaries.items()} == {
        "run001-native-baseline": "passed", "run001-native-faster": "passed",
        "run002-native-baseline": "passed", "run002-native-faster": "failed",
    }
    assert "the snapshot of faster changed" in summaries["run002-native-faster"]["reason"]


def test_a_changed_copy_of_the_benchmark_ends_without_a_comparison(tmp_path):
    """SM-11: a report over a benchmark that changed in mid-campaign fails, says which file, and compares nothing."""
    root = make_small(tmp_path / "w", duration_s=2.0)
    with started_campaign(root, "--staging-order=fixed") as process:
        await_that(lambda: read_summaries(root), "the first cell")
        (folder_of(root) / "benchmark" / "payloads" / "echo.json").write_text("[1]")
        code = process.wait(DEADLINE_S)
    output = (root / "output.txt").read_text()
    assert code == 2, output
    assert "benchmark cannot change within a campaign" in output
    assert "payloads/echo.json" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert not (folder_of(root) / "aggregate-comparison.json").exists()
    assert json.loads((folder_of(root) / "runs/run-001/baseline__native/cell-summary.json").read_text())
