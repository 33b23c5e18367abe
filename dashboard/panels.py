"""The panels: pure functions of (Snapshot, width, height) that return a rich renderable of exactly that size.

Nothing here knows the terminal, the daemon or the time. Every state is said in words; colour only repeats it.
"""

from __future__ import annotations

from rich.style import Style

from ..daemon.snapshot import ParticleView, Snapshot, StreamHealth
from .block import Block, Line, Part, block, clean, cut, fit, flow, length, row, spread, wrap
from .look import BAD, BOLD, CHOSEN, DIM, GOOD, NULL, TITLE, WARN, Look
from .words import angstrom, arrow, clock, count, mebibytes, percent, reasons, seconds, short, span, trend, until

LOOK = Look()
LAG_LIMIT_S = 2.0  # beyond this the operator looks at the past
REMARKS = 112  # cells from which there is a column for them
LOG_LINES = 3  # that one line of the log may take
_PHASES = {"WAITING": WARN, "RUNNING": GOOD, "FINISHING": WARN, "DONE": GOOD, "FAILED": BAD}
_OVER = ("DONE", "FAILED", "LOST", "EXCLUDED")
DISK_LIMIT_MiB = 10 * 1024  # a minute or so of a fast detector
_STATES = {
    "MAPPING": GOOD, "DONE": GOOD, "FAILED": BAD, "LOST": BAD, "INDEXING": WARN, "COLLECTING": WARN,
    "ENOUGH": GOOD, "PLATEAU": WARN, "STARVED": WARN, "CHANGING": WARN,
}  # fmt: skip
# one symbol per state, so that a column of them can be read at a glance and without colour
_SYMBOLS = {
    "COLLECTING": ("◔", "."),
    "INDEXING": ("◑", "o"),
    "MAPPING": ("●", "@"),
    "DONE": ("✔", "*"),
    "FAILED": ("✖", "x"),
    "LOST": ("◌", "?"),
    "SEARCHING": ("◔", "."),
    "CONTINUE": ("▸", "+"),
    "ENOUGH": ("✔", "*"),
    "PLATEAU": ("▬", "="),
    "STARVED": ("▽", "v"),
    "CHANGING": ("≈", "~"),
    "EXCLUDED": ("⊘", "/"),
}


def rule(title: str, width: int, look: Look = LOOK, note: str = "") -> Line:
    """A titled line that opens a panel; `note` stands at its right end."""
    head = f" {cut(clean(title), max(0, width - 6), look.ellipsis)} " if title else ""
    tail = f" {note} " if note and length(head) + length(note) + 8 <= width else ""
    end = look.rule * 2 if tail else ""
    fill = look.rule * max(0, width - 2 - length(head) - length(tail) - len(end))
    return row(width, (look.rule * 2, DIM), (head, TITLE), (fill, DIM), tail, (end, DIM))


def titled(title: str, content: Block, look: Look = LOOK, note: str = "") -> Block:
    """A block below a titled line."""
    return Block(content.width, (rule(title, content.width, look, note), *content.lines))


def header(snapshot: Snapshot, width: int, height: int = 1, look: Look = LOOK, notice: str = "") -> Block:
    """Program, phase, session, source and uptime; `notice` (paused, no word from the daemon) replaces the source."""
    left: list[Part] = [(" Tumble ", CHOSEN), " ", phase_part(snapshot)]
    up = f"up {clock(snapshot.uptime_s)} "
    room = width - sum(length(part if isinstance(part, str) else part[0]) for part in left) - length(up) - 4
    if notice:
        left += ["  ", (cut(notice, max(0, room), look.ellipsis), WARN)]
        return fit(block(width, [spread(width, left, [up])]), width, height)
    session = clean(snapshot.session)
    source = clean(snapshot.stream.source)
    if length(session) + length(source) + 2 > room:
        source = source.removeprefix("zmq+")
    if length(session) + length(source) + 2 > room:
        session = _tail(session.rstrip("/").rpartition("/")[2], max(12, room - length(source) - 2), look)
    source = cut(source, max(0, room - length(session) - 2), look.ellipsis)
    left += ["  ", (session, BOLD), "  ", source]
    return fit(block(width, [spread(width, left, [up])]), width, height)


