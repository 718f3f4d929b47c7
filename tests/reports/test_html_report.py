"""The HTML report as text: what it says, what it escapes, how big it gets, what it needs."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from html_cases import ALL, EVIL, failing, make_record
from made_up import slower
from workspaces import give_up

from pytest_staging.campaign.evidence import load_record
from pytest_staging.cli import build_parser, main
from pytest_staging.model.errors import ToolMissing, WorkspaceError
from pytest_staging.reports.html import forest, missing_packages, phases, points, render_html
from pytest_staging.store import Workspace

POLICY = {"policy_api": "http://127.0.0.1:8099", "policy_presets": {"baseline": "conservative", "fast": "aggressive"}}
DATA = Path(__file__).parent / "data"
RECORDED = sorted(DATA.glob("v*"))


class Reader(HTMLParser):
    """The page's elements and its text outside of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._program = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._program = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._program = False

    def handle_data(self, data: str) -> None:
        if not self._program:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(autouse=True)
def extra() -> None:
    """Every test here needs the extra; one of them takes it away again."""
    if missing := missing_packages():
        give_up(f"{' and '.join(missing)} not installed: pip install 'pytest-staging[report]'")


def text_of(record: Any) -> str:
    """What the page says beside its plots, which need not be drawn for that."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (forest, phases, points):
            patch.setattr(module, "draw", lambda *_: "<svg></svg>")
        return Reader(render_html(record)).text


@pytest.mark.parametrize(
    ("change", "word", "sentence"),
    [
        (None, "Pass", "fast may replace baseline"),
        (slower(), "Regression", "fast is worse than baseline by more than is tolerated"),
    ],
)
def test_the_verdict_is_said_in_words(change: Any, word: str, sentence: str) -> None:
    """XP-04: the verdict stands first, as a word and a sentence."""
    record = make_record(change=change)
    text = text_of(record)
    assert record.aggregate["verdict"] == word.lower()
    assert text.index(word) < text.index(sentence) < text.index("Comparison Each mark")


def test_an_inconclusive_campaign_says_so() -> None:
    """XP-04: four runs can show nothing."""
    assert "Inconclusive Not enough is known to say whether fast may replace baseline" in text_of(make_record(4))


def test_a_smoke_campaign_has_no_verdict() -> None:
    """XP-04: nothing in a smoke campaign reads as a verdict on the first screen."""
    text = text_of(make_record(1, smoke=True))
    assert "No verdict A smoke campaign shows that the wiring works" in text


def test_it_says_what_was_compared_where_and_with_what() -> None:
    """XP-04: versions, modes, host with CPU, load tool, cells; all hashes, seed and how to do it again."""
    record = make_record(6)
    text = text_of(record)
    facts = ("fast against baseline", "in jvm and native", "local: lab", "Made Up 3000", "locust 2", "24 of 24 cells")
    for fact in (*facts, "0" * 64, "f" * 64, "a" * 64, "sha256:" + "b" * 64):
        assert fact in text, fact
    assert "pytest --staging-campaign --baseline baseline --candidate fast --runs 6 --staging-seed 1" in text
    assert "interval_s 0.5, timeout_s 2.0" in text


def test_it_names_every_input_that_changes_what_is_measured() -> None:
    """XP-04: hosts, presets and the target's files are shown, and the printed command asks for the same again."""
    files = {"deploy/compose.yaml": "c" * 64}
    record = make_record(6, target="compose:lab", target_files=files, hosts="lab-1,lab-2", **POLICY)
    text = text_of(record)
    for fact in ("deploy/compose.yaml sha256 " + "c" * 64, "hosts asked for lab-1,lab-2", "preset of fast aggressive"):
        assert fact in text, fact
    assert "--staging-target compose:lab" in text
    assert "--staging-hosts lab-1,lab-2" in text
    assert (
        "--staging-policy-api http://127.0.0.1:8099 --staging-policy-preset conservative,fast=aggressive" in text
    )


def test_the_commands_it_gives_are_the_programs_own(pytestconfig: pytest.Config) -> None:
    """XP-04: a renamed option is found where the report prints it."""
    from pytest_staging.reports.html.facts import list_commands

    lines = [command for _, command in list_commands(make_record(6, order="fixed", smoke=True, hosts="a", **POLICY))]
    known = set(vars(pytestconfig.option))
    for word in lines[0].split():
        if word.startswith("--"):
            assert word[2:].replace("-", "_") in known, word
    ours = [line.split()[1:] for line in lines if line.startswith("staging-manager compare")]
    assert ours
    for words in ours:
        build_parser().parse_args(words)


