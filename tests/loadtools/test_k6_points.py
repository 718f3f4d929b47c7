"""k6's raw points: a recorded file of k6 1.1 with successes, 404s and refused connections, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toolcases import DATA

from pytest_staging.loadtools.k6_points import Points, _quickly, _slowly, read_points
from pytest_staging.loadtools.k6_summary import parse_summary
from pytest_staging.model.errors import LoadFailed

RECORDED = DATA / "k6" / "points.json"
LINE = next(
    line for line in RECORDED.read_text().splitlines() if line.startswith('{"metric":"http_req_duration","type":"Poi')
)


def read(folder: Path, *lines: str, start_s: float = 0.0, end_s: float = 1e12) -> Points:
    path = folder / "k6-points.json"
    path.write_text("".join(f"{line}\n" for line in lines))
    return read_points(path, start_s, end_s)


def point(at: str = "2026-01-31T12:00:10Z", value: object = 1.5, **tags: str) -> str:
    data = {"time": at, "value": value, "tags": {"expected_response": "true", "status": "200", **tags}}
    return json.dumps({"metric": "http_req_duration", "type": "Point", "data": data}, separators=(",", ":"))


def test_the_recorded_file() -> None:
    """SM-08: every request, as k6's own summary of the same run counts them, and its own percentiles."""
    found = read_points(RECORDED, 0.0, 1e12)
    summary = parse_summary(json.loads((DATA / "k6" / "points-summary.json").read_text()), False)
    assert (found.total, found.requests, found.failures) == (16, summary.requests, summary.failures) == (16, 16, 4)
    assert len(found.latencies_ms) == 12
    assert found.first_error == "status 404"
    assert found.iterations == 12
    assert sorted(found.latencies_ms)[-1] == pytest.approx(
        json.loads((DATA / "k6" / "points-summary.json").read_text())["metrics"][
            "http_req_duration{expected_response:true}"
        ]["max"]
    )


def test_the_quick_and_the_long_way_agree() -> None:
    """SM-08: each recorded line says the same by either."""
    for line in RECORDED.read_bytes().splitlines(keepends=True):
        quick, long = Points(0.0, 1e12, first_error="known"), Points(0.0, 1e12, first_error="known")
        if _quickly(quick, line):
            _slowly(long, line)
            assert quick == long
            assert quick.total == 1


def test_the_window(tmp_path: Path) -> None:
    """SM-08: a request counts where it began, which is its duration before its time; the end is not in the window."""
    lines = [point(f"2026-01-31T12:00:{at}Z", value) for at, value in (("10", 0), ("10.5", 600), ("11", 1), ("12", 0))]
    begun_s = 1769860810.0
    found = read(tmp_path, *lines, start_s=begun_s, end_s=begun_s + 2)
    assert list(found.latencies_ms) == [0.0, 1.0]
    assert (found.requests, found.total) == (2, 4)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("2026-01-31T12:00:10.123456789Z", 1.5),
        ("2026-01-31T14:00:10.1+02:00", 1.5),
        ("2026-01-31T06:30:10-05:30", 1e-05),
        ("2026-01-31T12:00:10Z", 12345678.25),
        ("2026-01-31T12:00:10Z", 3),
    ],
)
def test_times_and_values(tmp_path: Path, at: str, value: float) -> None:
    """Any number of digits, any zone, and numbers as Go writes them."""
    begun_s = 1769860810.0
    found = read(tmp_path, point(at, value), start_s=begun_s - value / 1000, end_s=begun_s + 1)
    assert list(found.latencies_ms) == [value]


def test_failures(tmp_path: Path) -> None:
    """XP-06: what k6 did not expect has failed, and so has what nobody answered, also with a callback of the user's."""
    refused = {"status": "0", "error": "dial: connection refused", "error_code": "1212"}
    unasked = json.loads(point(**refused))
    del unasked["data"]["tags"]["expected_response"]
    fine = json.loads(point(status="404"))
    del fine["data"]["tags"]["expected_response"]
    lines = [point(**refused, expected_response="false"), point(expected_response="false", status="500")]
    found = read(tmp_path, *lines, json.dumps(unasked), json.dumps(fine), point())
    assert (found.requests, found.failures, len(found.latencies_ms)) == (5, 3, 2)
    assert found.first_error == "dial: connection refused"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE[:100], "is broken in line 2: .*"),
        (LINE.replace('"value":', '"value":NaN,"old":'), "NaN is no number of JSON"),
        (LINE.replace('"value":', '"value":null,"old":'), "is None, not a number"),
        (LINE.replace('"value":', '"value":-1,"old":'), "no latency"),
        (LINE.replace('"value":', '"value":1e300,"old":'), "no latency"),
        (LINE.replace('"value":', '"value":1e999,"old":'), "not a finite number"),
        (LINE.replace('"value":', f'"value":{"9" * 400},"old":'), "too large"),
        (LINE.replace('"value":', f'"value":{"9" * 5000},"old":'), "broken in line 2"),
        (LINE.replace('"value":', '"value":1,5,"old":'), "broken in line 2"),
        (LINE.replace('"value":', '"value":"1.5","old":'), "not a number"),
        (LINE.replace('"time":"20', '"time":"yesterday 20'), "has no time"),
        (LINE.replace('"time":', '"time":null,"old":'), "has no time"),
        (LINE.replace('-21T', '-41T'), "is no instant"),
        (LINE.replace('"data":{', '"data":null,"old":{'), "data is no object"),
        ('{"metric":"http_req_duration","type":"Line"}', "neither a metric nor a point"),
        ('{"metric":"iterations","type":"Point","data":{"time":"2026-01-31T12:00:10Z","value":0.5}}', "not a count"),
        ("[]", "a line is no object"),
        ("", "broken in line 2"),
        ("<html>", "broken in line 2"),
        ("[" * 100_000, "broken in line 2"),
    ],
    ids=range(20),
)
def test_damaged_lines(tmp_path: Path, line: str, message: str) -> None:
    """XP-06: one bad line makes the file none: what is missing is not known."""
    with pytest.raises(LoadFailed, match=message):
        read(tmp_path, LINE, line, LINE)


def test_a_last_line_without_its_end(tmp_path: Path) -> None:
    """XP-06: also where what is there happens to be whole."""
    path = tmp_path / "k6-points.json"
    path.write_text(f"{LINE}\n{LINE}")
    with pytest.raises(LoadFailed, match="line 2: the line is cut off"):
        read_points(path, 0.0, 1e12)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"k6 wrote no k6-points\.json"):
        read_points(tmp_path / "k6-points.json", 0.0, 1e12)
    with pytest.raises(LoadFailed, match="Is a directory"):
        read_points(tmp_path, 0.0, 1e12)
