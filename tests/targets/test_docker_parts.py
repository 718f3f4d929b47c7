"""Control groups and output streams, without an engine."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.model.ports import Usage
from pytest_staging.targets.cgroups import machine_oom_kills, memory_group
from pytest_staging.targets.container_output import HEADER, Frames

ID = "4f" * 32
V1 = "30 25 0:26 / {root}/memory rw - cgroup cgroup rw,memory\n31 25 0:27 / {root}/cpu rw - cgroup cgroup rw,cpu\n"
V2 = "29 25 0:25 {shown} {root}/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A made-up /proc."""
    for name in ("self", "77"):
        (tmp_path / "proc" / name).mkdir(parents=True)
    return tmp_path / "proc"


def group(proc: Path, mounts: str, groups: str, folder: str, **files: str) -> Path:
    """Mounts, the groups of process 77, and the files of the folder of one of them."""
    (proc / "self" / "mountinfo").write_text(mounts)
    (proc / "77" / "cgroup").write_text(groups)
    made = proc.parent / folder
    made.mkdir(parents=True)
    for name, content in files.items():
        (made / name.replace("_", ".", 1)).write_text(content)
    return made


def test_version_1(proc: Path) -> None:
    mounts = V1.format(root=proc.parent) + V2.format(root=proc.parent, shown="/")
    groups = f"5:cpu:/docker/{ID}\n4:memory:/docker/{ID}\n0::/docker/{ID}\n"
    files = {
        "memory_max_usage_in_bytes": "4096\n",
        "memory_oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    }
    made = group(proc, mounts, groups, f"memory/docker/{ID}", **files)
    found = memory_group(77, ID, proc)
    assert found is not None
    assert (found.folder, found.peak_bytes(), found.oom_kills()) == (made, 4096, 2)


@pytest.mark.parametrize(("shown", "inside"), [("/", "system.slice/"), ("/system.slice", "")])
def test_version_2(proc: Path, shown: str, inside: str) -> None:
    """Also where only a part of the hierarchy is mounted."""
    mounts = V2.format(root=proc.parent, shown=shown)
    events = "low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 0\n"
    files = {"memory_peak": "8192\n", "memory_events": events}
    group(proc, mounts, f"0::/system.slice/docker-{ID}.scope\n", f"unified/{inside}docker-{ID}.scope", **files)
    found = memory_group(77, ID, proc)
    assert found is not None
    assert (found.peak_bytes(), found.oom_kills()) == (8192, 1)


STATUS = "Name:\tx\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n"


def threads(proc: Path) -> None:
    """Two that live; 0 is one of another process namespace."""
    for thread, text in (("77", STATUS % (5, 1)), ("78", STATUS % (7, 2))):
        (proc / thread).mkdir(exist_ok=True)
        (proc / thread / "status").write_text(text)


def test_usage_in_version_1(proc: Path) -> None:
    """SM-08: CPU time is counted in another hierarchy than memory."""
    root = proc.parent
    mounts = V1.format(root=root) + V1.format(root=root).replace("memory", "cpuacct") + V2.format(root=root, shown="/")
    groups = f"4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n0::/docker/{ID}\n"
    files = {"memory_oom_control": "oom_kill 0\n", "memory_usage_in_bytes": "4096\n", "tasks": "77\n78\n0\n"}
    group(proc, mounts, groups, f"memory/docker/{ID}", **files)
    group(proc, mounts, groups, f"cpuacct/docker/{ID}", cpuacct_usage="1500000000\n")
    threads(proc)
    found = memory_group(77, ID, proc)
    assert found is not None
    assert found.usage() == Usage(cpu_s=1.5, resident_bytes=4096, switches={77: (5, 1), 78: (7, 2)})


def test_usage_in_version_2(proc: Path) -> None:
    """SM-08: also when the threads cannot be seen from here."""
    files = {"memory_events": "oom_kill 0\n", "memory_current": "8192\n", "cgroup_threads": "0\n0\n",
             "cpu_stat": "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n"}  # fmt: skip
    group(proc, V2.format(root=proc.parent, shown="/"), f"0::/docker/{ID}\n", f"unified/docker/{ID}", **files)
    found = memory_group(77, ID, proc)
    assert found is not None
    assert found.usage() == Usage(cpu_s=2.5, resident_bytes=8192)
    (found.folder / "cpu.stat").write_text("nonsense\n")
    assert found.usage() is None


def test_version_2_of_an_old_kernel(proc: Path) -> None:
    """No memory.peak before 5.19: then nobody knows, which is not 0."""
    mounts = V2.format(root=proc.parent, shown="/")
    group(proc, mounts, f"0::/docker/{ID}\n", f"unified/docker/{ID}", memory_events="oom_kill 0\n")
    found = memory_group(77, ID, proc)
    assert found is not None
    assert (found.peak_bytes(), found.oom_kills()) == (None, 0)


def test_somebody_elses_process(proc: Path) -> None:
    """A pid of another process namespace means another process here, whose memory is not the service's."""
    mounts = V2.format(root=proc.parent, shown="/")
    group(proc, mounts, "0::/user.slice\n", "unified/user.slice", memory_peak="1\n", memory_events="oom_kill 0\n")
    assert memory_group(77, ID, proc) is None


def test_nothing_to_be_seen(proc: Path) -> None:
    assert memory_group(78, ID, proc) is None, "the process has ended"
    group(proc, "", f"0::/docker/{ID}\n", "nowhere")
    assert memory_group(77, ID, proc) is None, "nothing is mounted"
    assert memory_group(os.getpid(), ID) is None


def test_the_machines_count(proc: Path) -> None:
    """Since Linux 4.13."""
    assert machine_oom_kills(proc) is None
    (proc / "vmstat").write_text("oom_killer 9\nnr_free_pages 7\n")
    assert machine_oom_kills(proc) is None
    (proc / "vmstat").write_text("nr_free_pages 7\noom_kill 5\n")
    assert machine_oom_kills(proc) == 5
    assert (machine_oom_kills() or 0) >= 0


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20))), st.lists(st.integers(0, 200)))
def test_a_stream_in_pieces(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """However the connection cuts the stream, in a header or in a line, what comes out is what was printed."""
    stream = b"".join(HEADER.pack(number, len(data)) + data for number, data in frames)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = Frames()
    pieces = [reader.feed(stream[start:end]) for start, end in pairwise(edges)]
    assert b"".join(pieces) == b"".join(data for _, data in frames)
