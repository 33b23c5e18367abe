"""What the page says of a tilt series: angles, wedge, and how far each of the main directions is resolved."""

from __future__ import annotations

from .material import Facts, number
from .words import count, quantity

HALVES = "The halves are every other tilt in the order of the angles."


def tilts_of(facts: Facts) -> Facts:
    """The record of the tilt series; empty for a particle that tumbles."""
    known = facts.get("tilts")
    return known if isinstance(known, dict) else {}


def tilt_numbers(facts: Facts) -> list[tuple[str, str]]:
    """Names and figures, ready text, in the order in which an operator asks for them."""
    known = tilts_of(facts)
    if not known:
        return []
    longer = number(known.get("elongation"))
    entries = [
        ("tilts", count(known.get("tilts"))),
        ("lowest angle", quantity(known.get("low_deg"), "°", 1)),
        ("highest angle", quantity(known.get("high_deg"), "°", 1)),
        ("usual step", quantity(known.get("step_deg"), "°", 1)),
        ("of the angles not seen (wedge)", quantity(known.get("wedge_deg"), "°", 0)),
        ("longer along the beam", "–" if longer is None else f"{longer:.2f}\u202f×"),
        ("tilt that would help most", quantity(known.get("next_deg"), "°", 1)),
        ("along the tilt axis", quantity(known.get("axis_A"), "Å", 2)),
        ("across it", quantity(known.get("across_A"), "Å", 2)),
        ("along the beam", quantity(known.get("beam_A"), "Å", 2)),
    ]
    return [(name, value) for name, value in entries if value != "–"]
