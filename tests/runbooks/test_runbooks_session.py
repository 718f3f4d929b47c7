"""The gate inside pytest, over a project that is not ours: items, skips, executed blocks, updates, bad documents."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import markdown_it
import pytest
from workspaces import wait_for

from pytest_staging.cli import build_parser
from pytest_staging.session import contracts

# pytester throws away what a run in this process imports; what is imported here already is not imported again by each.
QUIET = ("-p", "no:cacheprovider", "-p", "no:locust", "-p", "no:hypothesispytest", "-p", "no:anyio")
IMPORTED = (build_parser(), markdown_it.MarkdownIt, contracts)

INI = """
[pytest]
pythonpath = src
staging_contracts_programs =
    shop=shop:build_parser
staging_contracts_generators =
    prices=shop:price_table
staging_contracts_sources = src
staging_contracts_variables = SHOP_EXTRA
staging_contracts_prefixes = SHOP_
staging_contracts_compose = stack.yaml
staging_contracts_made = out/*
"""
SHOP = '''
import argparse, os
FLOOR = os.environ.get("SHOP_FLOOR")

def build_parser():
    parser = argparse.ArgumentParser(prog="shop")
    commands = parser.add_subparsers(required=True)
    selling = commands.add_parser("sell", help="sell something")
    selling.add_argument("thing", metavar="THING", choices=["bread", "milk"], help="what to sell")
    selling.add_argument("--count", type=int, default=1, help="how many (default: %(default)s)")
    commands.add_parser("close", help="close the shop")
    return parser

def price_table(project, currency):
    if currency != "euro":
        raise ValueError(f"no prices in {currency}")
    return "| thing | price |\\n| --- | --- |\\n| `bread` | 2 |"
'''
COMPOSE = """
services:
  till:
    image: "${TILL_IMAGE:-till:1}"
    profiles: [front]
    environment: {TILL_DRAWER: "1"}
"""
GUIDE = """\
# Guide

<!-- staging: sequence sell close -->

```bash
SHOP_FLOOR=2 shop sell bread --count 2 | tee log
docker compose -f stack.yaml --profile front up -d till
```

- Then `shop sell milk`, `TILL_DRAWER`, `SHOP_EXTRA` and `src/shop.py`; see [prices](#the-prices).

  ~~~console
  $ shop \\
  >   close
  closed 'for today
  ~~~

## The prices!

<!-- staging: generated prices euro -->

| thing | price |
| --- | --- |
| `bread` | 2 |

<!-- staging: end -->
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """A foreign project with one document."""
    (pytester.path / "src").mkdir()
    (pytester.path / "docs").mkdir()
    (pytester.path / "pytest.ini").write_text(INI)
    (pytester.path / "src" / "shop.py").write_text(SHOP)
    (pytester.path / "stack.yaml").write_text(COMPOSE)
    (pytester.path / "docs" / "guide.md").write_text(GUIDE)
    (pytester.path / "test_own.py").write_text("def test_own(): pass\n")
    return pytester


def write(shop: pytest.Pytester, text: str | bytes, name: str = "docs/guide.md") -> Path:
    """A document of the project."""
    path = shop.path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def gate(shop: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The gate, in this process."""
    return shop.runpytest_inprocess("--staging-contracts", *QUIET, *arguments)


def said(result: pytest.RunResult) -> str:
    """What a run printed."""
    return str(result.stdout)


def test_a_foreign_project_passes_its_own_gate(shop: pytest.Pytester) -> None:
    """RB-02: programs, generators, compose files and variables of any project; its other tests are left alone."""
    result = gate(shop, "-v")
    assert result.ret == 0, said(result)
    for name in ("L6 command: shop sell bread --count 2", "L7 command: docker compose -f stack.yaml", "L3 sequence:",
                 "L13 command: shop close", "L10 name:", "L10 link: #the-prices", "L20 generated: prices euro"):
        assert f"docs/guide.md::{name}" in said(result)
    assert "test_own" not in said(result)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--count 2 |", "--cont 2 |", "docs/guide.md:6: shop sell has no option --cont. Did you mean '--count'?"),
        ("--count 2 |", "--count two |", "docs/guide.md:6: argument --count: invalid int value: 'two'"),
        ("sell bread", "sell bred", "docs/guide.md:6: shop sell: THING cannot be 'bred'. Did you mean 'bread'?"),
        ("SHOP_FLOOR=2", "SHOP_FLOR=2",
         "docs/guide.md:6: nothing reads the environment variable SHOP_FLOR. Did you mean 'SHOP_FLOOR'?"),
        ("-d till", "-d tell", "docs/guide.md:7: the service 'tell' is not in stack.yaml. Did you mean 'till'?"),
        ("--profile front", "--profile frint", "docs/guide.md:7: the Compose profile 'frint' is not in stack.yaml."),
        ("-f stack.yaml", "-f stac.yaml", "docs/guide.md:7: stac.yaml does not exist. Did you mean 'stack.yaml'?"),
        ("`TILL_DRAWER`", "`TILL_DRAWR`", "docs/guide.md:10: nothing reads the environment variable TILL_DRAWR."),
        ("`src/shop.py`", "`src/shopp.py`", "docs/guide.md:10: src/shopp.py does not exist. Did you mean 'shop.py'?"),
        ("`src/shop.py`", "`scr/shop.py`", "docs/guide.md:10: scr/shop.py does not exist. Did you mean 'src/shop.py'?"),
        ("(#the-prices)", "(#the-price)",
         "docs/guide.md:10: the link leads to #the-price, and this document has no such heading. Did you "
         "mean 'the-prices'?"),
        (">   close", ">   clos", "docs/guide.md:14: shop has no command 'clos'. Did you mean 'close'?"),
        ("sequence sell close", "sequence close sell",
         "docs/guide.md:6: the step 'sell' stands before 'close' (line 13); the order is close, sell"),
        ("sequence sell close", "sequence sell clean", "docs/guide.md:3: the step 'clean' is missing in this section."),
        ("`bread` | 2", "`bread` | 3",
         "docs/guide.md:24: the generated block 'prices euro' is stale: it says '| `bread` | 3 |', and "
         "is now '| `bread` | 2 |'"),
        ("prices euro", "prices yen", "docs/guide.md:20: no prices in yen"),
        ("prices euro", "price euro", "docs/guide.md:20: nothing generates 'price'. Did you mean 'prices'?"),
        ("prices euro", "prices", "docs/guide.md:20: 'prices': missing a required argument"),
        ("<!-- staging: end -->", "", "docs/guide.md:20: the generated block 'prices euro' has no end"),
        ("~~~\n\n##", "\n\n##", "docs/guide.md:12: the code block that begins here has no end"),
        ("up -d till", "up 'till", "docs/guide.md:7: ' is not closed"),
    ],
)  # fmt: skip
def test_each_fault_is_found_where_it_stands(shop: pytest.Pytester, old: str, new: str, message: str) -> None:
    """RB-02: file, line, what is wrong, the nearest valid name."""
    assert old in GUIDE
    write(shop, GUIDE.replace(old, new, 1))
    result = gate(shop)
    assert result.ret == 1
    assert message in said(result)


def test_selection_and_quiet_runs_work_as_always(shop: pytest.Pytester) -> None:
    """RB-02: -k, -q, --collect-only, paths and node ids."""
    assert gate(shop, "-k", "command and sell").parseoutcomes()["passed"] == 1
    listed = gate(shop, "--collect-only", "-q").outlines
    assert "docs/guide.md::L13 command: shop close" in listed
    assert gate(shop, "-q", "docs/guide.md::L13 command: shop close").parseoutcomes()["passed"] == 1
    write(shop, "`src/none.py`\n", "docs/other.md")
    assert gate(shop, "docs/guide.md").ret == 0
    assert gate(shop, "docs").ret == 1


def test_workers_find_the_same(shop: pytest.Pytester) -> None:
    """RB-02: with -n 2 the same items pass and fail."""
    write(shop, GUIDE.replace("--count", "--cont"))
    serial, parallel = gate(shop), shop.runpytest_subprocess("--staging-contracts", "-n", "2", *QUIET)
    counted = [{name: one.parseoutcomes()[name] for name in ("passed", "failed")} for one in (serial, parallel)]
    assert counted[0] == counted[1]
    assert "docs/guide.md:6: shop sell has no option --cont." in said(parallel)


def test_junit_names_the_document_and_the_line(shop: pytest.Pytester) -> None:
    """RB-02: --junitxml has one test case per check, with the message."""
    write(shop, GUIDE.replace("--count", "--cont"))
    gate(shop, "--junitxml=junit.xml")
    cases = ET.parse(shop.path / "junit.xml").getroot().findall(".//testcase")
    failed = [case for case in cases if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["L6 command: shop sell bread --cont 2"]
    assert "docs/guide.md:6:" in str(failed[0].find("failure").get("message"))  # type: ignore[union-attr]


def test_a_skipped_block_is_a_skipped_item_with_its_reason(shop: pytest.Pytester) -> None:
    """RB-02: what the block says is not checked, and its reason is shown."""
    marked = GUIDE.replace("```bash", "<!-- staging: skip the till is not installed -->\n\n```bash")
    write(shop, marked.replace("shop sell bread", "shop burn"))
    result = gate(shop, "-rs", "-k", "L7")
    result.assert_outcomes(skipped=1)
    assert re.search(r"SKIPPED .*guide\.md:7: the till is not installed", said(result))


@pytest.mark.parametrize("comment", ["staging: skip", "staging: skp why", "staging: run timeout=x", "staging: end"])
def test_a_bad_comment_is_an_error_with_its_line(shop: pytest.Pytester, comment: str) -> None:
    """RB-02: unknown directives, a skip without a reason, an end of nothing."""
    write(shop, f"# T\n\n<!-- {comment} -->\n```text\nx\n```\n")
    result = gate(shop)
    assert result.ret == 1
    assert "docs/guide.md:3: " in said(result)


def test_names_and_exceptions_are_declared_in_the_document(shop: pytest.Pytester) -> None:
    """RB-02: `names` asks for what prose says, `known` excuses a name, and is itself found when it is left over."""
    text = "<!-- staging: known path src/x.py from another project -->\n\n`src/x.py`\n\n"
    text += "<!-- staging: names service -->\n\n"
    table = "| service | note |\n| --- | --- |\n| `till` | `not one` |\n"
    write(shop, text + table + "\n<!-- staging: names metric p95 -->\n")
    assert gate(shop).ret == 0
    wrong = "\nUse <!-- staging: names metric hep_peak --> it.\n"
    write(shop, text.replace("`src/x.py`", "gone") + table.replace("till", "tll") + wrong)
    result = gate(shop)
    assert "docs/guide.md:1: 'staging: known path src/x.py' is left over" in said(result)
    assert "docs/guide.md:9: the service 'tll' is not in stack.yaml. Did you mean 'till'?" in said(result)
    assert "docs/guide.md:11: the metric 'hep_peak' is not in benchmark/benchmark.yaml. Did you mean" in said(result)
    write(shop, "<!-- staging: names servces till -->\n")
    assert "docs/guide.md:1: 'servces' is no kind of name. Did you mean 'service'?" in said(gate(shop))


def test_documents_that_cannot_be_read_fail_with_a_line(shop: pytest.Pytester) -> None:
    """RB-02: bytes that are no UTF-8, and a document that is too large; a mark in front is fine."""
    write(shop, b"# T\n\nGr\xfc\xdfe\n")
    assert "docs/guide.md:3: is not UTF-8: byte 0xfc" in said(gate(shop))
    write(shop, b"x" * 1_100_000)
    assert "docs/guide.md:1: has 1100000 bytes" in said(gate(shop))
    write(shop, b"\xef\xbb\xbf" + GUIDE.encode())
    assert gate(shop).ret == 0


def test_a_large_document_is_read(shop: pytest.Pytester) -> None:
    """RB-02: hundreds of commands in one block, and every line of them is right."""
    lines = "\n".join(["shop sell bread"] * 500)
    write(shop, f"```bash\n{lines}\nshop sell bred\n```\n")
    result = gate(shop)
    result.assert_outcomes(passed=500, failed=1)
    assert "docs/guide.md:502: " in said(result)


def test_windows_line_ends_change_nothing(shop: pytest.Pytester) -> None:
    """RB-02: the same lines, and an update keeps them."""
    path = write(shop, GUIDE.replace("`bread` | 2", "`bread` | 3").replace("\n", "\r\n"))
    assert "docs/guide.md:24: the generated block" in said(gate(shop))
    assert gate(shop, "--staging-contracts-update").ret == 0
    assert path.read_bytes() == GUIDE.replace("\n", "\r\n").encode()


def test_an_update_rewrites_what_is_stale_and_says_so(shop: pytest.Pytester) -> None:
    """RB-02: only stale blocks of stale documents, before the check; nothing on --collect-only."""
    stale = GUIDE.replace("`bread` | 2 |", "`bread` | 3 |\n| `x` | 1 |").replace("# Guide", "# Guide \t")
    path = write(shop, stale)
    other = write(shop, GUIDE, "docs/other.md")
    before = other.stat().st_mtime_ns
    gate(shop, "--staging-contracts-update", "--collect-only")
    assert path.read_text() == stale
    result = gate(shop, "--staging-contracts-update", "-q")
    assert result.ret == 0
    assert path.read_text() == GUIDE.replace("# Guide", "# Guide \t")
    assert "staging: docs/guide.md:20: rewrote 'prices euro'" in said(result)
    assert other.stat().st_mtime_ns == before
    assert "no file was changed" in said(gate(shop, "--staging-contracts-update", "-q"))
    assert not list(path.parent.glob("*.tmp"))


def test_an_update_leaves_broken_documents_alone(shop: pytest.Pytester) -> None:
    """RB-02: a block without an end, or one that nothing generates, is reported and not touched."""
    for broken in (GUIDE.replace("<!-- staging: end -->", ""), GUIDE.replace("prices euro", "prices yen")):
        path = write(shop, broken)
        assert gate(shop, "--staging-contracts-update").ret == 1
        assert path.read_text() == broken


def test_an_update_with_workers_writes_once(shop: pytest.Pytester) -> None:
    """RB-02: the controller rewrites, the workers check what it wrote."""
    path = write(shop, GUIDE.replace("`bread` | 2", "`bread` | 3"))
    result = shop.runpytest_subprocess("--staging-contracts-update", "-n", "2", *QUIET)
    assert result.ret == 0, said(result)
    assert path.read_text() == GUIDE
    assert said(result).count("rewrote") == 1


def test_a_generated_block_in_a_list_keeps_its_depth(shop: pytest.Pytester) -> None:
    """RB-02: the block stays part of its item."""
    path = write(shop, "- item\n\n  <!-- staging: generated cli-help shop -->\n  <!-- staging: end -->\n")
    assert gate(shop, "--staging-contracts-update").ret == 0
    assert "\n  | `shop sell THING [--count COUNT]` | Sell something |\n" in path.read_text()
    assert "\n  | `--count COUNT` | how many (default: 1) |\n" in path.read_text()


RUN = """\
<!-- staging: setup -->
```bash
echo made > out.txt
```

<!-- staging: run timeout=20 exit=3 output="^made$" -->
```bash
cat out.txt; pwd; echo "$PATH" | cut -d: -f1; exit 3
```

<!-- staging: run timeout=20 output="src" -->
```console
$ ls
anything
$ test -e src/shop.py
```

<!-- staging: teardown -->
```bash
touch TORN
```
"""


def test_marked_blocks_are_run_in_a_copy(shop: pytest.Pytester) -> None:
    """RB-02: with set-up and tear-down, expected code and output; the project itself stays as it is."""
    write(shop, RUN.replace("touch TORN", f"touch {shop.path}/TORN"))
    before = sorted(path.name for path in shop.path.iterdir())
    result = gate(shop, "-k", "run:")
    result.assert_outcomes(passed=2)
    assert sorted(path.name for path in shop.path.iterdir()) == sorted([*before, "TORN"])
    (shop.path / "TORN").unlink()
    gate(shop, "--collect-only")
    assert not (shop.path / "TORN").exists(), "collecting runs nothing"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("exit=3", "exit=4", "docs/guide.md:7: the block ended with 3, expected was 4\n  made"),
        ('"^made$"', '"^mad$"', "docs/guide.md:7: the block did not print what matches '^mad$'"),
        ("echo made > out.txt", "false", "docs/guide.md:2: the block ended with 1, expected was 0; it printed nothing"),
        ("touch TORN", "exit 9", "docs/guide.md:19: the block ended with 9, expected was 0"),
        ("test -e src/shop.py", "test -e src/none.py", "docs/guide.md:12: the block ended with 1, expected was 0"),
    ],
)
def test_a_block_that_does_something_else_fails(shop: pytest.Pytester, old: str, new: str, message: str) -> None:
    """RB-02: another exit code, other output, a set-up or tear-down that fails."""
    write(shop, RUN.replace(old, new))
    assert message in said(gate(shop, "-k", "run:"))


def test_a_block_that_hangs_is_ended_with_all_that_it_started(shop: pytest.Pytester) -> None:
    """RB-02: the deadline holds, and nothing is left behind."""
    pid = shop.path / "pid"
    write(shop, f"<!-- staging: run timeout=1 -->\n```bash\nsleep 600 & echo $! > {pid}\nwait\n```\n")
    for _ in range(4):  # on a busy machine it may be ended before it has begun anything
        assert "docs/guide.md:2: the block did not end within 1 s" in said(gate(shop))
        if pid.exists() and pid.read_text().strip():
            break

    def gone() -> bool:
        status = Path(f"/proc/{pid.read_text().strip()}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"

    wait_for(gone)


@pytest.mark.parametrize(
    ("arguments", "ini", "message"),
    [
        (["--staging-campaign"], "", "--staging-contracts and --staging-campaign are two things"),
        ([], "staging_contracts_programs = shop", "'shop' is not name=module:function"),
        ([], "staging_contracts_programs = shop=nowhere:f", "shop=nowhere:f: ModuleNotFoundError"),
        ([], "staging_contracts_programs = shop=os:getcwd", "os:getcwd gives str, not an ArgumentParser"),
        ([], "staging_contracts_generators = x=os:nothing", "x=os:nothing: AttributeError"),
        ([], "staging_contracts_paths = handbook", "handbook does not exist"),
        ([], "staging_contracts_compose = stak.yaml", "_compose: stak.yaml does not exist. Did you mean 'stack.yaml'?"),
        ([], "staging_contracts_capacity = deploy/capacty.yaml", "_capacity: deploy/capacty.yaml does not exist."),
        ([], "staging_contracts_throughput = no.yaml", "staging_contracts_throughput: no.yaml does not exist."),
        ([], "staging_contracts_benchmark = no.yaml", "staging_contracts_benchmark: no.yaml does not exist."),
        ([], "staging_contracts_versions = no", "staging_contracts_versions: no does not exist."),
    ],
)
def test_bad_settings_end_with_one_message(shop: pytest.Pytester, arguments: list[str], ini: str, message: str) -> None:
    """RB-02: usage errors end with exit code 2 and without a traceback."""
    (shop.path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    result = shop.runpytest_subprocess("--staging-contracts", *QUIET, *arguments)
    output = said(result) + str(result.stderr)
    assert result.ret == 2, output
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("deploy/capacity.yaml", "profiles:\n  a: [\n", "deploy/capacity.yaml:3: is not valid YAML"),
        ("deploy/capacity.yaml", "# profiles: {a: {}}\n", "deploy/capacity.yaml: is empty"),
        ("deploy/throughput.yaml", "presets:\n  a: 1\n  a: 2\n", "deploy/throughput.yaml:3: presets.a: stands twice"),
        ("deploy/throughput.yaml", b"\xff", "deploy/throughput.yaml: cannot be read"),
        ("benchmark/benchmark.yaml", "metrics: {\n", "benchmark/benchmark.yaml:2: is not valid YAML"),
        ("stack.yaml", "services: {\n", "stack.yaml:2: is not valid YAML"),
    ],
)
def test_a_file_of_names_that_cannot_be_read_ends_the_gate(
    shop: pytest.Pytester, name: str, text: str | bytes, message: str
) -> None:
    """RB-02: broken, it declares no name, and no name would be checked; the gate says so with file and line."""
    guide = "```bash\nstaging-manager capacity start nosuch --env nowhere\n```\n"
    write(shop, guide)
    assert gate(shop).ret == 0, "without the file nothing is known of its names"
    (shop.path / name).parent.mkdir(exist_ok=True)
    write(shop, text, name)
    result = shop.runpytest_subprocess("--staging-contracts", *QUIET)
    output = said(result) + str(result.stderr)
    assert (result.ret, message in output, "Traceback" in output) == (2, True, False), output


def test_the_tags_of_compose_are_no_fault(shop: pytest.Pytester) -> None:
    """RB-02: a compose file with !reset and !override declares its services all the same."""
    tagged = "    profiles: !override [front]\n    ports: !reset []\n    labels: !reset null\n    build: !reset {}\n"
    write(shop, COMPOSE.replace("    profiles: [front]\n", tagged), "stack.yaml")
    result = gate(shop)
    assert result.ret == 0, said(result)


def test_without_documents_there_is_a_message(pytester: pytest.Pytester) -> None:
    """RB-02: a gate that checks nothing does not pass."""
    result = pytester.runpytest_subprocess("--staging-contracts", *QUIET)
    assert result.ret == 2
    assert "there is neither README.md nor docs/ here" in str(result.stdout) + str(result.stderr)


def test_an_ordinary_run_looks_at_no_document(shop: pytest.Pytester) -> None:
    """PT-06: the settings alone change nothing; a broken document is nobody's business."""
    write(shop, "`src/none.py`\n")
    look = "import sys\ndef test_own():\n    ours = ('pytest_staging.runbooks', 'markdown_it')\n"
    look += "    assert not [one for one in sys.modules if one.startswith(ours)]\n"
    (shop.path / "test_own.py").write_text(look)
    result = shop.runpytest_subprocess("-q", *QUIET, ".")
    result.assert_outcomes(passed=1)


def test_a_mentioned_parser_is_imported_once(shop: pytest.Pytester) -> None:
    """RB-02: one parser for all blocks and documents."""
    note = 'def build_parser():\n    with open("built", "a") as file:\n        file.write("x")'
    counting = SHOP.replace("def build_parser():", note)
    (shop.path / "src" / "shop.py").write_text(counting)
    for number in range(5):
        write(shop, GUIDE, f"docs/more{number}.md")
    assert gate(shop).ret == 0
    assert (shop.path / "built").read_text() == "x"