def test_a_failed_and_an_invalid_cell_show_why() -> None:
    """XP-04: the reason and the end of the log stand in the report; a cell that never ran is named."""
    alter = failing(2, "fast", "failed", "the service died", "java.lang.OutOfMemoryError: heap")
    text = text_of(make_record(6, alter=lambda one: None if one.run_index == 6 else alter(one)))
    assert "run002-jvm-fast ✕ failed the service died" in text
    assert "java.lang.OutOfMemoryError: heap" in text
    assert "4 not run" in text
    text = text_of(make_record(6, alter=failing(3, "baseline", "invalid", "the generator was saturated", "")))
    assert "run003-native-baseline ✕ invalid the generator was saturated" in text
    assert "counts neither as slow nor as fast" in text


def test_what_came_from_outside_is_text_and_nothing_else() -> None:
    """XP-04: a script in a reason, a log, a slug's note or a host's name stays text."""
    record = make_record(6, alter=failing(2, "fast", tail=f"\x1b[31m{EVIL}\x00\ud800"))
    cells = [replace(one, host={**one.host, "name": EVIL, "cpu": EVIL}) for one in record.summaries]
    aggregate = {**record.aggregate, "notes": [EVIL]}
    page = render_html(replace(record, summaries=cells, aggregate=aggregate))
    read = Reader(page)
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert "img" not in [tag for tag, _ in read.elements]
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert read.text.count("document.title=") >= 3
    assert "\x1b" not in page
    assert "\x00" not in page


def test_metric_and_mode_names_are_escaped_in_drawings() -> None:
    """XP-04: what stands in an SVG is text too."""
    from pytest_staging.reports.html.forest import build_panels

    record = make_record(6)
    rows = [{**row, "metric": EVIL} for row in record.aggregate["rows"]]
    for panel in build_panels(rows, "fast"):
        assert "<script" not in panel.wide + panel.narrow
        assert "<img" not in panel.wide + panel.narrow


def test_the_same_record_gives_the_same_bytes() -> None:
    """XP-04: nothing of the time or the drawing program's counters is in it."""
    record = make_record(6, change=slower())
    assert render_html(record) == render_html(record)


def test_nothing_refers_to_the_network() -> None:
    """XP-04: no address but the namespace of SVG, and a policy that forbids to load anything."""
    page = render_html(make_record(6))
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= {"http://www.w3.org/2000/svg"}
    policy = dict(Reader(page).elements[3][1])["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy


def test_every_plot_has_a_text_and_a_table() -> None:
    """XP-04: a reader who sees no plot gets the numbers: each plot has a text, each table its heads."""
    read = Reader(render_html(make_record(6, benchmark=ALL)))
    plots = [attributes for tag, attributes in read.elements if "plot" in (attributes.get("class") or "").split()]
    tables = [tag for tag, _ in read.elements if tag == "table"]
    # Two forest plots and the phases are there wide and narrow; then five metrics in two modes, of which one is n/a.
    assert len(plots) == 2 * 3 + 9
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in plots)
    assert all(attributes["tabindex"] == "0" for attributes in plots)
    assert len(tables) >= 1 + 9 + 1
    assert [tag for tag, _ in read.elements].count("thead") == len(tables)


def test_advisory_and_inapplicable_metrics_are_marked() -> None:
    """XP-04: brackets for what is not counted, n/a for what cannot exist."""
    text = text_of(make_record(10, benchmark=ALL))
    assert "✓ (pass)" in text
    assert "gc_pause native – –" in text
    assert "n/a" in text


def test_zeros_and_unbounded_intervals_are_drawn() -> None:
    """XP-04: a zero makes a difference of a ratio; too few runs leave the interval open."""
    def zero(cell: Any, metrics: dict[str, Any]) -> None:
        metrics["fail_rate"] = 0.0
        if cell.platform_mode == "jvm" and cell.run_index == 2:
            metrics["gc_pause"] = 0.0

    text = text_of(make_record(3, change=zero, benchmark=ALL))
    assert "Difference, candidate minus baseline, in share" in text
    assert "Difference, candidate minus baseline, in ms" in text
    assert "unbounded" in text