def _tail(text: str, width: int, look: Look) -> str:
    """The end of a long text, which for a path says more than its beginning."""
    return text if len(text) <= width else look.ellipsis + text[len(text) - width + 1 :]


def phase_part(snapshot: Snapshot) -> Part:
    """The phase, or that the operator has paused the analysis while frames come."""
    if snapshot.paused and snapshot.phase == "RUNNING":
        return "PAUSED: recorded, not analysed", WARN
    return snapshot.phase, _PHASES.get(snapshot.phase, BOLD)


def stream_state(stream: StreamHealth, phase: str) -> tuple[str, Part]:
    """How the stream is, in one or two words, and the same as a styled part."""
    lost = sum(stream.dropped.values()) + stream.missing
    if stream.balance():
        word, style = f"BOOKS OFF BY {short(stream.balance())}", BAD
    elif lost:
        word, style = f"LOST {short(lost)} FRAMES", BAD
    elif stream.expected and stream.received >= stream.expected and stream.in_flight:
        word, style = f"all frames in, {short(stream.in_flight)} to do", GOOD
    elif stream.lag_s > LAG_LIMIT_S:
        word, style = f"BEHIND BY {seconds(stream.lag_s)}", WARN
    elif phase == "WAITING":
        word, style = "no frames yet", WARN
    else:
        word, style = "no loss", GOOD
    return word, (word, style)


def _stream_parts(snapshot: Snapshot) -> list[tuple[str, Part]]:
    """Label and value of everything that is known of the stream, most important first."""
    stream = snapshot.stream
    rejected, dropped = sum(stream.rejected.values()), sum(stream.dropped.values())
    progress = f" of {count(stream.expected)}" if stream.expected else ""
    parts: list[tuple[str, Part]] = [
        ("rate", f"{short(stream.rate_hz)}/s"),
        ("lag", (seconds(stream.lag_s), WARN if stream.lag_s > LAG_LIMIT_S else NULL)),
        *_latency(stream),
        ("queue", f"{short(stream.queue)}/{short(stream.queue_size)}"),
        *_disk(snapshot),
        ("received", count(stream.received) + progress),
        ("used", count(stream.used)),
        ("rejected", count(rejected)),
        ("dropped", (count(dropped), BAD if dropped else NULL)),
        ("in flight", count(stream.in_flight)),
        ("missing", (count(stream.missing), BAD if stream.missing else NULL)),
        ("recorded", count(stream.recorded)),
        *([("mark", clean(snapshot.mark))] if snapshot.mark else []),
    ]
    return parts


def _latency(stream: StreamHealth) -> list[tuple[str, Part]]:
    """How long frames take from the wire to the eyes: median and 99th percentile, once they are known."""
    if stream.latency_p50_ms is None or stream.latency_p99_ms is None:
        return []
    half, most = (seconds(value / 1e3) for value in (stream.latency_p50_ms, stream.latency_p99_ms))
    if half.rpartition(" ")[2] == most.rpartition(" ")[2]:
        half = half.rpartition(" ")[0]
    return [("p50/p99", f"{half}/{most}")]


def _disk(snapshot: Snapshot) -> list[tuple[str, Part]]:
    """Room on the disk of the session, and what waits there because memory was full."""
    free, waiting = snapshot.disk_free_MiB, snapshot.stream.waiting_on_disk_MiB
    parts: list[tuple[str, Part]] = []
    if free is not None:
        parts.append(("disk", (f"{mebibytes(free)} free", BAD if free < DISK_LIMIT_MiB else NULL)))
    if waiting:
        parts.append(("on disk", (f"{mebibytes(waiting)} wait", WARN)))
    return parts


