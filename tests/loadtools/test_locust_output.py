"""What is built for Locust and read from it, without running it."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from loading import make_request

from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.model.benchmark import LoadShape
from pytest_staging.model.errors import LoadFailed, ToolMissing

HEADER = "started_at_s,latency_ms,function,error\n"


def parse(folder: Path, content: bytes, start_s: float = 0.0, end_s: float = 1e12) -> object:
    request = make_request(folder, "http://127.0.0.1:1")
    (folder / "requests.csv").write_bytes(content)
    return LocustTool().parse_output(request, start_s, end_s)


def test_the_window(tmp_path: Path) -> None:
    """A request counts in the window in which it began: from the start on, up to and without the end."""
    rows = HEADER + "".join(f"{at},{at * 10:.4f},echo,{'boom' if at == 12 else ''}\n" for at in (9.999, 10, 12, 15, 20))
    (tmp_path / "requests.csv").write_text(rows)
    result = LocustTool().parse_output(make_request(tmp_path, "x"), 10, 20)
    assert list(result.latencies_ms) == [100.0, 150.0]
    assert (result.requests, result.failures, result.first_error) == (3, 1, "boom")


def test_an_empty_window(tmp_path: Path) -> None:
    """Nothing is invented: the caller decides what no request means."""
    (tmp_path / "requests.csv").write_text(HEADER + "5,1.0,echo,\n")
    result = LocustTool().parse_output(make_request(tmp_path, "x"), 10, 20)
    assert (list(result.latencies_ms), result.requests) == ([], 0)


def test_errors_with_commas_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "requests.csv").write_text(HEADER + '5,1.0,echo,"a, ""b"" and c"\n')
    assert LocustTool().parse_output(make_request(tmp_path, "x"), 0, 10).first_error == 'a, "b" and c'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unexpected header None"),
        (b"time,latency\n1,2\n", "unexpected header"),
        (HEADER.encode() + b"1,2\n", "line 2 has 2 fields"),
        (HEADER.encode() + b"1,2,echo,\n1,2,echo\n", "line 3 has 3 fields"),
        (HEADER.encode() + b"one,2,echo,\n", "could not convert string to float: 'one'"),
        (HEADER.encode() + b"1,fast,echo,\n", "could not convert string to float: 'fast'"),
        (HEADER.encode() + b"1,,echo,\n", "could not convert string to float"),
        (HEADER.encode() + b"1,nan,echo,\n", "line 2 has no instant and latency: 1, nan"),
        (HEADER.encode() + b"1,inf,echo,\n", "line 2 has no instant and latency"),
        (HEADER.encode() + b"nan,1,echo,\n", "line 2 has no instant and latency"),
        (HEADER.encode() + b"1,-5,echo,\n", "line 2 has no instant and latency: 1, -5"),
        (HEADER.encode() + b"1,2,caf\xe9,\n", "can't decode"),
        (HEADER.encode() + b"1,2,echo," + b"x" * 200_000 + b"\n", "field larger than field limit"),
        (HEADER.encode() + b'1,2,echo,"never closed\n', ""),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    """XP-06: a damaged recording is a failed cell, never a measurement."""
    if not message:
        assert parse(tmp_path, content), "the last field is only unfinished: a row all the same"
        return
    with pytest.raises(LoadFailed, match=r"^requests\.csv is broken: ") as caught:
        parse(tmp_path, content)
    assert message in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="recorded no request at all"):
        LocustTool().parse_output(make_request(tmp_path, "x"), 0, 1)
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
