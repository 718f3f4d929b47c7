"""The structure of documents, with lines: fences of every kind, inline code, headings, comments, directives."""

from __future__ import annotations

import pytest

from pytest_staging.runbooks.directives import parse_directives
from pytest_staging.runbooks.markdown import parse_markdown, slug_of

FENCES = """\
```bash
one
```

~~~sh
two
```
still two
~~~

- item
  1. nested

     ```console
     $ three
     ```

> ```bash
> four
> ```

   ```bash
   five
   ```
"""


def test_fences_of_every_kind_are_found_with_their_lines() -> None:
    """RB-02: backticks, tildes, nested lists, quotes and indentation."""
    fences = parse_markdown(FENCES).fences
    assert [(one.line, one.language, one.lines) for one in fences] == [
        (1, "bash", ("one",)),
        (5, "sh", ("two", "```", "still two")),
        (14, "console", ("$ three",)),
        (18, "bash", ("four",)),
        (22, "bash", ("five",)),
    ]
    assert all(one.closed for one in fences)


def test_a_fence_without_an_end_is_not_closed() -> None:
    """RB-02: a forgotten fence would hide the rest of a runbook."""
    assert [one.closed for one in parse_markdown("text\n\n```bash\none\n").fences] == [False]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_every_line_end_counts_as_one(end: str) -> None:
    """RB-02: CRLF documents have the same lines."""
    document = parse_markdown(FENCES.replace("\n", end))
    assert [(one.line, one.lines) for one in document.fences] == [
        (one.line, one.lines) for one in parse_markdown(FENCES).fences
    ]


def test_separators_that_are_no_line_ends_move_no_line() -> None:
    """A form feed or a Unicode separator in the text does not shift what stands below it."""
    document = parse_markdown("a\x0cb\u2028c\x85d\n\n`x`\n")
    assert [(code.line, code.text) for code in document.codes] == [(3, "x")]


def test_inline_code_has_the_line_where_it_begins() -> None:
    """RB-02: in wrapped paragraphs, over line ends, beside doubled marks, and in tables by column."""
    text = "a `b\nc` `d` ``e`f``\n`g`\n\n| h | i |\n| - | - |\n| `j` | `k` `l` |\n| m | `n` |\n"
    found = [(code.line, code.text, code.column) for code in parse_markdown(text).codes]
    assert found == [
        (1, "b c", None), (2, "d", None), (2, "e`f", None), (3, "g", None),
        (7, "j", 0), (7, "k", 1), (7, "l", 1), (8, "n", 1),
    ]  # fmt: skip


def test_code_blocks_and_comments_are_no_inline_code() -> None:
    """What stands in a fence or a comment is not looked up as a name."""
    text = "```text\n`a/b`\n```\n\n<!-- `c/d` -->\n\n    `e/f`\n"
    assert parse_markdown(text).codes == []


def test_anchors_are_githubs() -> None:
    """RB-02: headings by GitHub's rules, doubled ones numbered, and anchors of HTML."""
    text = "# It's `x_y`, *well*: 1.2!\n\n## Same\n\n## Same\n\n## Same-1\n\nÜber Größe\n===\n\n<a id=\"own\"></a>\n"
    assert parse_markdown(text).anchors == {"its-x_y-well-12", "same", "same-1", "same-1-1", "über-größe", "own"}


def test_a_slug_is_never_given_twice() -> None:
    """However many headings are called the same."""
    taken: set[str] = set()
    for _ in range(3):
        taken.add(slug_of("A  B", taken))
    assert taken == {"a--b", "a--b-1", "a--b-2"}


def test_directives_speak_about_the_block_below_them() -> None:
    """RB-02: comments between a directive and its block do not come in between."""
    text = "<!-- staging: run timeout=5 exit=3 output='a b' -->\n<!-- a note -->\n\n```bash\nx\n```\n"
    directives, problems = parse_directives(parse_markdown(text))
    assert problems == []
    assert directives[0].block is not None
    assert (directives[0].name, directives[0].block.line, directives[0].timeout_s) == ("run", 4, 5.0)
    assert directives[0].options == {"timeout": "5", "exit": "3", "output": "a b"}


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("staging: skp it is slow", "'staging: skp' is no directive. Did you mean 'skip'?"),
        ("staging: skip", "'staging: skip' has no reason"),
        ("staging: run timeout=soon", "timeout=soon is not seconds"),
        ("staging: run timeout=0", "timeout=0 is not seconds"),
        ("staging: run timeout=nan", "timeout=nan is not seconds"),
        ("staging: run exit=256", "exit=256 is not an exit code"),
        ("staging: run output=[", "is no regular expression"),
        ("staging: run twice", "knows no 'twice'"),
        ("staging: run output='a", "no closing quotation"),
        ("staging: sequence start", "names at least two steps"),
        ("staging: generated", "names what makes the block"),
        ("staging: end all", "takes nothing"),
        ("staging: known option --x", "needs the kind, the name and the reason"),
        ("staging:", "is no directive"),
    ],
)
def test_a_bad_directive_is_an_error_with_its_line(comment: str, said: str) -> None:
    """RB-02: nothing that a comment says wrongly is passed over."""
    directives, problems = parse_directives(parse_markdown(f"text\n\n<!-- {comment} -->\n```bash\nx\n```\n"))
    assert directives == []
    assert [problem.line for problem in problems] == [3]
    assert said in problems[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- staging: skip no engine here -->\n\ntext\n", "speaks about the code block below it"),
        ("<!-- staging: run -->\n", "speaks about the code block below it"),
        ("text <!-- staging: run --> text\n\n```bash\nx\n```\n", "stands within a line of text"),
        ("<!-- staging: skip no end\n\n```bash\nx\n```\n", "is not closed"),
    ],
)
def test_a_directive_in_the_wrong_place_is_an_error(text: str, said: str) -> None:
    """RB-02: a mark that would silently mark nothing is refused."""
    _, problems = parse_directives(parse_markdown(text))
    assert [problem.line for problem in problems] == [1]
    assert said in problems[0].message