def test_several_candidates_each_have_their_verdict() -> None:
    """XP-04, XP-07: each candidate has a panel and a verdict of its own."""
    text = text_of(make_record(10, candidates=("fast", "slow"), change=slower("slow")))
    assert "✓ Pass fast" in text
    assert "✕ Regression slow" in text
    assert "slow is worse than baseline" in text


def test_a_campaign_stopped_by_its_rule_says_so() -> None:
    """XP-04: with looks, the report tells after how many runs the conclusion was reached."""
    text = text_of(make_record(30, looks=(10, 15, 20, 30)))
    assert "Stopped by the rule after 10 of up to 30 runs" in text
    assert "--runs auto" in text


def test_a_campaign_without_any_result_renders() -> None:
    """XP-04: interrupted before its first cell."""
    text = text_of(make_record(5, alter=lambda one: None))
    assert "0 of 20 cells" in text
    assert "20 not run" in text


@pytest.mark.parametrize("seed", [2, 5])
def test_odd_values_are_drawn(seed: int) -> None:
    """XP-04: zeros beside millions, holes everywhere, one run or seven: a page, and no number that is none."""
    drawn = random.Random(seed)

    def change(cell: Any, metrics: dict[str, Any]) -> None:
        for name, value in metrics.items():
            metrics[name] = value and drawn.choice([0.0, 1e-9, value, value * 1e6])

    def alter(one: Any) -> Any:
        lost = drawn.random()
        bare = replace(one, outcome="failed", metrics={}, phases={}, host={}, reason=None)
        return None if lost < 0.2 else bare if lost < 0.4 else one

    page = render_html(make_record(drawn.choice([1, 7]), change=change, alter=alter, benchmark=ALL))
    assert "</html>" in page
    assert not re.search(r"\b(NaN|Infinity)\b", page)


def test_size_limits() -> None:
    """XP-04: under 2 MB for 40 cells, under 6 MB for 10,000, also when a tenth of them failed with long logs."""
    def failed(one: Any) -> Any:
        bad = one.run_index % 10 == 3 and one.version_slug == "fast"
        return replace(one, outcome="failed", reason="x" * 500, log_tail="y" * 100_000) if bad else one

    small = make_record(10, alter=failed, benchmark=ALL)
    large = make_record(2500, alter=failed, benchmark=ALL)
    assert (len(small.campaign.cells), len(large.campaign.cells)) == (40, 10_000)
    assert len(render_html(small).encode()) < 2_000_000
    page = render_html(large)
    assert len(page.encode()) < 6_000_000
    text = Reader(page).text
    assert "2500 runs are too many for a point each: they are drawn in groups of 34" in text
    assert page.count("<tr><th scope=row>") == 2500 * 9, "every run is in its table"


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """XP-04: no traceback: the packages and the pip line."""
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ToolMissing, match=r"needs altair, not installed here.*pip install 'pytest-staging\[report\]'"):
        render_html(make_record(3))


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_campaigns_of_every_past_schema_version_render(folder: Path) -> None:
    """XP-04: a real campaign as each past version wrote it. A new schema version adds a folder here."""
    record = load_record(Workspace(folder), "recorded")
    text = Reader(render_html(record)).text
    assert f"schema version {folder.name[1:]}" in text
    assert "eager-buffers against baseline" in text
    assert "12 of 12 cells" in text


def test_there_is_a_recorded_campaign_of_each_schema_version() -> None:
    """XP-04: whoever raises the number has to record a campaign first."""
    from pytest_staging.model.campaign import CAMPAIGN_SCHEMA_VERSION

    assert [path.name for path in RECORDED] == [f"v{number + 1}" for number in range(CAMPAIGN_SCHEMA_VERSION)]


@pytest.mark.parametrize("name", ["campaign.json", "runs/run-001/baseline__jvm/cell-summary.json"])
def test_a_newer_schema_version_is_refused(name: str, tmp_path: Path) -> None:
    """XP-04: what a newer program wrote is not guessed at."""
    shutil.copytree(DATA / "v1", tmp_path / "w")
    path = tmp_path / "w" / "campaigns" / "recorded" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(WorkspaceError, match=r"has schema version 99; this program reads up to 1"):
        load_record(Workspace(tmp_path / "w"), "recorded")
    assert main(["--root", str(tmp_path / "w"), "history"]) == 0
