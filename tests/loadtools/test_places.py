"""A load that generators send: which process runs where, under which names, and by whose clock it is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from loading import make_request
from toolcases import full_request, give_up, has_program

from pytest_staging import loadtools
from pytest_staging.loadtools.driving import read_endings
from pytest_staging.loadtools.h2load import H2loadTool
from pytest_staging.loadtools.k6 import K6Tool
from pytest_staging.loadtools.k6_points import Points, add_points
from pytest_staging.loadtools.locust import LocustTool
from pytest_staging.loadtools.placing import clock_of, numbered, own_name
from pytest_staging.loadtools.wrk import WrkTool
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.placing import Clock, Place
from pytest_staging.model.ports import LoadRequest

HEADER = "started_at_s,latency_ms,function,error,late_ms"
TOOLS = Path(loadtools.__path__[0]).resolve()


def place(folder: Path, name: str, processes: int = 1, ahead_s: float = 0.0) -> Place:
    folders = {folder.resolve(): f"/srv/{name}/cell", TOOLS: f"/srv/{name}/tools"}
    return Place(name=name, address=f"{name}.lan", processes=processes, python="/opt/py", program="/opt/tool",
                 ports=tuple(range(20000, 20001 + processes)), cpus=4.0, clock=Clock(ahead_s=ahead_s),
                 folders=folders)  # fmt: skip


def spread(request: LoadRequest, *places: Place) -> LoadRequest:
    total = sum(one.processes for one in places)
    return replace(request, places=places, load=replace(request.load, processes=total, users=max(6, total)))


def test_names_there(tmp_path: Path) -> None:
    """XP-06: a file below a known folder has its counterpart; any other has none, and is no guess."""
    found = place(tmp_path, "gen-1")
    (tmp_path / "link").symlink_to(tmp_path)
    assert found.there(tmp_path) == "/srv/gen-1/cell"
    assert found.there(tmp_path / "link" / "a.js") == "/srv/gen-1/cell/a.js"
    with pytest.raises(ValueError, match="has no counterpart on gen-1"):
        found.there(Path("/etc/passwd"))
    assert Place(python="p", program="t").there(tmp_path / "a.js") == str(tmp_path / "a.js")


def test_numbers_and_names(tmp_path: Path) -> None:
    """XP-06: processes are numbered over all generators, and no file of one has the name of another's."""
    places = [place(tmp_path, "gen-1", 2, 5.0), place(tmp_path, "gen-2", 3, -7.0)]
    assert [list(numbers) for _, numbers in numbered(places)] == [[0, 1], [2, 3, 4]]
    request = replace(make_request(tmp_path, "http://x"), places=places)
    assert [clock_of(request, number) for number in range(5)] == [5.0, 5.0, -7.0, -7.0, -7.0]
    assert clock_of(make_request(tmp_path, "http://x"), 0) == 0.0
    assert own_name("load-exit.json", places[1], places) == "load-exit@gen-2.json"
    assert own_name("load-ready", places[1], places) == "load-ready@gen-2"
    assert own_name("load-exit.json", places[0], places[:1]) == "load-exit.json"


def test_segments_over_generators(tmp_path: Path) -> None:
    """XP-06: execution segments cover the load once, over all processes of all generators; all begin together."""
    if not has_program("k6"):
        give_up("k6 is not installed", exempt=True)
    asked = full_request(tmp_path, "http://x:1", duration_s=1.0)
    request = spread(asked, place(tmp_path, "gen-1", 2), place(tmp_path, "gen-2"))
    command = K6Tool().build_command(request)
    plans = [json.loads((tmp_path / f"load-plan@gen-{number}.json").read_text()) for number in (1, 2)]
    argvs = [argv for plan in plans for argv in plan["phases"][0]["argvs"]]
    segments = [argv[argv.index("--execution-segment") + 1] for argv in argvs]
    assert segments == ["0:1/3", "1/3:2/3", "2/3:1"]
    assert len({argv[argv.index("--execution-segment-sequence") + 1] for argv in argvs}) == 1
    assert [plan["go_file"] for plan in plans] == [f"/srv/gen-{n}/cell/load-go@gen-{n}" for n in (1, 2)]
    assert [len(plan["apis"]) for plan in plans] == [2, 1]
    assert argvs[2][-1] == "/srv/gen-2/cell/k6-script@gen-2.js"
    assert "/srv/gen-2/cell/body.json" in (tmp_path / "k6-script@gen-2.js").read_text()
    assert str(tmp_path) not in json.dumps(plans)
    assert [part.argv[:3] for part in command.parts] == [["/opt/py", "-I", "-S"]] * 2
    assert all(path.is_file() for path in command.inputs)
    assert tmp_path / "body.json" in command.inputs


def test_master_and_workers(tmp_path: Path) -> None:
    """XP-06: the master runs on the first generator, where the workers of the others meet it; all know the schedule."""
    request = spread(
        make_request(tmp_path, "http://x:1"), place(tmp_path, "gen-1", 1, 2.0), place(tmp_path, "gen-2", 2, 5.0)
    )
    command = LocustTool().build_command(request)
    first, second = (json.loads((tmp_path / f"load-plan@gen-{number}.json").read_text()) for number in (1, 2))
    masters = [argv for argv in first["phases"][0]["argvs"] if "--master" in argv]
    assert [argv[argv.index("--expect-workers") + 1] for argv in masters] == ["3"]
    workers = second["phases"][0]["argvs"]
    assert [argv[argv.index("--master-host") + 1] for argv in workers] == ["gen-1.lan"] * 2
    assert [argv[1] for argv in workers] == ["STAGING_LOAD_WORKER=1", "STAGING_LOAD_WORKER=2"]
    plan = json.loads((tmp_path / "locust-plan@gen-2.json").read_text())
    assert plan["ahead_s"] == pytest.approx(3.0), "by which its clock is ahead of the master's"
    assert plan["workers"][2]["requests_file"] == "/srv/gen-2/cell/requests-3.csv"
    assert [part.ready for part in command.parts] == ["load-ready@gen-1", None]
    assert [part.cpus for part in command.parts] == [1.0, 2.0]


