"""build-images, `images list` and `images prune`, as a person uses them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from workspaces import make_version, make_workspace

from pytest_staging.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))

from image_workspaces import ImageWorkspace, find_engine, image_workspace

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageWorkspace]:
    with image_workspace(tmp_path / "workspace", find_engine(), monkeypatch) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "workspace")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's exit code, and what it prints on both streams."""

    def run(root: Path, *arguments: str) -> tuple[int, str, str]:
        code = main(["--root", str(root), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def table(text: str) -> list[dict[str, str]]:
    """Rows by column."""
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_table(place: ImageWorkspace, run: Run) -> None:
    """SM-05: hit or miss, reason, seconds, size and id of each version and mode; --json has them in full."""
    place.write(modes=("jvm", "native"))
    place.write(slug="faster", status="candidate")
    code, out, error = run(place.root, "build-images", "--target", "docker")
    assert (code, error) == (0, "")
    rows = table(out)
    assert [(row["version"], row["mode"], row["cache"], row["reason"]) for row in rows] == [
        ("baseline", "jvm", "miss", "never built"),
        ("baseline", "native", "miss", "never built"),
        ("faster", "native", "miss", "never built"),
    ]
    code, out, _ = run(place.root, "build-images", "--target", "docker", "--json", "--force-rebuild-mode", "jvm")
    full = json.loads(out)
    assert [(row["cache"], row["reason"]) for row in full] == [
        ("miss", "forced"),
        ("hit", "fingerprints match"),
        ("hit", "fingerprints match"),
    ]
    for row, in_full in zip(rows, full, strict=True):
        known = place.engine.inspect("image", in_full["name"])
        assert (in_full["id"], in_full["size"]) == (known["Id"], known["Size"])
        assert row["size"] == f"{known['Size']} B"
        assert re.fullmatch(r"\d+\.\d", row["seconds"])
        assert (f"sha256:{row['id']}" == known["Id"][:19]) is (in_full["cache"] == "hit")
    assert full[0]["seconds"] > 0
    assert full[1]["seconds"] == 0


@pytest.mark.parametrize("forced", [False, True], ids=["missing", "forced"])
def test_the_printed_commands_run(place: ImageWorkspace, run: Run, forced: bool) -> None:
    """SM-05: a dry run builds nothing; its line, run by a shell in another folder, makes the image it names."""
    place.write(image={"arguments": {"COLOUR": "it's red & blue"}})
    place.write_dockerfile("FROM scratch\nARG COLOUR\nCOPY data /data\nLABEL colour=$COLOUR\n")
    options = ["--force-rebuild-images"] if forced else []
    code, out, _ = run(place.root, "build-images", "--target", "docker", "--dry-run", *options)
    assert (code, place.known_images(), place.entries()) == (0, set(), [])
    note, line = out.splitlines()
    assert note == f"# baseline native: miss ({'forced' if forced else 'never built'}), would run"
    assert ("--no-cache" in line) is forced
    done = subprocess.run(["sh", "-c", line], cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (name,) = re.findall(r"--tag (\S+)", line)
    labels = place.engine.inspect("image", name)["Config"]["Labels"]
    assert (labels["colour"], labels["pytest-staging.version"]) == ("it's red & blue", "baseline")
    assert json.loads(run(place.root, "build-images", "--target", "docker", "--json")[1])[0]["name"] == name


def test_nothing_that_could_run_there(root: Path, run: Run) -> None:
    """SM-05: an empty table would look like success."""
    code, out, error = run(root, "build-images", "--target", "docker")
    assert (code, out) == (2, "")
    assert error == "staging-manager: nothing to build: no mode of these versions can run on the target docker.\n"
    code, _, error = run(root, "build-images", "--target", "docker", "--mode", "jvm")
    assert code == 2
    assert "modes.jvm has no image; say how it is built" in error


@pytest.mark.parametrize("option", ["--mode", "--force-rebuild-mode"])
def test_unknown_modes(root: Path, run: Run, option: str) -> None:
    """SM-05: exit code 2, and the known ones are named; nothing is built."""
    code, out, error = run(root, "build-images", option, "nativ")
    assert (code, out) == (2, "")
    assert error == "staging-manager: mode 'nativ' is not known to these versions. Known: jvm, native.\n"
    assert list(root.glob("versions/*/images")) == []


def test_unknown_target(root: Path, run: Run) -> None:
    """SM-05: exit code 2, with a suggestion."""
    code, _, error = run(root, "build-images", "--target", "dokcer")
    assert code == 2
    assert error.startswith("staging-manager: --target: 'dokcer' is not known. Did you mean 'docker'?")


def test_targets_on_hosts(root: Path, place: ImageWorkspace, run: Run) -> None:
    """SM-05: images for ssh-docker are built here, and no host is asked; files for ssh are built there."""
    code, out, error = run(root, "build-images", "--target", "ssh")
    assert (code, out) == (2, "")
    assert error == (
        "staging-manager: --target ssh: each host builds its own files, in the campaign that measures there.\n"
    )
    place.write()
    built = [run(place.root, "build-images", "--target", target, "--json")[1] for target in ("ssh-docker", "docker")]
    rows = [json.loads(out)[0] for out in built]
    assert [row["cache"] for row in rows] == ["miss", "hit"]
    assert rows[0]["id"] == rows[1]["id"]


def test_one_that_fails_hides_nothing(root: Path, run: Run) -> None:
    """SM-05: the others are built and in the table, also without --jobs; exit code 1."""
    make_version(root, "faster", "candidate", build=[["false"]])
    make_version(root, "later", "candidate")
    said = [f"staging-manager: build of faster in mode {mode}: false ended with status 1" for mode in ("jvm", "native")]
    expected = [(slug, mode) for slug in ("baseline", "later") for mode in ("jvm", "native")]
    code, out, error = run(root, "build-images", "--no-live")
    assert code == 1
    assert [(row["version"], row["mode"]) for row in table(out)] == expected
    assert [line.split(";")[0] for line in error.splitlines() if line.startswith("staging-manager")] == said
    code, out, error = run(root, "build-images", "--no-live", "--json")
    assert (code, error.count("staging-manager: ")) == (1, 2)
    assert [(row["version"], row["mode"]) for row in json.loads(out)] == expected
    code, out, _ = run(root, "build-images", "--slug", "faster", "--json")
    assert (code, json.loads(out)) == (1, [])


def test_a_forced_mode_that_is_left_out(root: Path, run: Run) -> None:
    """SM-05: nobody is to believe that it was rebuilt."""
    code, out, error = run(root, "build-images", "--mode", "native", "--force-rebuild-mode", "jvm")
    assert (code, out) == (2, "")
    assert error == ("staging-manager: --force-rebuild-mode jvm: --mode leaves it out. Name it with --mode as well.\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[int], None]:
    """Makes what is printed be printed on a terminal of that many columns."""

    def set_width(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return set_width


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_the_terminal(root: Path, run: Run, terminal: Callable[[int], None], columns: int) -> None:
    """SM-05: a long reason takes more lines; what is too wide even so is told row by row, with the name whole."""
    make_version(root, "eager-buffers", "archived-baseline", build=[["cp", "-p", "service.py", "{artifact}/"]])
    only = ["--slug", "eager-buffers", "--mode", "native"]
    run(root, "build-images", *only)
    make_version(root, "eager-buffers", "archived-baseline", build=[["install", "service.py", "{artifact}/"]])
    (root / "versions/eager-buffers/snapshot/more").write_text("")
    terminal(columns)
    _, built, _ = run(root, "build-images", *only, "--no-live")
    _, listed, _ = run(root, "images", "list")
    for shown in (built, listed):
        assert max(map(len, shown.splitlines())) <= columns
    words = " ".join(built.split())
    newest, older = (one["image_ref"] for one in manifest(root, "eager-buffers"))
    assert (newest in listed.split() and older in listed.split()) is (columns > len(newest) + 2)
    if columns == 80:
        assert built.splitlines()[0].split() == ["version", "mode", "cache", "reason", "seconds", "size", "id"]
        assert len(built.splitlines()) > 3
        assert len(listed.splitlines()) == 4
    if columns == 200:
        assert "changed: snapshot, build commands, cp, install" in words
        assert len(built.splitlines()) == 3


def test_no_engine(place: ImageWorkspace, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-05: one clear error that says how to start it, exit code 2; a dry run says so too."""
    place.write()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    for options in ([], ["--dry-run"]):
        code, out, error = run(place.root, "build-images", "--target", "docker", *options)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert error.startswith(f"staging-manager: no Docker engine answers at unix://{tmp_path}/none.sock: ")
        assert error.endswith("Start it (sudo systemctl start docker), or name another with DOCKER_HOST.\n")


def test_the_log_of_a_build_is_kept(root: Path, run: Run) -> None:
    """SM-05: also by a later run that finds the image."""
    make_version(root, "faster", "candidate", build=[["sh", "-c", "echo how it went; cp service.py {artifact}/"]])
    only = ["build-images", "--slug", "faster", "--mode", "native"]
    log = root / "versions" / "faster" / "images" / "native.log"
    for options in ([], []):
        assert run(root, *only, *options)[0] == 0
        assert log.read_text() == "how it went\n"
    assert run(root, *only, "--force-rebuild-images", "--live")[0] == 0
    assert log.read_text() == "how it went\n"


def test_list(root: Path, run: Run) -> None:
    """SM-05: what the manifests hold; a newer program's is refused."""
    assert table(run(root, "images", "list")[1]) == []
    run(root, "build-images", "--mode", "native")
    rows = table(run(root, "images", "list")[1])
    assert [(row["version"], row["status"], row["mode"], row["builder"]) for row in rows] == [
        ("baseline", "baseline", "native", "artifact"),
        ("faster", "candidate", "native", "artifact"),
    ]
    size = (root / "versions/faster/snapshot/service.py").stat().st_size
    assert rows[1]["size"] == f"{size / 1000:.3g} kB"
    assert rows[1]["name"] == manifest(root, "faster")[0]["image_ref"]
    assert [row["version"] for row in table(run(root, "images", "list", "--slug", "faster")[1])] == ["faster"]
    code, out, error = run(root, "images", "list", "--slug", "fastr")
    assert (code, out) == (2, "")
    assert "there is no version 'fastr'" in error
    write_manifest(root, "faster", {"schema_version": 2})
    code, _, error = run(root, "images", "list")
    assert code == 2
    assert "schema version 2" in error


def manifest(root: Path, slug: str) -> list[dict[str, Any]]:
    return list(json.loads((root / "versions" / slug / "images" / "manifest.json").read_text())["images"])


def write_manifest(root: Path, slug: str, data: dict[str, Any]) -> None:
    (root / "versions" / slug / "images" / "manifest.json").write_text(json.dumps(data))


def test_prune(root: Path, run: Run) -> None:
    """SM-05: images of archived and rejected versions only, after saying which; --dry-run removes nothing."""
    make_version(root, "old", "archived-baseline")
    make_version(root, "slow", "rejected")
    every = ["baseline", "faster", "old", "slow"]
    slugs = [word for slug in every for word in ("--slug", slug)]
    run(root, "build-images", "--mode", "native", *slugs)
    names = {slug: manifest(root, slug)[0]["image_ref"] for slug in every}
    before = {slug: (root / "versions" / name).exists() for slug, name in names.items()}
    assert before == dict.fromkeys(every, True)
    code, out, _ = run(root, "images", "prune", "--dry-run")
    size = f"{(root / 'versions/old/snapshot/service.py').stat().st_size / 1000:.3g} kB"
    said = [f"{names[slug]} ({slug}, native, {size})" for slug in ("old", "slow")]
    assert (code, out.splitlines()) == (0, [f"would remove {one}" for one in said])
    assert {slug: (root / "versions" / name).exists() for slug, name in names.items()} == before
    code, out, _ = run(root, "images", "prune", "--slug", "old")
    assert (code, out) == (0, f"removing {said[0]}\n")
    code, out, _ = run(root, "images", "prune")
    assert (code, out) == (0, f"removing {said[1]}\n")
    left = {slug: (root / "versions" / name).exists() for slug, name in names.items()}
    assert left == {"baseline": True, "faster": True, "old": False, "slow": False}
    assert [manifest(root, slug) for slug in ("old", "slow")] == [[], []]
    assert [path.name for path in (root / "versions/old/images").iterdir() if "native-" in path.name] == []
    assert run(root, "images", "prune")[1].startswith("nothing to remove: ")


def test_prune_leaves_living_versions_alone(root: Path, run: Run) -> None:
    """SM-05: naming one is refused with exit code 2, and so is one that does not exist."""
    run(root, "build-images", "--slug", "faster")
    code, out, error = run(root, "images", "prune", "--slug", "faster")
    assert (code, out) == (2, "")
    assert error == "staging-manager: faster is neither archived nor rejected; its images are still needed.\n"
    assert run(root, "images", "prune", "--slug", "fastr")[0] == 2
    assert len(manifest(root, "faster")) == 2


def test_what_a_living_version_needs_stays(root: Path, run: Run) -> None:
    """SM-05: a manifest that was copied with its version names the other's files."""
    run(root, "build-images", "--mode", "native", "--slug", "faster")
    make_version(root, "slow", "rejected")
    (root / "versions/slow/images").mkdir()
    write_manifest(root, "slow", {"schema_version": 1, "images": manifest(root, "faster")})
    code, out, _ = run(root, "images", "prune")
    name = manifest(root, "faster")[0]["image_ref"]
    assert (code, out.splitlines()[0]) == (0, f"keeping {name} (slow, native): faster needs it")
    assert (root / "versions" / name / "service.py").exists()


@pytest.mark.parametrize("ref", ["../../treasure", "slow/images/../../../treasure", "/etc/treasure"])
def test_prune_stays_inside(root: Path, run: Run, ref: str) -> None:
    """SM-05: whatever a manifest names, exit code 2 and nothing outside of images/ is removed."""
    make_version(root, "slow", "rejected")
    run(root, "build-images", "--mode", "native", "--slug", "slow")
    (root / "treasure").write_text("gold")
    (one,) = manifest(root, "slow")
    write_manifest(root, "slow", {"schema_version": 1, "images": [{**one, "image_ref": ref}]})
    code, _, error = run(root, "images", "prune")
    assert code == 2
    assert f"{ref!r} in a manifest below" in error
    assert (root / "treasure").read_text() == "gold"


def test_prune_removes_no_other_versions_files(root: Path, run: Run) -> None:
    """SM-05: not even where nobody knows any more that the other one needs them."""
    run(root, "build-images", "--mode", "native", "--slug", "baseline")
    (one,) = manifest(root, "baseline")
    make_version(root, "slow", "rejected")
    (root / "versions/slow/images").mkdir()
    write_manifest(root, "slow", {"schema_version": 1, "images": [one]})
    write_manifest(root, "baseline", {"schema_version": 1, "images": []})
    code, _, error = run(root, "images", "prune")
    assert (code, error) == (
        2,
        f"staging-manager: {one['image_ref']} was not built for slow, so it is not removed. "
        "Correct the manifest of slow.\n",
    )
    assert (root / "versions" / one["image_ref"] / "service.py").exists()


def test_prune_with_an_unreadable_manifest(root: Path, run: Run) -> None:
    """SM-05: file and reason, and exit code 1: what it names stays; the other versions' images go. So with list."""
    make_version(root, "old", "archived-baseline")
    make_version(root, "slow", "rejected")
    run(root, "build-images", "--mode", "native", "--slug", "old", "--slug", "slow")
    path = root / "versions/slow/images/manifest.json"
    (kept,) = manifest(root, "slow")
    path.write_text(path.read_text()[:-20])
    code, out, error = run(root, "images", "list")
    assert (code, [row["version"] for row in table(out)]) == (1, ["old"])
    assert error.startswith(f"staging-manager: {path} cannot be read: JSONDecodeError: ")
    code, out, error = run(root, "images", "prune")
    assert (code, out.count("removing "), manifest(root, "old")) == (1, 1, [])
    assert error.startswith(f"staging-manager: {path} cannot be read: JSONDecodeError: ")
    assert error.endswith(" Restore it; or remove it, and by hand what slow was built into.\n")
    assert run(root, "images", "prune")[:2] == (1, "")
    assert (root / "versions" / kept["image_ref"] / "service.py").exists()


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["prune", "dry run"])
def test_prune_when_nobody_knows_what_is_needed(root: Path, run: Run, options: list[str]) -> None:
    """SM-05: a living version's manifest that cannot be read stops it, with exit code 2."""
    make_version(root, "slow", "rejected")
    run(root, "build-images", "--mode", "native", "--slug", "slow", "--slug", "baseline")
    path = root / "versions/baseline/images/manifest.json"
    path.write_text("{")
    code, out, error = run(root, "images", "prune", *options)
    assert (code, out) == (2, "")
    assert error.startswith(f"staging-manager: {path} cannot be read: JSONDecodeError: ")
    assert "It names what baseline needs, so nothing is removed. Restore it, or remove it: " in error
    assert len(manifest(root, "slow")) == 1


def test_prune_of_container_images(place: ImageWorkspace, run: Run) -> None:
    """SM-05: the engine's images of rejected versions go; one whose id a living version shares stays.

    One that a container needs stays with its entry, and goes when the container has.
    """
    place.write()
    for slug in ("slow", "used", "shared"):
        place.write(slug=slug, status="rejected")
    slugs = [word for slug in ("baseline", "slow", "used", "shared") for word in ("--slug", slug)]
    code, out, error = run(place.root, "build-images", "--target", "docker", "--json", *slugs)
    assert code == 0, error
    ids = {row["version"]: row["id"] for row in json.loads(out)}
    (living,) = manifest(place.root, "baseline")
    (shared,) = manifest(place.root, "shared")
    place.engine("tag", living["image_id"], f"pytest-staging:also-{place.token}")
    also = living | {"image_ref": f"pytest-staging:also-{place.token}"}
    named = shared | {"image_ref": living["image_ref"]}
    write_manifest(place.root, "shared", {"schema_version": 1, "images": [named, also]})
    container = place.engine("create", ids["used"], "nothing")
    code, out, error = run(place.root, "images", "prune")
    assert code == 1
    assert f"(remove image {manifest(place.root, 'used')[0]['image_ref']})" in error
    place.engine("rm", container)
    code, out, error = run(place.root, "images", "prune")
    assert (code, error) == (0, "")
    assert set(ids.values()) & place.known_images() == {ids["baseline"], ids["shared"]}
    assert [len(manifest(place.root, slug)) for slug in ("baseline", "slow", "used", "shared")] == [1, 0, 0, 2]
    assert json.loads(run(place.root, "build-images", "--target", "docker", "--json")[1])[0]["cache"] == "hit"


def test_removed_by_somebody_else(place: ImageWorkspace, run: Run) -> None:
    """SM-05: an image that is gone already is no error."""
    place.write(slug="slow", status="rejected")
    run(place.root, "build-images", "--target", "docker", "--slug", "slow")
    place.engine("image", "rm", manifest(place.root, "slow")[0]["image_ref"])
    assert run(place.root, "images", "prune")[0] == 0
    assert manifest(place.root, "slow") == []
