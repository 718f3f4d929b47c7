"""Shell text to commands, and commands against parsers."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workspaces import give_up

from pytest_staging.cli import build_parser
from pytest_staging.runbooks.compose import build_compose_parser
from pytest_staging.runbooks.grammar import every_parser, neutralise, read_arguments
from pytest_staging.runbooks.shell import Word, commands_only, parse_shell

ROOT = Path(__file__).resolve().parents[2]


def texts(text: str) -> list[str]:
    """The commands of a shell text as lines."""
    return [command.text() for command in parse_shell(text).commands]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a b  # c\n# d\n e", ["a b", "e"]),
        ("a \\\n  b \\\n  c", ["a b c"]),
        ("a | b && c || d; e & f", ["a", "b", "c", "d", "e", "f"]),
        ("X=1 Y='2 3' a b", ["a b"]),
        ("cat <<EOF > x\nnot 'a command\nEOF\nb", ["cat", "b"]),
        ("cat <<-'E'\n\tno\n\tE\nb", ["cat", "b"]),
        ("cat <<<word; b", ["cat", "b"]),
        ("if a; then b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("for x in 1 2; do a $x; done", ["a $x"]),
        ("while ! a; do b; done", ["a", "b"]),
        ("(cd x && a) >out 2>&1", ["cd x", "a"]),
        ("{ a; }", ["a"]),
        ("a $(b --c) `d`", ["b --c", "d", "a $(b --c) `d`"]),
        ('a "x $(b "y z")"', ["b y z", 'a x $(b "y z")']),
        ("diff <(a) <(b)", ["a", "b", "diff"]),
        ("a ${X:-b c} $((1 + 2))", ["a ${X:-b c} $((1 + 2))"]),
        ("a 'b # c' d#e", ["a b # c d#e"]),
        ("a\\ b 'c'\"d\"", ["a b cd"]),
    ],
)
def test_every_command_of_a_text_is_found(text: str, commands: list[str]) -> None:
    """RB-02: continuations, comments, pipes, lists, prefixes, here-documents, substitutions, reserved words."""
    script = parse_shell(text)
    assert texts(text) == commands
    assert script.problems == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a\nb 'c\nd", 2, "' is not closed"),
        ('a\n\nb "c', 3, '" is not closed'),
        ("a $(b", 1, "is not closed"),
        ("a `b", 1, "` is not closed"),
        ("a ${b", 1, "is not closed"),
        ("a\ncat <<EOF\nb\n", 2, "here-document 'EOF' has no end"),
        ("a\nshow <slug> now", 2, "<slug> redirects files in a shell; write a name in capitals, as SLUG"),
    ],
)
def test_what_is_no_shell_is_a_problem_with_its_line(text: str, line: int, said: str) -> None:
    """RB-02: a reader would be stopped by the same."""
    problems = parse_shell(text, 1).problems
    assert [problem.line for problem in problems] == [line]
    assert said in problems[0].message


def test_lines_are_those_of_the_document() -> None:
    """RB-02: each command has the line where it begins, each word its own."""
    script = parse_shell("a\n\nb \\\n  --c\n", 10)
    assert [(command.line, [word.line for word in command.words]) for command in script.commands] == [
        (10, [10]), (12, [12, 13]),
    ]  # fmt: skip


def test_variables_that_are_set_or_used_are_known() -> None:
    """RB-02: in prefixes, exports and expansions, with lines."""
    script = parse_shell('A_1=x b "$C_2"\nexport D_3=y E_4\n${F_5:-z}')
    assert {name for name, _ in script.variables} == {"A_1", "C_2", "D_3", "E_4", "F_5"}
    assert ("D_3", 2) in script.variables


def test_sessions_show_commands_behind_prompts() -> None:
    """RB-02: what a prompt does not begin is output, continuations are not."""
    lines = ("$ a \\", ">   b", "output 'of a", "  $ c")
    assert texts(commands_only(lines, session=False)) == ["a b", "c"]
    assert texts(commands_only(("output", "% d", "# e"), session=True)) == ["d", "e"]


def test_deep_nesting_is_a_problem_and_no_crash() -> None:
    """A text made to exhaust the stack is refused."""
    assert parse_shell("$(" * 20_000).problems


def read(parser: argparse.ArgumentParser, text: str, whole: bool = True) -> list[str]:
    """What is wrong with one command's arguments."""
    words = parse_shell(f"x {text}").commands[0].words[1:]
    return [problem.message for problem in read_arguments(parser, words, 1, whole).problems]


PROGRAM = neutralise(build_parser())