def test_each_recording_by_its_own_clock(tmp_path: Path) -> None:
    """XP-06: requests of generators with other clocks count in the window in which they were sent."""
    request = spread(
        make_request(tmp_path, "http://x"), place(tmp_path, "gen-1", 1, 600.0), place(tmp_path, "gen-2", 1, -30.0)
    )
    for name, ahead_s in (("1", 600.0), ("2", -30.0), ("master", 600.0)):
        rows = [f"{10 + second + ahead_s},{second},echo,,0" for second in range(10)] if name != "master" else []
        (tmp_path / f"requests-{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        ending = {"status": 0, "started_at_s": 1.0, "ended_at_s": 30.0 + ahead_s, "rows": len(rows)}
        (tmp_path / f"load-exit-{name}.json").write_text(json.dumps(ending))
    for number in (1, 2):
        ending = {"status": 0, "started_at_s": 1.0, "ended_at_s": 30.0}
        (tmp_path / f"load-exit@gen-{number}.json").write_text(json.dumps(ending))
    result = LocustTool().parse_output(request, 12.0, 15.0)
    assert list(result.latencies_ms) == [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    with pytest.raises(LoadFailed, match=r"locust worker 1 ended 10\.00 s before the load did"):
        LocustTool().parse_output(request, 12.0, 40.0)


def test_points_by_their_own_clock(tmp_path: Path) -> None:
    """XP-06: the same of k6's raw points, by both ways of reading them."""
    at = {"time": "2026-01-31T12:00:10.5Z", "value": 2.0, "tags": {"expected_response": "true"}}
    quick = json.dumps({"metric": "http_req_duration", "type": "Point", "data": at}, separators=(",", ":"))
    slow = json.dumps({"data": at, "type": "Point", "metric": "http_req_duration"})
    (tmp_path / "points.json").write_text(f"{quick}\n{slow}\n")
    begun_s = 1769860810.0
    for ahead_s, count in ((0.0, 2), (600.0, 0), (-0.4, 2), (-0.6, 0)):
        points = Points(begun_s, begun_s + 1, ahead_s=ahead_s)
        add_points(tmp_path / "points.json", points)
        assert (points.requests, points.total) == (count, 2)


def test_one_of_several_failed(tmp_path: Path) -> None:
    """XP-06: the generator whose part did not end well is named."""
    request = spread(make_request(tmp_path, "http://x"), place(tmp_path, "gen-1"), place(tmp_path, "gen-2"))
    ending = {"status": 0, "started_at_s": 1.0, "ended_at_s": 2.0}
    (tmp_path / "load-exit@gen-1.json").write_text(json.dumps(ending))
    (tmp_path / "load-exit@gen-2.json").write_text(json.dumps({**ending, "status": 107}))
    with pytest.raises(LoadFailed, match="k6 on gen-2 ended with status 107"):
        read_endings(request, "k6", (0, 99))
    (tmp_path / "load-exit@gen-2.json").unlink()
    with pytest.raises(LoadFailed, match="k6 on gen-2 never came to its end"):
        read_endings(request, "k6", (0, 99))


@pytest.mark.parametrize("tool", [WrkTool(), H2loadTool()], ids=lambda tool: str(tool.name))
def test_tools_that_run_alone(tmp_path: Path, tool: WrkTool | H2loadTool) -> None:
    """XP-06: one generator runs them with its own program and files; several are refused."""
    request = make_request(tmp_path, "http://x:1")
    command = tool.build_command(replace(request, places=(place(tmp_path, "gen-1"),)))
    plan = (tmp_path / "load-plan.json").read_text()
    argv = json.loads(plan)["phases"][-1]["argvs"][0]
    assert argv[0] == "/opt/tool"
    assert str(tmp_path) not in plan
    assert {part.ready for part in command.parts} == {"load-ready"}
    both = (place(tmp_path, "gen-1"), place(tmp_path, "gen-2"))
    with pytest.raises(LoadUnfit, match="runs on one generator only, and 2 are named"):
        tool.build_command(replace(request, places=both))


def test_a_log_by_its_own_clock(tmp_path: Path) -> None:
    """XP-06: the same of h2load's log, and of the end by which it judges it."""
    request = replace(make_request(tmp_path, "http://x:1"), places=(place(tmp_path, "gen-1", 1, 600.0),))
    rows = [f"{round((610 + second) * 1e6)}\t200\t{1000 * (second + 1)}" for second in range(5)]
    (tmp_path / "h2load-requests.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "h2load-output.txt").write_text("requests: 5 total, 5 started, 5 done, 5 succeeded\n")
    (tmp_path / "load-exit.json").write_text(json.dumps({"status": 0, "started_at_s": 609.0, "ended_at_s": 620.0}))
    result = H2loadTool().parse_output(request, 11.0, 13.0)
    assert list(result.latencies_ms) == [2.0, 3.0]
    assert math.isclose(clock_of(request, 0), 600.0)
