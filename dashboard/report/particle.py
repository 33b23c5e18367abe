"""The pages of one particle: what it looks like, how good it is, how it got there."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import pairwise

import numpy as np

from ..words import as_of, lattice_kind, strain
from . import density as maps
from .atoms import atoms, scale, views
from .chart import Band, Chart, Series, Strip, draw
from .directions import sphere
from .material import Facts, Moment, Particle, number
from .motion import around, field, nice_bar, score_chart, time_scale, turning_chart, typical_turn_deg
from .png import data_uri
from .tilts import HALVES, tilt_numbers, tilts_of
from .words import box, count, duration, figure, numbers, quantity, tag, tone

NICE_A = (20.0, 10.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def verdict_of(facts: Facts) -> str:
    """The verdict, where the daemon gives one, else the state."""
    verdict = facts.get("verdict")
    return str(verdict) if isinstance(verdict, str) and verdict else str(facts.get("state") or "UNKNOWN")


def ready(particle: Particle) -> maps.Density | None:
    """The map of a particle, ready for drawing; what stands against it goes to ``particle.missing``."""
    if particle.volume is None:
        return None
    try:
        return maps.prepare(particle.volume, particle.voxel_A, particle.positions_A)
    except ValueError as error:
        particle.missing.append(f"map.mrc: {error}")
        return None


def reasons(facts: Facts) -> list[str]:
    """Everything that the daemon said in words about this particle: verdict, trust, forecast, note."""
    said: list[str] = []
    for source in (facts.get(key) for key in ("verdict_reasons", "trust_reasons", "forecast_words", "note")):
        for words in source if isinstance(source, (list, tuple)) else [source]:
            if words and str(words) not in said:
                said.append(str(words))
    return said


def _trust_tag(facts: Facts) -> str:
    trusted = facts.get("trusted")
    if not isinstance(trusted, bool):
        return ""
    words, kind = ("map trusted", "good") if trusted else ("DO NOT TRUST the map", "bad")
    return f'<span class="tag {kind}">{words}</span>'


def section(
    particle: Particle, density: maps.Density | None, timeline: list[Moment], series: Facts, portrait: str
) -> str:
    """All of one particle as a ``<section>``.

    Parameters
    ----------
    density : from `ready`.
    timeline, series : of the session.
    portrait : address of the picture that was drawn for the overview already, of the first view; empty for none.
    """
    facts = particle.facts
    word = verdict_of(facts)
    state = str(facts.get("state") or "")
    tags = tag(word) + (tag(state) if state and state != word else "") + _trust_tag(facts)
    name = escape(particle.name)
    parts = [f'<section class="particle" id="{name}"><header><h2>{name}</h2>{tags}</header>']
    kind = "bad" if facts.get("trusted") is False else "warn" if facts.get("note") else tone(word)
    parts += [box("The daemon says", reasons(facts), kind), box("What is missing", particle.missing)]
    parts.append(numbers(_headline(particle)))
    parts += [numbers(tilt_numbers(facts)), numbers(_metrics(facts))]
    if density is not None:
        parts.append(_map_rows(particle, density, portrait))
    quality = [_fsc_figure(particle), _sphere_figure(particle)]
    course = [_course_figure(particle.name, timeline), _path_figure(particle, series)]
    forecast = [_forecast_figure(particle.name, timeline)]
    for row in (quality, course, _motion_figures(particle), forecast):
        there = [drawn for drawn in row if drawn]
        if there:
            parts.append(f'<div class="pair">{"".join(there)}</div>')
    return "".join(parts) + "</section>"


def _headline(particle: Particle) -> list[tuple[str, str]]:
    facts = particle.facts
    turn = number(facts.get("rotation_per_frame_deg")) or number(facts.get("step_deg"))
    seen = particle.views
    sides = f"{100 * np.count_nonzero(seen) / len(seen):.0f}\u202f%" if len(seen) else "–"
    lattice = lattice_kind(str(facts.get("lattice") or ""), twinned=facts.get("twinned") is True)
    strained = facts.get("strain_percent")
    listed = facts.get("metals")
    metals = as_of([str(name) for name in listed]) if isinstance(listed, list) else ""
    entries = [
        ("resolution (FSC 0.143)", quantity(facts.get("resolution_A"), "Å", 2)),
        ("atoms", count(facts.get("atoms"))),
        (f"{lattice} lattice constant{metals}".lstrip(), quantity(facts.get("lattice_constant_A"), "Å", 3)),
        ("principal strains", strain(strained) if isinstance(strained, list) and strained else "–"),
        ("sides seen", sides),
        ("frames used", f"{count(facts.get('frames_used'))}"),
        ("of frames seen", count(facts.get("frames_seen"))),
        ("rotation per frame and axis", quantity(turn, "°", 1)),
    ]
    return [entry for entry in entries if entry[1] != "–"]


# name in the snapshot, words, share in per cent, digits
_METRICS = (
    ("efficiency", "evenness of the views, 1 at best", False, 2),
    ("empty_fraction", "of the map's directions not measured", True, 0),
    ("weakest_cone", "weakest side, of what the middle one shows of its atoms", True, 0),
    ("sphericity", "sphericity of the resolution", False, 2),
    ("effective_views", "even views it is worth", False, 0),
)


def _metrics(facts: Facts) -> list[tuple[str, str]]:
    """How evenly the particle was seen, as far as it was measured."""
    known = facts.get("metrics")
    if not isinstance(known, dict):
        return []
    entries = []
    for name, words, share, digits in _METRICS:
        value = number(known.get(name))
        if value is not None:
            entries.append((words, f"{100 * value:.{digits}f}\u202f%" if share else f"{value:.{digits}f}"))
    return entries


def _map_rows(particle: Particle, density: maps.Density, portrait: str) -> str:
    """Surfaces, slices and atoms, three of each."""
    pictures = [
        portrait if portrait and index == 0 else data_uri(maps.surface(density, name))
        for index, name in enumerate(maps.VIEWS)
    ]
    across = f"{2 * density.radius_A / 10:.1f} nm across"
    surfaces = "".join(
        figure(f'<img src="{uri}" alt="surface of the map near {name}">', f"near {name}, {across}", kind="view")
        for uri, name in zip(pictures, maps.VIEWS, strict=True)
    )
    cuts = "".join(_slice_figure(cut) for cut in maps.slices(density))
    remark = (
        "Surface at a third of the density of a typical atom, a few degrees beside the axes of the lattice; what lies "
        "deeper is fainter. A map and its mirror image explain the frames equally well."
    )
    parts = [
        '<h3 class="part">The map</h3>',
        f'<div class="row">{surfaces}</div>',
        f'<p class="soft">{remark}</p>',
        '<h3 class="part">Slices</h3>',
        f'<div class="row">{cuts}</div>',
    ]
    if len(particle.positions_A):
        drawn = "".join(
            figure(
                atoms(particle.positions_A, particle.confidence, name, density.radius_A), f"along {name}", kind="view"
            )
            for name in views()
        )
        total = len(particle.positions_A)
        kinds = Counter(particle.elements)
        named = ", ".join(f"{name} {kinds[name]}" for name in sorted(kinds)) if len(kinds) > 1 else "".join(kinds)
        words = f"{total} atoms ({named}), exactly along the axes"
        parts += [
            '<h3 class="part">Atoms</h3>',
            f'<div class="row">{drawn}</div>{scale()}',
            f'<p class="soft">{escape(words)}; far ones are fainter.</p>',
        ]
    return "".join(parts)


def _slice_figure(cut: maps.Slice) -> str:
    length, words = nice_bar(cut.width_A)
    long = 100 * length / cut.width_A
    bar = (
        f'<svg viewBox="0 0 100 100" aria-hidden="true"><path d="M5 94h{long:.2f}"/>'
        f'<text x="5" y="90" style="font-size:5.5px">{words}</text></svg>'
    )
    third = next(axis for axis in "xyz" if axis not in cut.plane)
    image = f'<img src="{data_uri(cut.image)}" alt="slice {cut.plane}">'
    caption = f"{cut.plane[0]} right, {cut.plane[1]} up, at {third} = {cut.offset_A:+.2f} Å"
    return figure(f'<div class="black">{image}{bar}</div>', caption, kind="view")


def _fsc_figure(particle: Particle) -> str:
    k, values = particle.fsc[:, 0], particle.fsc[:, 1]
    keep = k > 0
    if np.count_nonzero(keep) < 2:
        return ""
    edge = float(k.max())
    x_ticks = [(1 / length, f"{length:g}") for length in NICE_A if 1 / length <= edge]
    room = [x_ticks[-1]]
    for mark in reversed(x_ticks[:-1]):
        if (room[-1][0] - mark[0]) / edge > 0.06:
            room.append(mark)
    resolution = number(particle.facts.get("resolution_A"))
    marks = [(1 / resolution, f"{resolution:.2f} Å")] if resolution else []
    drawn = draw(
        Chart(
            "Fourier shell correlation",
            "resolution, Å",
            "correlation of the half maps",
            (Series(k[keep].tolist(), values[keep].tolist()),),
            limits=((0.143, "0.143"),),
            marks=marks,
            x_range=(0.0, edge),
            y_range=(min(-0.05, float(values[keep].min())), 1.04),
            x_ticks=room,
        )
    )
    halves = HALVES if tilts_of(particle.facts) else "The halves are separate blocks of time."
    caption = (
        f"{halves} The curve says what detail they agree on; it does not prove that the map is right, and a side that "
        "was never seen does not lower it."
    )
    return figure(drawn, caption, "Fourier shell correlation")


def _sphere_figure(particle: Particle) -> str:
    if not len(particle.views):
        return ""
    seen = int(np.count_nonzero(particle.views))
    caption = (
        f"Mollweide's equal-area projection of the body's directions, axes of the lattice named. {seen} of "
        f"{len(particle.views)} cells were seen. A view and its opposite (Friedel mates) show the same; both are drawn."
        " A view measures all directions across it: a map is whole long before its crystal was seen from all sides."
    )
    return figure(sphere(particle.views, particle.axes), caption, "Directions it was seen from")


def _segments(timeline: list[Moment], name: str, key: str) -> list[tuple[float, float, str, str]]:
    """States in time: (from, to, word, tone), neighbours of the same word joined."""
    spells: list[tuple[float, float, str, str]] = []
    for moment, after in pairwise([*timeline, timeline[-1]]):
        word = moment.particles.get(name, {}).get(key)
        if not isinstance(word, str) or not word:
            continue
        if spells and spells[-1][2] == word and spells[-1][1] == moment.uptime_s:
            spells[-1] = (spells[-1][0], after.uptime_s, word, spells[-1][3])
        else:
            spells.append((moment.uptime_s, after.uptime_s, word, tone(word)))
    return spells


def _course_figure(name: str, timeline: list[Moment]) -> str:
    """Resolution against time, with states and verdicts below."""
    if not timeline:
        return ""
    strips = [
        Strip(label, spells)
        for label, key in (("state", "state"), ("verdict", "verdict"))
        if (spells := _segments(timeline, name, key))
    ]
    points = [
        (moment.uptime_s, value)
        for moment in timeline
        if (value := number(moment.particles.get(name, {}).get("resolution_A"))) is not None
    ]
    if not points and not strips:
        return ""
    targets = (number(moment.particles.get(name, {}).get("target_A")) for moment in reversed(timeline))
    target = next((value for value in targets if value), None)
    first = min((spells.segments[0][0] for spells in strips), default=points[0][0] if points else 0.0)
    drawn = draw(
        Chart(
            "resolution against time",
            "time since the daemon began, s",
            "resolution, Å",
            (Series([x for x, _ in points], [y for _, y in points], kind="step"),),
            limits=[(target, f"target {target:g} Å")] if target else (),
            strips=strips,
            x_range=(first, max(timeline[-1].uptime_s, first + 1e-3)),
        )
    )
    changes = [f"{duration(begin)} {word}" for strip in strips[-1:] for begin, _, word, _ in strip.segments]
    more = f" In order: {escape(', '.join(changes[:12]))}{' …' if len(changes) > 12 else ''}." if changes else ""
    return figure(drawn, f"Lower is better.{more}", "How the resolution came")


def _as_record(value: object) -> Facts:
    return value if isinstance(value, dict) else {}


def _forecast_figure(name: str, timeline: list[Moment]) -> str:
    """When the target was expected, as it was said with each map: a good forecast stays level until it is met."""
    rows: dict[float, tuple[float, float, float]] = {}
    for moment in timeline:
        facts = moment.particles.get(name, {})
        ahead = [number(facts.get(f"forecast_{which}_s")) for which in ("low", "median", "high")]
        now = number(_as_record(facts.get("metrics")).get("time_s"))  # of the movie: the daemon may be slower
        low, median, high = (None if value is None or now is None else now + value for value in ahead)
        if now is not None and low is not None and median is not None and high is not None:
            rows[now] = (low, median, high)
    if len(rows) < 2:
        return ""
    x = list(rows)
    low_s, median_s, high_s = ([row[i] for row in rows.values()] for i in range(3))
    series = (Series(x, median_s, "expected", colour=1), Series(x, x, "now", colour=4))
    chart = Chart(
        "forecast",
        "time of the movie, s",
        "target reached at, s",
        series,
        bands=(Band(x, low_s, high_s, "90 % interval"),),
        height=230,
    )
    return figure(draw(chart), "Band: 90 % interval. It is met where it comes down to the line of now.", "The forecast")


def _path_figure(particle: Particle, series: Facts) -> str:
    if len(particle.poses) < 2 or tilts_of(particle.facts):
        return ""
    path, pixel_size_A = particle.poses[:, 6:8], number(series.get("pixel_size_A"))
    diameter_A = number(particle.facts.get("diameter_A"))
    diameter = diameter_A / pixel_size_A if diameter_A and pixel_size_A else None
    drawn = field({particle.name: (path, diameter)}, around(path, diameter), pixel_size_A)
    last = float(particle.poses[-1, 1])
    caption = "Its centre in the field, x right and y down, from the first frame (dark) to the last (light)."
    return figure(f'<div style="max-width:330px;margin:0 auto">{drawn}</div>{time_scale(last)}', caption, "Its path")


def _motion_figures(particle: Particle) -> list[str]:
    if len(particle.poses) < 3 or tilts_of(particle.facts):
        return []
    typical = typical_turn_deg(particle.poses)
    words = "" if typical is None else f" Median {typical:.1f}°."
    return [
        figure(
            turning_chart(particle.poses),
            f"Angle between the orientations of neighbouring frames that were used.{words}",
            "How it turned",
        ),
        figure(
            score_chart(particle.poses),
            "How much better a pose explains its frame than no particle does; frames with an unsure pose are not used.",
            "How well the poses fit",
        ),
    ]