@pytest.mark.parametrize(
    "text",
    [
        "run-campaign --candidate nodelay --runs 10",
        "--root x create-version --slug my-idea --from baseline",
        "calibrate --duration SECONDS --json",
        "build-images --jobs N",
        'promote --candidate "$SLUG" --campaign-id=$ID',
        "schema KIND",
        "hosts clean vm-1 vm-2 --dry-run",
        "--help",
        "create-version --help",
        "run-campaign -- -x --maxfail=1",
    ],
)
def test_a_good_command_is_taken(text: str) -> None:
    """RB-02: also with placeholders, whatever type the argument has."""
    assert read(PROGRAM, text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run-campaign --candidat nodelay", "has no option --candidat. Did you mean '--candidate'?"),
        ("run-campain --runs 3", "has no command 'run-campain'. Did you mean 'run-campaign'?"),
        ("hosts chek", "has no command 'chek'. Did you mean 'check'?"),
        ("schema benchmrk", "cannot be 'benchmrk'. Did you mean 'benchmark'?"),
        ("promote --candidate nodelay", "the following arguments are required: --campaign-id"),
        ("lineage nodelay", "takes no 'nodelay'"),
        ("calibrate --duration soon", "invalid float value"),
        ("create-version --slug", "expected one argument"),
    ],
)
def test_a_bad_command_is_refused_with_the_nearest_name(text: str, said: str) -> None:
    """RB-02: by the program's real parser."""
    assert any(said in message for message in read(PROGRAM, text))


def test_a_mention_needs_no_required_arguments() -> None:
    """RB-02: running text may name a command without all of its arguments, but not with a wrong one."""
    assert read(PROGRAM, "promote", whole=False) == []
    assert read(PROGRAM, "promote --why TEXT --forced", whole=False) != []


def test_reading_neither_leaves_nor_prints_nor_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RB-02: the parser of a program runs, and nothing of the program does."""
    parser = argparse.ArgumentParser(prog="shop")
    parser.add_argument("--out", type=argparse.FileType("w"))
    parser.add_argument("--version", action="version", version="1")
    neutralise(parser)
    target = tmp_path / "made.txt"
    assert read(parser, f"--out {target}") == []
    assert read(parser, "--version") == []
    assert not target.exists()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("generation", "text"),
    [
        (2, "-f a.yaml -f b.yaml --profile monitoring up -d --wait --scale worker=3"),
        (1, "-f a.yaml --profile monitoring up -d --scale worker=3"),
        (2, "-p x logs -f --tail=50 worker"),
        (2, "exec -T worker sh -c 'ls -l --color'"),
        (2, "down -v --remove-orphans"),
        (1, "ps -q"),
        (2, "config --services"),
        (2, "run --rm worker python -m x --flag"),
    ],
)
def test_compose_commands_are_taken(generation: int, text: str) -> None:
    """RB-02: by the grammar of Compose v2 and of v1."""
    assert read(neutralise(build_compose_parser(generation)), text) == []


@pytest.mark.parametrize(
    ("generation", "text", "said"),
    [
        (2, "up --detatch", "docker compose up has no option --detatch. Did you mean '--detach'?"),
        (1, "up --wait", "docker-compose up has no option --wait."),
        (2, "--profil monitoring up", "docker compose has no option --profil. Did you mean '--profile'?"),
        (2, "restrat worker", "docker compose has no command 'restrat'. Did you mean 'restart'?"),
        (2, "scale --timeout 3 worker=2", "has no option --timeout"),
    ],
)
def test_wrong_compose_commands_are_refused(generation: int, text: str, said: str) -> None:
    """RB-02: a wrong flag of Compose is found without Docker."""
    assert any(said in message for message in read(neutralise(build_compose_parser(generation)), text))


def test_the_grammar_of_compose_v1_is_that_of_the_program() -> None:
    """RB-02: held against docker-compose where it is installed; every option that its help shows is known."""
    program = shutil.which("docker-compose")
    if not program or "1.29" not in help_of(program, "--version"):
        give_up("docker-compose 1.29 is not installed")
    known = {one.prog: one._option_string_actions for one in every_parser(build_compose_parser(1))}
    for name in ("", "run", "up"):
        shown = help_of(program, *(["help", name] if name else ["--help"]))
        options = re.findall(r"^ {2,6}(-[\w-]+)(?:, (--[\w-]+))?", shown, re.MULTILINE)
        unknown = {option for pair in options for option in pair if option}
        assert unknown - set(known[f"docker-compose {name}".strip()]) == set()


def test_the_grammar_of_compose_v2_is_that_of_the_program() -> None:
    """RB-02: held against docker compose where it is to be had; every command and option of its help is known."""
    done = subprocess.run([ROOT / "scripts" / "lab" / "compose-v2.sh"], capture_output=True, text=True, timeout=400)
    if done.returncode:
        give_up(f"compose-v2.sh: {done.stderr.strip()}")
    environment = {**os.environ, "DOCKER_CONFIG": done.stdout.strip()}
    known = {one.prog: one._option_string_actions for one in every_parser(build_compose_parser(2))}
    commands = re.findall(r"^  (\w+) +\S", help_of("docker", "compose", "--help", env=environment), re.MULTILINE)
    assert len(commands) > 25
    for name in ("", *commands):
        shown = help_of("docker", "compose", *([name] if name else []), "--help", env=environment)
        options = set(re.findall(r"^ {2,6}(?:-\w, )?(--[\w-]+)", shown, re.MULTILINE))
        assert options - set(known[f"docker compose {name}".strip()]) == set(), name


def help_of(program: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a program prints."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=True, env=env)
    return done.stdout


def test_a_words_place_in_the_text_is_kept() -> None:
    """A problem has the line of the word, not that of the command."""
    problems = read_arguments(PROGRAM, [Word("run-campaign", 4), Word("--nope", 5)], 4).problems
    assert [problem.line for problem in problems] == [5]