def _dead(snapshot: Snapshot) -> list[tuple[str, Part]]:
    """GPUs, or processes of the reconstruction, that have died."""
    gone = sorted({worker.where or "a process" for worker in snapshot.workers if not worker.alive})
    return [("compute", (f"{clean(' and '.join(gone))} died", BAD))] if gone else []


def stream_lines(snapshot: Snapshot, width: int, height: int = 2, look: Look = LOOK) -> Block:
    """Stream health as running text, for low terminals."""
    _, state = stream_state(snapshot.stream, snapshot.phase)
    late = ("missing", "recorded", "disk")  # they come last, unless there is something wrong with them
    parts = _stream_parts(snapshot)
    wrong = [entry for entry in parts if entry[0] in late and not isinstance(entry[1], str) and entry[1][1] == BAD]
    good = [entry for entry in parts if entry[0] in late and entry not in wrong]
    entries = [("", state), *wrong, *_dead(snapshot), *(entry for entry in parts if entry[0] not in late), *good]
    lines: list[Line] = []
    current: list[Part] = [" "]
    used = 1
    for label, value in entries:
        ((text, style),) = _cut(value, width - 12, look)
        size = length(label) + bool(label) + length(text)
        if used + size > width and used > 1:
            lines.append(row(width, *current))
            current, used = [" "], 1
        current += [(label + " " if label else "", DIM), (text, style), "  "]
        used += size + 2
    lines.append(row(width, *current))
    return fit(block(width, lines), width, height)


def stream_panel(snapshot: Snapshot, width: int, height: int, look: Look = LOOK) -> Block:
    """Stream health as a table: where every received frame went, rate, lag, queue, memory, time per step."""
    stream = snapshot.stream
    _, state = stream_state(stream, snapshot.phase)
    entries = [("state", state), *_stream_parts(snapshot)]
    for label, counts in (("rejected", stream.rejected), ("dropped", stream.dropped)):
        if counts:
            entries = [(name, _because(value, counts) if name == label else value) for name, value in entries]
    if stream.frame_width_px:
        series = "-" if stream.series_id is None else str(stream.series_id)
        entries.append(("frames", f"{stream.frame_width_px} x {stream.frame_height_px} px, series {series}"))
    entries.append(("memory", f"{short(snapshot.memory_MiB)} MiB"))
    entries += _compute(snapshot)
    if snapshot.step_ms:
        entries.append(("ms/frame", milliseconds(snapshot.step_ms)))
    if height - 1 < len(entries):  # two short values share a line
        entries = _pair(entries)
    lines = [row(width, " ", (label.ljust(10), DIM), *_cut(value, width - 12, look)) for label, value in entries]
    return titled("Stream", fit(block(width, lines), width, height - 1), look)


def _compute(snapshot: Snapshot) -> list[tuple[str, Part]]:
    """What the reconstruction computes on, where that is not just the processor, or what of it has died."""
    known = [("compute", clean(snapshot.device))] if snapshot.device not in ("", "cpu") else []
    return _dead(snapshot) or [*known]


def _because(value: Part, counts: dict[str, int]) -> Part:
    text, style = (value, NULL) if isinstance(value, str) else value
    return (f"{text}  ({clean(reasons(counts))})", style)


def _cut(value: Part, width: int, look: Look) -> tuple[tuple[str, Style]]:
    text, style = (value, NULL) if isinstance(value, str) else value
    return ((cut(text, max(0, width), look.ellipsis), style),)


def _pair(entries: list[tuple[str, Part]]) -> list[tuple[str, Part]]:
    """Join rate and lag, queue and latency, and the last small counts, into one line each."""
    known = dict(entries)

    def text(label: str) -> str:
        value = known.get(label, "-")
        return value if isinstance(value, str) else value[0]

    joined: list[tuple[str, Part]] = [
        ("state", known["state"]),
        ("rate", f"{text('rate')}  lag {text('lag')}"),
        ("queue", f"{text('queue')}" + (f"  p50/p99 {text('p50/p99')}" if "p50/p99" in known else "")),
        ("received", f"{text('received')}  recorded {text('recorded')}"),
        ("used", f"{text('used')}  in flight {text('in flight')}"),
        ("rejected", known["rejected"]),
        ("dropped", f"{text('dropped')}  missing {text('missing')}"),
    ]
    joined += [("disk", known["disk"])] if "disk" in known else []
    return joined + [entry for entry in entries if entry[0] in ("ms/frame", "memory", "frames")]


