"""What is built for Locust and read from it, without running it."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from loading import make_request

from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, ToolMissing, ToolUnsupported
from pytest_staging.model.ports import Pace

HEADER = "started_at_s,latency_ms,function,error,late_ms\n"


def record(folder: Path, content: bytes, status: int = 0) -> None:
    """What a run leaves behind: its rows, and the note that it came to its end."""
    (folder / "requests.csv").write_bytes(content)
    ending = {"status": status, "started_at_s": 1.0, "ended_at_s": 2.0, "rows": max(0, content.count(b"\n") - 1)}
    (folder / "load-exit.json").write_text(json.dumps(ending))


def parse(folder: Path, content: bytes, start_s: float = 0.0, end_s: float = 1e12) -> object:
    request = make_request(folder, "http://127.0.0.1:1")
    record(folder, content)
    return LocustTool().parse_output(request, start_s, end_s)


def test_the_window(tmp_path: Path) -> None:
    """A request counts in the window in which it began: from the start on, up to and without the end."""
    rows = "".join(f"{at},{at * 10:.4f},echo,{'boom' if at == 12 else ''},0\n" for at in (9.999, 10, 12, 15, 20))
    record(tmp_path, (HEADER + rows).encode())
    result = LocustTool().parse_output(make_request(tmp_path, "x"), 10, 20)
    assert list(result.latencies_ms) == [100.0, 150.0]
    assert (result.requests, result.failures, result.first_error) == (3, 1, "boom")


def test_an_empty_window(tmp_path: Path) -> None:
    """Nothing is invented: the caller decides what no request means."""
    record(tmp_path, HEADER.encode() + b"5,1.0,echo,,0\n")
    result = LocustTool().parse_output(make_request(tmp_path, "x"), 10, 20)
    assert (list(result.latencies_ms), result.requests) == ([], 0)


def test_errors_with_commas_and_quotes(tmp_path: Path) -> None:
    record(tmp_path, HEADER.encode() + b'5,1.0,echo,"a, ""b"" and c",0\n')
    assert LocustTool().parse_output(make_request(tmp_path, "x"), 0, 10).first_error == 'a, "b" and c'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unexpected header None"),
        (b"time,latency\n1,2\n", "unexpected header"),
        (HEADER.encode() + b"1,2\n", "line 2 has 2 fields"),
        (HEADER.encode() + b"1,2,echo,,0\n1,2,echo\n", "line 3 has 3 fields"),
        (HEADER.encode() + b"one,2,echo,,0\n", "could not convert string to float: 'one'"),
        (HEADER.encode() + b"1,fast,echo,,0\n", "could not convert string to float: 'fast'"),
        (HEADER.encode() + b"1,,echo,,0\n", "could not convert string to float"),
        (HEADER.encode() + b"1,nan,echo,,0\n", "line 2 has no instant and latency: 1, nan"),
        (HEADER.encode() + b"1,inf,echo,,0\n", "line 2 has no instant and latency"),
        (HEADER.encode() + b"nan,1,echo,,0\n", "line 2 has no instant and latency"),
        (HEADER.encode() + b"1,-5,echo,,0\n", "line 2 has no instant and latency: 1, -5"),
        (HEADER.encode() + b"1,2,caf\xe9,,0\n", "can't decode"),
        (HEADER.encode() + b"1,2,echo," + b"x" * 200_000 + b",0\n", "field larger than field limit"),
        (HEADER.encode() + b'1,2,echo,"never closed\n', "line 2 has 4 fields"),
        (HEADER.encode() + b"1,1e300,echo,,0\n", "line 2 has no instant and latency: 1, 1e300"),
        (HEADER.encode() + b'"1,5",2,echo,,0\n', "could not convert string to float: '1,5'"),
        (HEADER.encode() + b"1,2,echo,,-1\n", "line 2 has no instant and latency"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    """XP-06: a damaged recording is a failed cell, never a measurement."""
    with pytest.raises(LoadFailed, match=r"^requests\.csv is broken: ") as caught:
        parse(tmp_path, content)
    assert message in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="recorded no request at all"):
        LocustTool().parse_output(make_request(tmp_path, "x"), 0, 1)
    record(tmp_path, b"\n")
    (tmp_path / "requests.csv").unlink()
    (tmp_path / "requests.csv").mkdir()
    with pytest.raises(LoadFailed, match=r"requests\.csv is broken: .*Is a directory"):
        LocustTool().parse_output(make_request(tmp_path, "x"), 0, 1)


@pytest.mark.parametrize(("shape", "rate", "planned"), [(LoadShape.OPEN, 50.0, 50.0), (LoadShape.CLOSED, None, None)])
def test_the_plan(tmp_path: Path, shape: LoadShape, rate: float | None, planned: float | None) -> None:
    """What the contract says is what the tool is told."""
    request = make_request(tmp_path, "http://h:1", shape=shape, rate=rate, users=7, duration_s=3.0, warm_up_s=1.5)
    built = LocustTool().build_command(request)
    plan = json.loads((tmp_path / "load-plan.json").read_text())
    assert (plan["users"], plan["rate"], plan["seconds"]) == (7, planned, 4.5)
    assert plan["bodies"] == {"echo": str(tmp_path / "body.json")}
    argv = list(built.command.argv)
    assert argv[argv.index("--host") + 1] == "http://h:1"
    assert argv[argv.index("--users") + 1] == "7"
    assert built.deadline_s > 4.5 + request.load.request_timeout_s
    assert built.command.env["STAGING_LOAD_PLAN"] == str(tmp_path / "load-plan.json")


def test_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-07: the tool's version is recorded; without the tool the message says what to install."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    assert LocustTool().version() == metadata.version("locust")
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ToolMissing, match=r"pip install 'pytest-staging\[load\]'"):
        LocustTool().version()


@pytest.mark.parametrize(("installed", "works"), [("2.29.1", 0), ("1.6", 0), ("2.30.0", 1), ("3.0.0b1", 1)])
def test_old_versions_are_told_from_missing_ones(monkeypatch: pytest.MonkeyPatch, installed: str, works: int) -> None:
    """SM-08: an unsupported version has an error of its own, with what is needed."""
    monkeypatch.setattr(metadata, "version", lambda _: installed)
    if works:
        assert LocustTool().version() == installed
        return
    with pytest.raises(ToolUnsupported, match=rf"locust is {installed}, and 2\.30 or newer is needed"):
        LocustTool().version()


def test_a_recording_without_its_end(tmp_path: Path) -> None:
    """XP-06: rows that end on a line's end look whole; a run that never came to its end is none all the same."""
    record(tmp_path, HEADER.encode() + b"5,1.0,echo,,0\n")
    (tmp_path / "load-exit.json").unlink()
    with pytest.raises(LoadFailed, match="locust never came to its end"):
        LocustTool().parse_output(make_request(tmp_path, "x"), 0, 10)


def test_late_and_dropped_requests_of_an_open_load(tmp_path: Path) -> None:
    """XP-06: a generator that cannot keep the rate says so: achieved rate, late requests, and those never sent."""
    request = make_request(tmp_path, "x", shape=LoadShape.OPEN, rate=5.0, duration_s=2.0)
    rows = "".join(f"{10 + k / 5},{100 + 300 * k},echo,,{300 * k}\n" for k in range(7))
    record(tmp_path, (HEADER + rows).encode())
    pace = LocustTool().parse_output(request, 10, 12).pace
    # Request k was due at 10 + k / 5 and sent .3 k later: 0 to 3 within the two seconds. Seven of ten were made.
    assert pace == Pace(intended_rps=5.0, achieved_rps=2.0, dropped=2, late=6, from_intended_start=True)
