"""Blocks of terminal cells of an exact size: what every panel returns, and how they are put beside and below others.

A `Block` is a rich renderable. It exists beside rich's own Layout and Table because it costs a tenth of them: the
dashboard has to redraw four times a second for eight hours on a machine that has better things to do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style

from .look import NULL

Line = tuple[Segment, ...]
Part = str | tuple[str, Style]


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of styled text, each exactly `width` cells wide."""

    width: int
    lines: tuple[Line, ...]

    @property
    def height(self) -> int:
        """Number of lines."""
        return len(self.lines)

    def plain(self) -> list[str]:
        """The text without styles, one string per line."""
        return ["".join(segment.text for segment in line) for line in self.lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render line by line (rich's protocol)."""
        for line in self.lines:
            yield from line
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Report the fixed width (rich's protocol)."""
        return Measurement(self.width, self.width)


@lru_cache(maxsize=2048)
def clean(text: str) -> str:
    """Make text from outside harmless: control characters (a terminal would obey them) become ``?``, tabs spaces."""
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_SPACES)
    return "".join("?" if unicodedata.category(character) in _UNSAFE else character for character in text)


# control, format (right-to-left overrides), surrogate, unassigned, private use, line and paragraph separators, and
# combining marks, whose width terminals do not agree on
_SPACES = str.maketrans("\t\n\r", "   ")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp", "Mn", "Me"})


def length(text: str) -> int:
    """Cells that a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int, ellipsis: str = "~") -> str:
    """Shorten to at most `width` cells; what was cut off is marked."""
    if length(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)) + ellipsis if width > 0 else ""


def wrap(text: str, width: int, lines: int, ellipsis: str = "~") -> list[str]:
    """A text on at most so many lines, broken between words; what does not fit is cut off and marked."""
    made: list[str] = []
    while len(made) < lines - 1 and length(text) > width:
        stop = set_cell_size(text, width + 1).rfind(" ")
        if stop <= 0:
            break
        made.append(text[:stop])
        text = text[stop + 1 :]
    return [*made, cut(text, width, ellipsis)]


def flow(parts: Sequence[tuple[str, Style]], width: int, lines: int, ellipsis: str = "~") -> list[Line]:
    """Styled texts one after the other on at most so many lines, indented by one cell and broken between words; what
    does not fit is cut off and marked. A text begins a line where that keeps it whole and nothing is lost by it.
    """
    rest = [sum(length(text) + 2 for text, _ in parts[number:]) - 2 for number in range(len(parts))]
    left = iter(zip(rest, (length(text) for text, _ in parts), strict=True))
    words = [(word, style, number == 0) for text, style in parts for number, word in enumerate(text.split(" "))]
    made: list[list[Part]] = [[" "]]
    used = 1
    for number, (word, style, begins) in enumerate(words):
        gap = "" if used == 1 else "  " if begins else " "
        final = number == len(words) - 1
        room = width - (len(made) >= lines and not final)  # the last line keeps a cell for the mark
        if begins:
            behind, own = next(left)
            if room < used + len(gap) + own and own < width and behind < width and len(made) < lines:
                made.append([" "])
                used, gap = 1, ""
        if used > 1 and used + length(gap + word) > room:
            if len(made) >= lines:
                made[-1].append((cut(gap + word + ("" if final else " "), width - used, ellipsis), style))
                break
            made.append([" "])
            used, gap = 1, ""
        piece = cut(gap + word, width - used, ellipsis)
        made[-1].append((piece, style))
        used += length(piece)
    return [row(width, *line) for line in made]


def row(width: int, *parts: Part) -> Line:
    """One line of exactly `width` cells from plain or styled parts: cut at the right, or filled with blanks."""
    segments: list[Segment] = []
    left = width
    for part in parts:
        text, style = (part, NULL) if isinstance(part, str) else part
        used = length(text)
        if used > left:
            text, used = set_cell_size(text, left), left
        if text:
            segments.append(Segment(text, style))
        left -= used
        if left <= 0:
            break
    if left > 0:
        segments.append(Segment(" " * left, NULL))
    return tuple(segments)


def spread(width: int, left: Sequence[Part], right: Sequence[Part]) -> Line:
    """One line with a left part and a right part pushed to the right edge; the right part gives way first."""

    def total(parts: Sequence[Part]) -> int:
        return sum(length(part if isinstance(part, str) else part[0]) for part in parts)

    gap = width - total(left) - total(right)
    if gap < 1:
        return row(width, *left)
    return row(width, *left, " " * gap, *right)


def block(width: int, lines: Sequence[Line]) -> Block:
    """A block from lines that already have the right width."""
    return Block(width, tuple(lines))


def blank(width: int, height: int) -> Block:
    """Nothing, of a given size."""
    return Block(width, (row(width),) * max(0, height))


def fit(content: Block, width: int, height: int, centre: bool = False) -> Block:
    """Cut or fill a block to exactly `width` x `height`; with `centre`, spare space goes to both sides."""
    height = max(0, height)
    lines: Sequence[Line] = content.lines[:height]
    before = (width - content.width) // 2 if centre and content.width < width else 0
    if content.width != width:
        lines = [_resize(line, content.width, width, before) for line in lines]
    spare = height - len(lines)
    above = spare // 2 if centre else 0
    empty = row(width)
    return Block(width, (empty,) * above + tuple(lines) + (empty,) * (spare - above))


def _resize(line: Line, old: int, new: int, before: int) -> Line:
    if new < old:
        return tuple(Segment.adjust_line_length(list(line), new))
    pad = (Segment(" " * before, NULL),) if before else ()
    return (*pad, *line, Segment(" " * (new - old - before), NULL)) if new - old - before else (*pad, *line)


def stack(*blocks: Block) -> Block:
    """Blocks below each other; all have the width of the first."""
    return Block(blocks[0].width, tuple(line for part in blocks for line in part.lines))


def beside(*blocks: Block, gap: int = 1) -> Block:
    """Blocks beside each other, as high as the highest, `gap` blanks between them."""
    height = max(part.height for part in blocks)
    parts = [fit(part, part.width, height) for part in blocks]
    space = (Segment(" " * gap, NULL),) if gap else ()
    lines: list[Line] = []
    for index in range(height):
        line: Line = ()
        for number, part in enumerate(parts):
            line += part.lines[index] if number == 0 else space + part.lines[index]
        lines.append(line)
    return Block(sum(part.width for part in parts) + gap * (len(parts) - 1), tuple(lines))


def texts(rows: Sequence[str], style: Style = NULL) -> Block:
    """A block of equally long plain strings in one style."""
    width = length(rows[0]) if rows else 0
    return Block(width, tuple((Segment(text, style),) for text in rows))


def runs(cells: Sequence[tuple[str, Style]]) -> Iterator[Segment]:
    """Join neighbouring cells of the same style into segments."""
    pending, style = "", NULL
    for text, this in cells:
        if this is not style and this != style:
            if pending:
                yield Segment(pending, style)
            pending, style = "", this
        pending += text
    if pending:
        yield Segment(pending, style)


_RUN = re.compile(rb"\0*([^\0])(?:\0|\1)*|\0+", re.DOTALL)  # blanks belong to what stands beside them


def inked(text: str, inks: bytes, columns: int, styles: Sequence[Style]) -> tuple[Line, ...]:
    """Lines of `columns` characters, all of them in `text`, each in the style that its byte of `inks` counts from 1; 0
    is a blank, which goes into the segment beside it: fewer of them have to be made, compared and written.
    """
    return tuple(
        tuple(
            Segment(text[run.start() : run.end()], styles[inks[run.start(1)] - 1] if run.group(1) else NULL)
            for run in _RUN.finditer(inks, start, start + columns)
        )
        for start in range(0, len(inks), columns)
    )
