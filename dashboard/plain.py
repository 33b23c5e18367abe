"""Lines for logs and pipes: what a person wants to read afterwards, and nothing twice."""

from __future__ import annotations

from ..daemon.snapshot import ParticleView, Snapshot, StreamHealth
from .block import clean
from .words import as_of, clock, lattice_kind, reasons, seconds, strain


def books(stream: StreamHealth) -> str:
    """The accounting line: where every received frame went, and whether it adds up."""

    def part(counts: dict[str, int]) -> str:
        words = clean(reasons(counts))
        return f"{sum(counts.values())}" + (f" ({words})" if words else "")

    balance = stream.balance()
    verdict = "adds up" if balance == 0 else f"OFF BY {balance}"
    return (
        f"frames: received {stream.received} = used {stream.used} + rejected {part(stream.rejected)}"
        f" + dropped {part(stream.dropped)} + in flight {stream.in_flight}: {verdict};"
        f" missing {stream.missing}, recorded {stream.recorded}"
    )


class PlainLines:
    """Turns a series of snapshots into few lines: phases, particles found, first maps, now and then the resolution.

    Parameters
    ----------
    every_s : seconds of the daemon's uptime between two progress lines.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._next = 0.0
        self._phase = ""
        self._source = ""
        self._series: int | None = None
        self._states: dict[str, str] = {}
        self._mapped: set[str] = set()
        self._verdicts: dict[str, tuple[str, str]] = {}
        self._closed = False
        self._paused = False
        self._mark = ""

    def lines(self, snapshot: Snapshot) -> list[str]:
        """The lines that this snapshot adds, each beginning with the uptime; empty for no news."""
        news: list[str] = []
        if snapshot.phase != self._phase:
            self._phase = snapshot.phase
            self._closed = False
            news.append(_phase_line(snapshot))
        if snapshot.stream.series_id is not None and snapshot.stream.series_id != self._series:
            self._series = snapshot.stream.series_id
            news.append(_series_line(snapshot.stream))
        news += self._orders(snapshot)
        for particle in snapshot.particles:
            news += self._particle(particle)
        if snapshot.phase in ("DONE", "FAILED") and not self._closed:
            self._closed = True
            news += [f"{particle_line(particle)}" for particle in snapshot.particles]
            news.append(clean(snapshot.verdict) or ("no particle" if not snapshot.particles else ""))
            news.append(books(snapshot.stream))
        elif snapshot.phase in ("RUNNING", "FINISHING") and snapshot.uptime_s >= self._next:
            self._next = snapshot.uptime_s + self._every_s
            news.append(_progress(snapshot))
        return [f"{clock(snapshot.uptime_s)} {line}" for line in news if line]

    def _orders(self, snapshot: Snapshot) -> list[str]:
        """What the operator has asked for since the snapshot before."""
        news = []
        if snapshot.paused != self._paused:
            self._paused = snapshot.paused
            news.append("PAUSED: frames are received and recorded, not analysed" if snapshot.paused else "goes on")
        if snapshot.mark != self._mark:
            self._mark = snapshot.mark
            news.append(f"mark: {clean(snapshot.mark)}")
        return news

    def _verdict(self, particle: ParticleView) -> list[str]:
        """A line when the verdict has changed, and one when the map came under suspicion."""
        name, (verdict, doubt) = clean(particle.name), self._verdicts.get(particle.name, ("", ""))
        now = _untrusted(particle)
        self._verdicts[particle.name] = (particle.verdict, now)
        news = []
        if particle.verdict and particle.verdict != verdict:
            why = "; ".join(map(clean, particle.verdict_reasons))
            news.append(f"{name} {clean(particle.verdict)}{': ' if why else ''}{why}")
        if now and not doubt:
            news.append(f"{name} {now}")
        return news

    def _particle(self, particle: ParticleView) -> list[str]:
        name = clean(particle.name)
        news = []
        before = self._states.get(particle.name)
        if before is None:
            x, y = particle.centre_px
            news.append(f"{name} found at ({x:.0f}, {y:.0f}) px, diameter {particle.diameter_A:.1f} A")
        elif before != particle.state:
            note = f": {clean(particle.note)}" if particle.note else ""
            news.append(f"{name} {before} -> {clean(particle.state)}{note}")
        self._states[particle.name] = particle.state
        news += self._verdict(particle)
        if particle.resolution_A is not None and particle.name not in self._mapped:
            self._mapped.add(particle.name)
            atoms = "" if particle.atoms is None else f", {particle.atoms} atoms"
            news.append(f"{name} first map: {particle.resolution_A:.2f} A from {particle.frames_used} frames{atoms}")
        return news


def _untrusted(particle: ParticleView) -> str:
    """A warning where there is evidence against the map."""
    if particle.trusted is not False:
        return ""
    return "; ".join(["DO NOT TRUST the map", *map(clean, particle.trust_reasons)])


def particle_line(particle: ParticleView) -> str:
    """One particle in one line."""
    frames = f"{particle.frames_used} of {particle.frames_seen} frames used"
    parts = [f"{clean(particle.name)} {clean(particle.state)}", frames]
    if particle.resolution_A is not None:
        parts.append(f"{particle.resolution_A:.2f} A")
    if particle.lattice_constant_A is not None:
        lattice = clean(lattice_kind(particle.lattice, twinned=particle.twinned))
        constant = f"{particle.lattice_constant_A:.3f} A{as_of(particle.metals)}"
        parts.append(f"{lattice} lattice constant {constant}".lstrip())
    if strained := strain(particle.strain_percent):
        parts.append(f"strained by {strained}")
    if particle.atoms is not None:
        parts.append(f"{particle.atoms} atoms")
    parts += filter(None, (clean(particle.verdict), _untrusted(particle), clean(particle.note)))
    return ", ".join(parts)


def _phase_line(snapshot: Snapshot) -> str:
    source = clean(snapshot.stream.source)
    words = {
        "WAITING": f"waiting for a stream on {source}" if source else "waiting for a stream",
        "RUNNING": "stream running",
        "FINISHING": "stream over, finishing",
        "DONE": f"done, session {clean(snapshot.session)}",
        "FAILED": f"FAILED, session {clean(snapshot.session)}",
    }
    return words.get(snapshot.phase, clean(snapshot.phase))


def _series_line(stream: StreamHealth) -> str:
    size = f", {stream.frame_width_px} x {stream.frame_height_px} px" if stream.frame_width_px else ""
    frames = f", {stream.expected} frames announced" if stream.expected else ""
    return f"series {stream.series_id}{size}{frames}"


def _progress(snapshot: Snapshot) -> str:
    stream = snapshot.stream
    expected = f" of {stream.expected}" if stream.expected else ""
    parts = [f"{stream.received}{expected} frames, {stream.rate_hz:.0f}/s, lag {seconds(stream.lag_s)}"]
    lost = sum(stream.dropped.values()) + stream.missing
    if lost:
        parts.append(f"LOST {lost}")
    for particle in snapshot.particles:
        value = clean(particle.state).lower() if particle.resolution_A is None else f"{particle.resolution_A:.2f} A"
        parts.append(f"{clean(particle.name)} {value}")
    return "; ".join(parts)
