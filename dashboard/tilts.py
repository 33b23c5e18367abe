"""A tilt series in words: its angles, what they do not see, which comes next, and how far each axis is resolved."""

from __future__ import annotations

from collections.abc import Mapping

FLAT = 20.0  # times longer along the beam: no shape is left


def tilt_lines(tilts: Mapping[str, float], angstrom: str) -> list[tuple[str, str]]:
    """Labels and words for the numbers of `ParticleView.tilts`; nothing for none.

    Parameters
    ----------
    angstrom : how the unit is written.
    """
    if not tilts:
        return []
    lines = [("tilts", _angles(tilts)), ("wedge", _wedge(tilts))]
    places = (("axis_A", "along the axis"), ("across_A", "across it"), ("beam_A", "along the beam"))
    known = [f"{tilts[name]:.2f} {angstrom} {words}" for name, words in places if name in tilts]
    return [*lines, ("detail", ", ".join(known))] if known else lines


def _angles(tilts: Mapping[str, float]) -> str:
    words = f"{tilts.get('tilts', 0):.0f}"
    if "low_deg" in tilts and "high_deg" in tilts:
        words += f", {tilts['low_deg']:+.1f} to {tilts['high_deg']:+.1f} deg"
    if "step_deg" in tilts:
        words += f", every {tilts['step_deg']:.1f}"
    return f"{words}; next {tilts['next_deg']:+.1f} deg" if "next_deg" in tilts else words


def _wedge(tilts: Mapping[str, float]) -> str:
    """What no tilt has seen, and what that does to the map."""
    if not tilts.get("wedge_deg"):
        return "closed"
    longer = tilts.get("elongation", FLAT)
    shape = f"{longer:.2f} times longer along the beam" if longer < FLAT else "flat along the beam"
    return f"{tilts['wedge_deg']:.0f} deg not seen: {shape}"
