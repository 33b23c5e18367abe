"""The page: what came out first, then each particle, then where every frame went, and how it was made."""

from __future__ import annotations

from html import escape

import numpy as np

from .chart import Chart, Series, draw
from .material import Facts, Material, Particle, number
from .motion import field
from .particle import verdict_of
from .style import CSS
from .words import box, count, duration, figure, flat, numbers, quantity, table, tag

# nothing is loaded from anywhere, whatever a session's texts hold
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(material: Material, sections: list[str], portraits: dict[str, str]) -> str:
    """The whole HTML page.

    Parameters
    ----------
    sections : of the particles, ready markup.
    portraits : address of a small picture per particle, where there is one.
    """
    title = f"Tumble: {material.folder.name or 'session'}"
    body = [
        _head(material),
        _overview(material.particles, portraits),
        *sections,
        _field_section(material),
        _accounting(material),
        _course(material),
        _files(material),
        _configuration(material),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(material: Material) -> str:
    facts, stream = material.facts, material.stream
    phase = str(facts.get("phase") or (material.timeline[-1].phase if material.timeline else "UNKNOWN"))
    series = _record(facts, "series")
    detector = str(series.get("detector") or stream.get("source") or "unknown source")
    begun = str(facts.get("begun") or "")
    said = facts.get("verdict") or ("no particle" if not material.particles else "")
    state = tag(phase) if material.in_order else tag("INTERRUPTED" if facts else "UNKNOWN")
    missing = list(material.missing)
    if not material.in_order:
        last = (
            f"; last heard of {duration(material.timeline[-1].uptime_s)} after its start" if material.timeline else ""
        )
        missing.insert(0, f"the session did not end in order: it runs still, or was cut off{last}")
    if not material.particles:
        missing.append("no particle was followed, so there are no maps")
    entries = [
        ("frames received", count(stream.get("received"))),
        ("field", _size(series)),
        ("pixel size", quantity(series.get("pixel_size_A"), "Å", 3)),
        ("dose per frame", quantity(series.get("dose_e_per_A2"), "e/Å²", 0)),
        ("frame time", _milliseconds(series.get("frame_time_s"))),
        ("voltage", quantity(series.get("voltage_kV"), "kV", 0)),
    ]
    return (
        f"<h1>{escape(material.folder.name or str(material.folder))} {state}</h1>"
        f'<p class="soft">{escape(begun.replace("T", " "))} · {escape(detector)} · tumble '
        f"{escape(str(facts.get('command') or ''))} {escape(str(facts.get('tumble') or ''))}</p>"
        f'<p class="lead">{escape(str(said))}</p>'
        + box("What is missing", missing)
        + numbers(entry for entry in entries if entry[1] != "–")
    )


def _record(facts: Facts, name: str) -> Facts:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _size(series: Facts) -> str:
    width, height = number(series.get("width_px")), number(series.get("height_px"))
    return "–" if width is None or height is None else f"{width:.0f} × {height:.0f}\u202fpx"


def _milliseconds(seconds: object) -> str:
    found = number(seconds)
    return "–" if found is None else f"{found * 1e3:g}\u202fms"


def _overview(particles: list[Particle], portraits: dict[str, str]) -> str:
    cards = []
    for particle in particles:
        name = escape(particle.name)
        uri = portraits.get(particle.name)
        picture = f'<img src="{uri}" alt="">' if uri else '<span class="blank"></span>'
        facts = particle.facts
        words = f"{quantity(facts.get('resolution_A'), 'Å', 2)} · {count(facts.get('atoms'))} atoms"
        cards.append(
            f'<a href="#{name}">{picture}<span><b>{name}</b><br>{tag(verdict_of(facts))}<br>'
            f'<span class="soft">{words}</span></span></a>'
        )
    return f'<nav class="overview">{"".join(cards)}</nav>' if cards else ""


def _field_section(material: Material) -> str:
    series = _record(material.facts, "series")
    width, height = number(series.get("width_px")), number(series.get("height_px"))
    pixel_size_A = number(series.get("pixel_size_A"))
    paths = {}
    for particle in material.particles:
        if len(particle.poses) > 1:
            diameter_A = number(particle.facts.get("diameter_A"))
            diameter = diameter_A / pixel_size_A if diameter_A and pixel_size_A else None
            paths[particle.name] = (particle.poses[:, 6:8], diameter)
    if not paths or not width or not height:
        return ""
    drawn = field(paths, (0.0, 0.0, width, height), pixel_size_A)
    caption = (
        "Paths of all particles, from their first frame (dark) to their last (light), where they were last in outline."
    )
    picture = f'<div style="max-width:520px;margin:0 auto">{drawn}</div>'
    return f'<section id="field"><header><h2>The field</h2></header>{figure(picture, caption)}</section>'


def _accounting(material: Material) -> str:
    """received = used + rejected (reason) + dropped (reason) + in flight, of the stream and of every particle."""
    stream = material.stream
    if not stream:
        return '<section id="frames"><header><h2>Where every frame went</h2></header><p>Not known.</p></section>'
    received = number(stream.get("received")) or 0.0
    parts = [("used", "used", stream.get("used"))]
    parts += [(f"rejected: {why}", "rejected", number_) for why, number_ in sorted(_record(stream, "rejected").items())]
    parts += [(f"dropped: {why}", "dropped", number_) for why, number_ in sorted(_record(stream, "dropped").items())]
    parts.append(("in flight", "flight", stream.get("in_flight")))
    total = sum(number(value) or 0.0 for _, _, value in parts)
    bar = "".join(
        f'<i class="{kind}" style="flex:{number(value) or 0:g}" title="{escape(name)} {count(value)}"></i>'
        for name, kind, value in parts
        if number(value)
    )
    rows = [f"<tr><td>{escape(name)}</td><td class=n>{count(value)}</td></tr>" for name, _, value in parts]
    verdict = "the books are right" if total == received else f"DOES NOT ADD UP: {received - total:+.0f}"
    rows.append(f'<tr class="sum"><td>sum</td><td class=n>{count(total)}</td></tr>')
    missing = number(stream.get("missing"))
    lost = f" {count(missing)} more were lost before they reached us." if missing else ""
    return (
        '<section id="frames"><header><h2>Where every frame went</h2></header>'
        f"<p>{count(received)} received; {verdict}.{lost}</p>"
        f'<div class="bar">{bar}</div><div class="wide"><table>{"".join(rows)}</table></div>'
        f"{_particle_books(material.particles)}</section>"
    )


def _particle_books(particles: list[Particle]) -> str:
    if not particles:
        return ""
    lines = []
    for particle in particles:
        facts = particle.facts
        why = ", ".join(f"{reason} {count(n)}" for reason, n in sorted(_record(facts, "frames_rejected").items()))
        numbers_ = [count(facts.get(key)) for key in ("frames_seen", "frames_used", "frames_in_flight")]
        cells = "".join(f"<td class=n>{value}</td>" for value in numbers_)
        lines.append(f"<tr><td>{escape(particle.name)}</td>{cells}<td>{escape(why) or 'none'}</td></tr>")
    names = "".join(f"<th class=n>{name}</th>" for name in ("seen", "used", "in flight"))
    head = f"<tr><th>particle</th>{names}<th>not used</th></tr>"
    return f'<h3 class="part">By particle</h3><div class="wide"><table>{head}{"".join(lines)}</table></div>'


def _course(material: Material) -> str:
    """The stream against time: rate, lag, frames waiting."""
    moments = material.timeline
    if len(moments) < 3:
        return ""
    time = [moment.uptime_s for moment in moments]
    nan = float("nan")

    def of(key: str) -> list[float]:
        return [value if (value := number(m.stream.get(key))) is not None else nan for m in moments]

    received, used = of("received"), of("used")
    frames = Chart(
        "frames against time",
        "time since the daemon began, s",
        "frames",
        (Series(time, received, "received", "step", 1), Series(time, used, "analysed", "step", 3)),
        height=230,
        y_range=(0.0, max([1.0, *(x for x in received if np.isfinite(x))]) * 1.05),
    )
    lag = Chart(
        "lag", "time since the daemon began, s", "lag, s", (Series(time, of("lag_s"), kind="step"),), height=230
    )
    pictures = figure(draw(frames), "Frames received and analysed.") + figure(
        draw(lag), "Age of the newest frame worked in."
    )
    return f'<section id="stream"><header><h2>The stream</h2></header><div class="pair">{pictures}</div></section>'


def _files(material: Material) -> str:
    name = next((p.name for p in material.particles if p.volume is not None), None)
    if name is None:
        return ""
    here = f"particles/{name}"
    lines = [
        ("ChimeraX", f"chimerax report/{name}.cxc"),
        (
            "OVITO, ASE",
            f'ase gui {here}/atoms.xyz      # or ase.io.read("{here}/atoms.xyz"); OVITO opens the same file',
        ),
        (
            "napari",
            f"python -c \"import mrcfile, napari; napari.view_image(mrcfile.read('{here}/map.mrc')); napari.run()\"",
        ),
    ]
    rows = "".join(f"<h3 class=part>{escape(title)}</h3><pre>{escape(line)}</pre>" for title, line in lines)
    return (
        '<section id="files"><header><h2>In other programs</h2></header>'
        f'<p class="soft">From the folder of the session, for {escape(name)}. '
        "Voxel sizes are in the headers of the maps; the origin of the atoms is voxel n // 2."
        f"</p>{rows}</section>"
    )


def _configuration(material: Material) -> str:
    facts = material.facts
    if not facts:
        return ""
    how = [("command", escape(f"tumble {facts.get('command')}")), ("device", escape(str(facts.get("device") or "–")))]
    how += [("begun", escape(str(facts.get("begun")))), ("ended", escape(str(facts.get("ended") or "not in order")))]
    how.append(("memory", quantity(facts.get("memory_MiB"), "MiB", 0)))
    log = facts.get("log")
    text = "\n".join(map(str, log)) if isinstance(log, list) else ""
    return (
        '<section id="configuration"><header><h2>How it was made</h2></header>'
        f"{table(how)}<h3 class=part>Source</h3>{table(flat(_record(facts, 'series')))}"
        f"<h3 class=part>Configuration</h3>{table(flat(_record(facts, 'config')))}"
        f"<h3 class=part>Versions</h3>{table(flat({'tumble': facts.get('tumble'), **_record(facts, 'versions')}))}"
        + (f"<h3 class=part>Log</h3><pre>{escape(text)}</pre>" if text else "")
        + "</section>"
    )
