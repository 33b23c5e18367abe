"""Draw the dashboard as SVG, for the README: a terminal as it was, or a moment of a past session.

    tmux capture-pane -e -p -t PANE > screen.txt; python tests/dashboard/capture.py screen.txt OUT.svg
    python tests/dashboard/capture.py SESSION OUT.svg [--size 112x34] [--last]

Braille dots and block elements are drawn as shapes, because fonts disagree about them or lack them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

from rich.ansi import AnsiDecoder
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import MONOKAI

from tumble.daemon.snapshot import Snapshot, from_json
from tumble.dashboard.layout import screen
from tumble.dashboard.look import Look

CELL_X, CELL_Y = 9, 18
DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))  # (column, row) of the bits of U+2800
BLOCKS = {  # which quarters are filled: upper left, upper right, lower left, lower right
    "▘": 1, "▝": 2, "▖": 4, "▗": 8, "▀": 3, "▄": 12, "▌": 5, "▐": 10,
    "▚": 9, "▞": 6, "▛": 7, "▜": 11, "▙": 13, "▟": 14, "█": 15,
}  # fmt: skip


def read(timeline: Path) -> list[Snapshot]:
    """Return all snapshots; a map slice that the timeline leaves out because it has not changed is put back."""
    slices: dict[str, tuple[bytes, ...]] = {}
    snapshots = []
    for line in timeline.read_text(encoding="utf-8").splitlines():
        snapshot = from_json(line)
        slices.update({view.name: view.slice_xy for view in snapshot.particles if view.slice_xy})
        views = tuple(replace(view, slice_xy=slices.get(view.name, ())) for view in snapshot.particles)
        snapshots.append(replace(snapshot, particles=views))
    return snapshots


def busiest(snapshots: list[Snapshot]) -> Snapshot:
    """Return the last snapshot in which a particle was being mapped while the daemon ran."""
    mapped = [s for s in snapshots if any(p.resolution_A for p in s.particles)]
    return ([s for s in mapped if s.phase == "RUNNING"] or mapped or snapshots)[-1]


def colours(style: Style | None) -> tuple[str, str]:
    """Return text and background colour of a style as hexadecimal words."""

    def hexadecimal(colour: Color | None, *, foreground: bool) -> str:
        if colour is None:
            colour = Color.default()
        return colour.get_truecolor(MONOKAI, foreground=foreground).hex

    style = style or Style.null()
    text = hexadecimal(style.color, foreground=True)
    back = hexadecimal(style.bgcolor, foreground=False)
    if style.reverse:
        text, back = back, text
    return ("#8a8a85" if style.dim else text), back


class Drawing:
    """Shapes by colour, and words."""

    def __init__(self) -> None:
        self.shapes: defaultdict[str, list[str]] = defaultdict(list)
        self.words: list[str] = []

    def rectangle(self, colour: str, x: float, y: float, width: float, height: float) -> None:
        self.shapes[colour].append(f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z")

    def cell(self, character: str, colour: str, x: float, y: float) -> bool:
        """Draw a character that is a picture; say whether it was one."""
        bits = ord(character) - 0x2800
        if 0 <= bits < 256:
            for bit, (column, row) in enumerate(DOTS):
                if bits >> bit & 1:
                    self.rectangle(colour, x + 1.5 + 4.5 * column, y + 1.5 + 4.5 * row, 2, 2)
            return True
        quarters = BLOCKS.get(character, 0)
        for bit in range(4):
            if quarters >> bit & 1:
                self.rectangle(colour, x + CELL_X / 2 * (bit % 2), y + CELL_Y / 2 * (bit // 2), CELL_X / 2, CELL_Y / 2)
        return quarters > 0

    def segment(self, segment: Segment, x: float, y: float) -> None:
        """Draw a piece of a line."""
        text, back = colours(segment.style)
        width = len(segment.text) * CELL_X
        if back != MONOKAI.background_color.hex:
            self.rectangle(back, x, y, width, CELL_Y)
        drawn = [self.cell(c, text, x + i * CELL_X, y) for i, c in enumerate(segment.text)]
        rest = "".join(" " if is_picture else c for c, is_picture in zip(segment.text, drawn, strict=True))
        if rest.strip():
            lead = len(rest) - len(rest.lstrip())
            rest = rest.strip().replace(" ", "\u00a0")  # viewers do not agree on keeping blanks
            bold = ' font-weight="bold"' if segment.style and segment.style.bold else ""
            self.words.append(
                f'<text x="{x + lead * CELL_X:g}" y="{y + 14:g}" fill="{text}"{bold} '
                f'textLength="{len(rest) * CELL_X}">{escape(rest)}</text>'
            )


def of_session(snapshot: Snapshot, width: int, height: int) -> list[list[Segment]]:
    """Return the dashboard of `snapshot` in a terminal of width x height cells, line by line."""
    console = Console(width=width, height=height, force_terminal=True, color_system="truecolor", legacy_windows=False)
    return console.render_lines(screen(snapshot, width, height, Look()), pad=False)


def of_terminal(text: str) -> list[list[Segment]]:
    """Return what a terminal showed, with its escape codes, line by line."""
    console = Console(width=1000, force_terminal=True, color_system="truecolor", legacy_windows=False)
    return [list(line.render(console)) for line in AnsiDecoder().decode(text)]


def svg(lines: list[list[Segment]], width: int, height: int) -> str:
    """Return a picture of lines in a terminal of width x height cells."""
    drawing = Drawing()
    for number, line in enumerate(lines):
        x = 0
        for segment in line:
            drawing.segment(segment, x * CELL_X, number * CELL_Y)
            x += len(segment.text)
    size = f'viewBox="-10 -10 {width * CELL_X + 20} {height * CELL_Y + 20}"'
    ground = f'<rect x="-10" y="-10" width="100%" height="100%" rx="6" fill="{MONOKAI.background_color.hex}"/>'
    shapes = "".join(f'<path fill="{colour}" d="{"".join(d)}"/>\n' for colour, d in drawing.shapes.items())
    style = 'font-family="monospace" font-size="15"'
    words = "\n".join(drawing.words)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{ground}\n{shapes}<g {style}>\n{words}\n</g>\n</svg>\n'


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="session folder, or what tmux printed")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="112x34", help="columns x rows")
    parser.add_argument("--last", action="store_true", help="the last snapshot, not the last with frames coming")
    words = parser.parse_args()
    if words.source.is_file():
        lines = of_terminal(words.source.read_text(encoding="utf-8"))
        width, height = max(sum(len(segment.text) for segment in line) for line in lines), len(lines)
    else:
        width, height = (int(part) for part in words.size.split("x"))
        snapshots = read(words.source / "timeline.jsonl")
        lines = of_session(snapshots[-1] if words.last else busiest(snapshots), width, height)
    words.out.write_text(svg(lines, width, height), encoding="utf-8")


if __name__ == "__main__":
    main()