def milliseconds(steps: dict[str, float]) -> str:
    """``8.9 = refine 4.9 + index 2.1 + ...``: total first, then the largest steps."""
    if not steps:
        return "-"
    ordered = sorted(steps.items(), key=lambda item: -item[1])
    return f"{sum(steps.values()):.1f} = " + " + ".join(f"{clean(name)} {value:.1f}" for name, value in ordered)


def overview(snapshot: Snapshot, width: int, height: int, look: Look = LOOK, selected: str = "") -> Block:
    """All particles, one line each; scrolls so that the selected one is visible."""
    title = f"Particles {len(snapshot.particles)}"
    apart = height - 3 >= min(len(snapshot.particles), 3) and not fits_beside(snapshot, width)
    room = max(0, height - 2 - apart)
    if not snapshot.particles:
        words = clean(snapshot.verdict) or "no particle yet"
        return fit(titled(title, block(width, [row(width, f"   {words}")]), look), width, height)
    judged = any(particle.verdict for particle in snapshot.particles)
    lines = [_overview_head(width, "verdict" if judged else "state")]
    names = [particle.name for particle in snapshot.particles]
    chosen = names.index(selected) if selected in names else 0
    first = 0
    if len(names) > room:
        first = min(max(0, chosen - room // 2), len(names) - room)
        title += f", {first + 1}-{first + room} shown"
    shown = snapshot.particles[first : first + room]
    roomy = width < REMARKS and 2 * len(shown) <= room  # a line below each one for what is said of it
    for particle in shown:
        lines.append(_overview_line(particle, width, look, particle.name == names[chosen]))
        if roomy:
            lines.append(row(width, " " * 10, (cut(remark(particle), width - 10, look.ellipsis), DIM)))
    words = clean(snapshot.verdict)
    if apart:
        lines += flow([(words, BOLD)], width, max(1, height - 1 - len(lines)), look.ellipsis)
    note = "" if apart else cut(words, max(0, width - length(title) - 12), look.ellipsis)
    return fit(titled(title, block(width, lines), look, note), width, height)


def fits_beside(snapshot: Snapshot, width: int) -> bool:
    """Whether the verdict of the session has room in the line that opens the list of particles."""
    number = len(snapshot.particles)
    return length(clean(snapshot.verdict)) <= width - (24 if number <= 3 else 36)


def word_of(particle: ParticleView) -> str:
    """The verdict where there is one and the particle is still worked on, else its state."""
    return (
        particle.verdict
        if particle.verdict and particle.state not in ("FAILED", "LOST", "EXCLUDED")
        else particle.state
    )


def awaited(particle: ParticleView) -> bool:
    """Whether the target is still waited for, so that a forecast means something."""
    over = word_of(particle) == "ENOUGH" or particle.state in _OVER
    return particle.target_A is not None and not over and not particle.tilts


def style_of(word: str) -> Style:
    """How a state or a verdict is coloured."""
    return _STATES.get(word, BOLD)


def remark(particle: ParticleView) -> str:
    """What the daemon says in words about a particle, the most important first."""
    if particle.state == "EXCLUDED":
        return clean(particle.note)
    if particle.trusted is False and particle.trust_reasons:
        return clean("do not trust: " + "; ".join(particle.trust_reasons))
    if particle.verdict_reasons:
        said = [_as_of_now(words, particle) for words in particle.verdict_reasons]
        return clean("; ".join(words for words in said if words))
    return clean(particle.note or particle.forecast_words)


def _as_of_now(words: str, particle: ParticleView) -> str:
    """A reason that is a forecast, counted from now instead of from when it was given; empty when all is over."""
    when = until(particle.forecast_low_s, particle.forecast_high_s)
    about = next((head for head in ("target from all sides ", "target ") if words.startswith(head)), "")
    if about and not awaited(particle):
        return ""
    return about + when if about and when else words


def _overview_head(width: int, label: str) -> Line:
    head = f"   {'name':<6} {label:<12} {'frames used/seen':>20} {'resolution':^15}"
    head += f" {'lattice':>8}" if width >= 68 else ""
    head += f" {'atoms':>6}" if width >= 75 else ""
    if width >= 85:
        head += f" {'diameter':>9}"
    if width >= 96:
        head += f" {'rotation':>9}"
    if width >= REMARKS:
        head += f"{'to target':>18}" if width >= 140 else ""
        head += "  remark"
    return row(width, (head, DIM))


def _overview_line(particle: ParticleView, width: int, look: Look, chosen: bool) -> Line:
    word = trend(particle.resolution_trend)
    said = word_of(particle)
    state, style = cut(clean(said), 10, look.ellipsis), _STATES.get(said, NULL)
    course: Part = f" {arrow(word, look)} {word:<6}" if particle.trusted is not False else (" ! doubt ", BAD)
    share = percent(particle.frames_used, particle.frames_seen)
    diameter = angstrom(particle.diameter_A, look, 1) if particle.diameter_A > 0 else "-"
    parts: list[Part] = [
        f" {look.pick('▶', '>') if chosen else ' '} ",
        (f"{cut(clean(particle.name), 6, look.ellipsis):<6}", CHOSEN if chosen else BOLD),
        (f" {symbol(said, look)} {state:<10}", style),
        f" {count(particle.frames_used):>7}/{count(particle.frames_seen):<7} {share:>4}",
        f" {cut(angstrom(particle.resolution_A, look), 6, look.ellipsis):>6}",
        course,
    ]
    if width >= 68:
        parts.append(f" {cut(angstrom(particle.lattice_constant_A, look, 3), 8, look.ellipsis):>8}")
    if width >= 75:
        parts.append(f" {count(particle.atoms, 6):>6}")
    if width >= 85:
        parts.append(f" {cut(diameter, 9, look.ellipsis):>9}")
    if width >= 96:
        turn = "-" if particle.step_deg is None else f"{particle.step_deg:.1f} deg"
        parts.append(f" {turn:>9}  ")
    if width >= 140:
        when = span(particle.forecast_low_s, particle.forecast_high_s) if awaited(particle) else ""
        parts.append(f"{when or '-':>16}  ")
    if width >= REMARKS:
        parts.append(cut(remark(particle), width - (97 if width < 140 else 115), look.ellipsis))
    return row(width, *parts)


def symbol(state: str, look: Look) -> str:
    """One character per particle state."""
    fancy, plain = _SYMBOLS.get(state, ("○", "-"))
    return look.pick(fancy, plain)


def log_panel(snapshot: Snapshot, width: int, height: int, look: Look = LOOK) -> Block:
    """The newest lines of the daemon's log, newest last."""
    room = max(0, height - 1)
    lines: list[Line] = []
    for text in reversed(snapshot.log[-room:] if room else ()):
        first, *more = wrap(clean(text).strip(), width - 3, min(LOG_LINES, room - len(lines)), look.ellipsis)
        lines = [row(width, " ", first), *(row(width, "   ", piece) for piece in more), *lines]
        if len(lines) >= room:
            break
    lines = lines or [row(width, "   nothing yet")]
    return fit(titled("Log", block(width, lines), look), width, height)


def keys_line(width: int, paused: bool = False) -> Block:
    """The keys that work."""
    parts: list[Part] = [" "]
    words = (
        ("q", "quit"),
        ("?", "help"),
        ("Tab", "next particle"),
        ("s", "slices"),
        ("p", "go on" if paused else "freeze"),
    )
    for key, word in words:
        parts += [(key, BOLD), f" {word}   "]
    return block(width, [row(width, *parts)])
