"""Which panels stand where, for every size of terminal: from a Snapshot to one block that fills the screen."""

from __future__ import annotations

from dataclasses import dataclass

from ..daemon.snapshot import ParticleView, Snapshot
from .block import Block, beside, block, cut, fit, row, stack
from .detail import find, fsc_panel, slice_panel, slices_panel, trend_panel, views_panel
from .facts import essentials, facts
from .look import BOLD, NULL, Look
from .panels import LOOK, fits_beside, header, keys_line, log_panel, overview, rule, stream_lines, stream_panel

SMALLEST = (40, 10)
PLANES = ("xy", "xz", "yz", "all")


@dataclass(frozen=True, slots=True)
class ViewState:
    """What the person before the screen has chosen, and what the viewer knows beside the snapshot."""

    selected: str = ""
    help: bool = False
    zoom: int = 1
    plane: str = PLANES[0]
    paused: bool = False
    notice: str = ""


def screen(snapshot: Snapshot, width: int, height: int, look: Look = LOOK, state: ViewState = ViewState()) -> Block:
    """The whole screen for a snapshot, exactly width x height cells."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return _tiny(snapshot, width, height)
    if state.help:
        return help_screen(width, height, look)
    if width >= 110 and height >= 32:
        return _wide(snapshot, width, height, look, state)
    return _narrow(snapshot, width, height, look, state)


def waiting(endpoint: str, width: int, height: int, look: Look = LOOK, since_s: float = 0.0) -> Block:
    """What is shown before the first snapshot."""
    where = f" at {endpoint}" if endpoint else ""
    words = [f"waiting for the daemon{where}", "", "q quits this viewer"]
    if since_s >= 5:
        words[1] = f"{since_s:.0f} s; it appears here as soon as it answers"
    lines = [cut(text, width, look.ellipsis) for text in words]
    size = max(map(len, lines))
    shown = [row(size, (text.center(size), NULL if number else BOLD)) for number, text in enumerate(lines)]
    return fit(block(size, shown), width, height, centre=True)


def _tiny(snapshot: Snapshot, width: int, height: int) -> Block:
    """Too small for panels: phase and one line per particle."""
    lines = [row(width, f"Tumble {snapshot.phase}")]
    for particle in snapshot.particles:
        resolution = "-" if particle.resolution_A is None else f"{particle.resolution_A:.2f} A"
        lines.append(row(width, f"{particle.name} {resolution} {particle.state}"))
    lines.append(row(width, f"at least {SMALLEST[0]} x {SMALLEST[1]}, please"))
    return fit(block(width, lines), width, height)


def _narrow(snapshot: Snapshot, width: int, height: int, look: Look, state: ViewState) -> Block:
    """80 x 24 and the like: everything in full width, the pictures of the selected particle side by side."""
    particle = find(snapshot, state.selected)
    apart = bool(snapshot.particles) and height >= 24 and not fits_beside(snapshot, width)  # the verdict takes a line
    list_height = 2 + max(1, min(len(snapshot.particles), 3 if height < 30 else 8)) + apart
    log_height = 3 - apart if height >= 24 else 2 if height >= 18 else 0
    parts = [header(snapshot, width, 1, look, state.notice), stream_lines(snapshot, width, 2, look)]
    parts.append(overview(snapshot, width, list_height, look, state.selected))
    room = height - 3 - list_height - log_height - 1
    if particle is None or room < 6:
        parts.append(log_panel(snapshot, width, room + log_height, look))
    else:
        words = 2 if room >= 9 else 1
        pictures = _pictures(particle, width, room - words, look, state, snapshot.stream.rate_hz)
        parts += [pictures, essentials(particle, width, words, look)]
        if log_height:
            parts.append(log_panel(snapshot, width, log_height, look))
    parts.append(keys_line(width, state.paused))
    return fit(stack(*parts), width, height)


def _pictures(particle: ParticleView, width: int, height: int, look: Look, state: ViewState, rate_hz: float) -> Block:
    """Sphere, FSC and map slice beside each other, or all three slices; fewer where there is no room."""
    if state.plane == "all":
        return slices_panel(particle, width, height, look, state.zoom)
    side = min(2 * (height - 1), width // 3)
    if width < 60:
        half = (width - 1) // 2
        return beside(views_panel(particle, half, height, look), fsc_panel(particle, width - half - 1, height, look))
    middle = width - 2 * side - 2
    if middle > 2.2 * side and width >= 100:
        left = (middle - 1) // 2
        right = trend_panel(particle, middle - left - 1, height, look, rate_hz)
        plots = beside(fsc_panel(particle, left, height, look), right)
    else:
        plots = fsc_panel(particle, middle, height, look)
    cut = slice_panel(particle, side, height, look, state.zoom, state.plane)
    return beside(views_panel(particle, side, height, look), plots, cut)


def _wide(snapshot: Snapshot, width: int, height: int, look: Look, state: ViewState) -> Block:
    """From about 110 x 32 on: stream beside overview, two rows of pictures, facts and log."""
    particle = find(snapshot, state.selected)
    least = 9 if height >= 40 else 8
    stream_width = max(44, min(60, width * 3 // 10))
    apart = not fits_beside(snapshot, width - stream_width - 1)
    top_height = min(max(least, 2 + len(snapshot.particles) + apart), max(least, height // 3 - 2))
    top = beside(
        overview(snapshot, width - stream_width - 1, top_height, look, state.selected),
        stream_panel(snapshot, stream_width, top_height, look),
    )
    parts = [header(snapshot, width, 1, look, state.notice), top]
    room = height - 1 - top_height - 1
    if particle is None:
        parts.append(log_panel(snapshot, width, room, look))
    else:
        parts.append(_detail(snapshot, particle, width, room, look, state))
    parts.append(keys_line(width, state.paused))
    return fit(stack(*parts), width, height)


def _detail(snapshot: Snapshot, particle: ParticleView, width: int, height: int, look: Look, state: ViewState) -> Block:
    """Sphere and slice as large squares, the two curves, below them facts and log."""
    known = (particle.verdict, particle.trusted is not None or particle.trust_reasons, particle.target_A)
    wanted = (11 if height >= 34 else 9) + sum(map(bool, (*known, particle.metrics, particle.note, particle.tilts)))
    foot = wanted if height >= 26 else 6
    pictures = height - foot
    half = (width - 1) // 2
    below = beside(facts(particle, half, foot, look), log_panel(snapshot, width - half - 1, foot, look))
    if state.plane == "all":
        return stack(slices_panel(particle, width, pictures, look, state.zoom), below)
    side = min(2 * (pictures - 1), width * 3 // 10)
    middle = width - 2 * side - 2
    upper = (pictures + 1) // 2
    rate_hz = snapshot.stream.rate_hz
    curves = stack(
        fsc_panel(particle, middle, upper, look),
        trend_panel(particle, middle, pictures - upper, look, rate_hz),
    )
    if pictures < 16:
        left = (middle - 1) // 2
        right = trend_panel(particle, middle - left - 1, pictures, look, rate_hz)
        curves = beside(fsc_panel(particle, left, pictures, look), right)
    cut = slice_panel(particle, side, pictures, look, state.zoom, state.plane)
    return stack(beside(views_panel(particle, side, pictures, look), curves, cut), below)


def help_screen(width: int, height: int, look: Look = LOOK) -> Block:
    """Keys and what the signs mean."""
    lines = [row(width, " ", cut(text, width - 1, look.ellipsis)) for text in _HELP.splitlines()]
    return fit(block(width, [rule("Help", width, look), *lines]), width, height)


_HELP = """\
Keys   q       leave: a daemon that is watched (tumble watch) goes on,
               one that this command started finishes and ends
       ?       this page; any key closes it
       Tab     next particle, as arrow down; arrow up: the one before
       s       slice of the map: xy, xz, yz, all three   z  closer, whole again
       p       freeze the display; again: go on          Ctrl-L  draw it anew
States COLLECTING its first frames   INDEXING lattice and path   MAPPING
       DONE final map written   FAILED no lattice   LOST the track was lost
Verdict CONTINUE  ENOUGH target reached, map trusted   PLATEAU more of the same
       will not help   STARVED too few fresh views   CHANGING   SEARCHING
       "! doubt": there is evidence that the map is wrong.
Views  Hemisphere of directions of view; blank: never seen; denser: more often.
       "measured": of the map's directions; one view measures all across it.
       "gap": radius of the widest patch without a view.
FSC    Agreement of the half maps; dotted: 0.143. A void does not lower it.
Resolution against frames used, lower is better; dotted: the target; the fan
       leads to it.
Map    The brightest density within the layer of atoms about the centre.
Stream received = used + rejected + dropped + in flight, always. Missing were
       lost before they came here. Lag: age of the newest frame worked in;
       p50/p99: how long frames take from the wire to a snapshot.
"""
