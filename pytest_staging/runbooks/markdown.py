"""The structure of a markdown text, with the line of everything in it: CommonMark with tables, by markdown-it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_ANCHOR = re.compile(r"""<[a-zA-Z][^>]*?\s(?:id|name)\s*=\s*["']?([^"'\s>]+)""")
_STRUCTURE = {"code_block", "html_block", "heading_open", "paragraph_open", "table_open", "blockquote_open", "hr",
              "bullet_list_open", "ordered_list_open"}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A part of the text, `line` to `end` inclusive, both from 1. `kind` is markdown-it's name for it."""

    kind: str
    line: int
    end: int


@dataclass(frozen=True)
class Fence(Block):
    """Fenced code. `lines` are its own, without the indentation of a list around it; the first is line `line` + 1."""

    info: str = ""
    lines: tuple[str, ...] = ()
    closed: bool = True

    @property
    def language(self) -> str:
        """First word after the fence, in lower case."""
        return self.info.split()[0].lower().strip("{}") if self.info.split() else ""


@dataclass(frozen=True)
class Code:
    """Inline code. `column` is that of its table, from 0, else None; `first` says that none stands before it there."""

    line: int
    text: str
    column: int | None = None
    first: bool = True


@dataclass(frozen=True)
class Link:
    """Where a link or an image leads."""

    line: int
    target: str


@dataclass(frozen=True)
class Heading:
    """A heading and what `#...` finds it by."""

    line: int
    level: int
    text: str
    slug: str


@dataclass(frozen=True)
class Comment:
    """An HTML comment. `alone` is false within running text."""

    line: int
    end: int
    text: str
    alone: bool = True
    closed: bool = True


@dataclass
class Document:
    """What a markdown text consists of, each list in the order of the text."""

    lines: list[str]
    blocks: list[Block] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    @property
    def fences(self) -> list[Fence]:
        """Every fenced block."""
        return [block for block in self.blocks if isinstance(block, Fence)]

    def block_after(self, line: int) -> Block | None:
        """The first block that begins below `line` and is no comment."""
        hidden = {comment.line for comment in self.comments}
        return next((one for one in self.blocks if one.line > line and one.line not in hidden), None)

    def section_of(self, line: int) -> tuple[int, int]:
        """First and last line of the section in which `line` stands, deeper sections included."""
        above = [heading for heading in self.headings if heading.line <= line]
        if not above:
            return 1, len(self.lines)
        own = above[-1]
        later = (one.line - 1 for one in self.headings if one.line > line and one.level <= own.level)
        return own.line, next(later, len(self.lines))


def parse_markdown(text: str) -> Document:
    """Never fails: every text is markdown. Line ends of every kind count as one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Not splitlines(), which knows more line ends than markdown does.
    document = Document(text.split("\n"))
    reader = _Reader(document)
    for token in _parser().parse(text):
        reader.take(token)
    document.anchors |= {heading.slug for heading in document.headings}
    return document


def slug_of(title: str, taken: set[str]) -> str:
    """A heading's anchor as GitHub makes it; `taken` are those of the headings above."""
    plain = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
    slug, number = plain, 0
    while slug in taken:
        number += 1
        slug = f"{plain}-{number}"
    return slug


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


class _Reader:
    """Turns tokens into parts of the document, one after another."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._heading: Token | None = None
        self._row = 1
        self._column: int | None = None
        self._slugs: set[str] = set()
        self._begun: set[object] = set()

    def take(self, token: Token) -> None:
        line, end = (token.map[0] + 1, token.map[1]) if token.map else (self._row, self._row)
        if token.type == "fence":
            closed = end > line and self._document.lines[end - 1].lstrip("> \t").startswith(token.markup)
            lines = tuple(token.content.split("\n")[:-1])
            self._document.blocks.append(Fence("fence", line, end, token.info.strip(), lines, closed))
        elif token.type in _STRUCTURE:
            self._document.blocks.append(Block(token.type, line, end))
        if token.type == "html_block":
            self._take_html(token.content, line, alone=True)
        elif token.type == "heading_open":
            self._heading = token
        elif token.type == "tr_open":
            self._row, self._column = line, -1
        elif token.type in ("th_open", "td_open"):
            self._column = (self._column or 0) + 1 if self._column != -1 else 0
        elif token.type == "table_close":
            self._column = None
        elif token.type == "list_item_open":
            self._begun.discard("item")
        elif token.type == "inline":
            self._take_inline(token, self._row if self._column is not None else line)

    def _take_inline(self, token: Token, line: int) -> None:
        children = token.children or []
        if self._heading is not None:
            self._take_heading(children, line)
        for child, offset in _located(token):
            at = line + token.content.count("\n", 0, offset)
            if child.type == "code_inline":
                place = (at, self._column) if self._column is not None else "item"
                self._document.codes.append(Code(at, child.content, self._column, place not in self._begun))
                self._begun.add(place)
            elif child.type in ("link_open", "image"):
                target = child.attrs.get("href") or child.attrs.get("src") or ""
                self._document.links.append(Link(at, str(target)))
            elif child.type == "html_inline":
                self._take_html(child.content, at, alone=False)

    def _take_heading(self, children: list[Token], line: int) -> None:
        assert self._heading is not None
        title = "".join(child.content for child in children if child.type in ("text", "code_inline", "text_special"))
        slug = slug_of(title, self._slugs)
        self._slugs.add(slug)
        self._document.headings.append(Heading(line, int(self._heading.tag[1]), title, slug))
        self._heading = None

    def _take_html(self, content: str, line: int, alone: bool) -> None:
        self._document.anchors |= set(_ANCHOR.findall(content))
        for found in _COMMENT.finditer(content):
            at = line + content.count("\n", 0, found.start())
            end = line + content.count("\n", 0, found.end())
            self._document.comments.append(Comment(at, end, found[1].strip(), alone))
        rest = _COMMENT.sub(lambda match: " " * len(match[0]), content)
        if "<!--" in rest:
            start = rest.index("<!--")
            at = line + content.count("\n", 0, start)
            text = rest[start + 4 :].strip().split("\n")[0]
            self._document.comments.append(Comment(at, at, text, alone, closed=False))


def _located(inline: Token) -> Iterator[tuple[Any, int]]:
    """The children that count, with where they begin in the source: children themselves have no lines."""
    content, at = inline.content, 0
    for child in inline.children or []:
        if child.type == "code_inline":
            mark = re.escape(child.markup)
            found = re.compile(rf"(?<!`){mark}(?!`).+?(?<!`){mark}(?!`)", re.DOTALL).search(content, at)
            yield child, found.start() if found else at
            at = found.end() if found else at
        elif child.type == "html_inline":
            start = max(content.find(child.content, at), at)
            yield child, start
            at = start + len(child.content)
        elif child.type in ("link_open", "image"):
            yield child, max(content.find("[", at), at)
        elif child.type in ("softbreak", "hardbreak"):
            at = max(content.find("\n", at) + 1, at)
