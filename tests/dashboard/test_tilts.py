"""A tilt series in words, for the dashboard and for the page."""

from __future__ import annotations

from tumble.dashboard.report.tilts import tilt_numbers
from tumble.dashboard.tilts import tilt_lines

OPEN = {
    "axis_deg": 90.0, "tilts": 25.0, "low_deg": -72.0, "high_deg": 66.0, "step_deg": 6.0, "wedge_deg": 42.0,
    "elongation": 1.331, "next_deg": 72.0, "axis_A": 1.312, "across_A": 1.4, "beam_A": 2.1,
}  # fmt: skip


def test_angles_wedge_and_the_next_tilt_have_units() -> None:
    assert tilt_lines(OPEN, "A") == [
        ("tilts", "25, -72.0 to +66.0 deg, every 6.0; next +72.0 deg"),
        ("wedge", "42 deg not seen: 1.33 times longer along the beam"),
        ("detail", "1.31 A along the axis, 1.40 A across it, 2.10 A along the beam"),
    ]
    few = {"tilts": 4.0, "low_deg": 0.0, "high_deg": 3.0, "step_deg": 1.0, "wedge_deg": 177.0}
    assert tilt_lines(few, "A")[1] == ("wedge", "177 deg not seen: flat along the beam")
    assert len(tilt_lines(few, "A")) == 2
    assert tilt_lines({**OPEN, "wedge_deg": 0.0}, "A")[1] == ("wedge", "closed")
    assert tilt_lines({}, "A") == []


def test_the_page_has_the_same_numbers() -> None:
    entries = dict(tilt_numbers({"tilts": OPEN}))
    assert (entries["tilt that would help most"], entries["along the beam"]) == ("72.0\u202f°", "2.10\u202fÅ")
    assert (entries["longer along the beam"], entries["of the angles not seen (wedge)"]) == ("1.33\u202f×", "42\u202f°")
    assert "tilt that would help most" not in dict(tilt_numbers({"tilts": {**OPEN, "next_deg": None}}))
    assert tilt_numbers({"tilts": 3}) == tilt_numbers({}) == []
