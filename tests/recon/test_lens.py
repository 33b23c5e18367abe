"""The sign of the contrast: what a lens does to it, and how it is found out."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.geometry import half_plane
from tumble.recon.lattice import search_grid
from tumble.recon.lens import AMPLITUDE_CONTRAST, Lens
from tumble.recon.recognition import Boxes, constants
from tumble.recon.spectra import box_coefficients, noise_weights
from tumble.recon.symmetry import CUBE
from tumble.recon.volume import Grid
from tumble.stream.simulator.optics import Optics, contrast_transfer

BOX, PIXEL_A = 64, 0.42
PLANE = half_plane(BOX, 30)


@pytest.mark.parametrize(
    ("voltage_kV", "cs_um", "defocus_A"), [(300, -10, -54), (300, 10, 54), (300, -10, -150), (200, 1200, 660)]
)
def test_signs_are_those_of_the_contrast_transfer(voltage_kV: float, cs_um: float, defocus_A: float) -> None:
    optics = Optics(
        voltage_kV=voltage_kV, spherical_aberration_um=cs_um, defocus_A=defocus_A, focal_spread_A=0.0,
        amplitude_contrast=AMPLITUDE_CONTRAST,
    )  # fmt: skip
    expected = contrast_transfer(optics, PLANE.radius / (BOX * PIXEL_A))
    signs = Lens(voltage_kV, cs_um, defocus_A).signs(PLANE, PIXEL_A)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    assert (signs * expected >= 0).all()


def test_the_usual_conditions_have_one_sign_in_the_lattice_band() -> None:
    # negative Cs with overfocus: bright atoms, nothing to flip; the reverse: dark atoms
    radius = PLANE.radius / (BOX * PIXEL_A)
    band = (radius > 0.4) & (radius < 0.9)
    assert (Lens(300, -10, -54).signs(PLANE, PIXEL_A)[band] == 1).all()
    assert (Lens(300, 10, 54).signs(PLANE, PIXEL_A)[band] == -1).all()
    assert (Lens().signs(PLANE, PIXEL_A) == 1).all()
    assert (Lens(contrast="dark").signs(PLANE, PIXEL_A) == -1).all()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"cs_um": 1200.0}, "belong together"), ({"defocus_A": 600.0}, "belong together"),
        ({"cs_um": 1.0, "defocus_A": 1.0, "contrast": "dark"}, "contrast follows"), ({"voltage_kV": 0.0}, "positive"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Lens(**given)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_lattice_tells_bright_from_dark(synthetic: ModuleType, device: Device, sign: int) -> None:
    movie = synthetic.movie(24, contrast=12.0, step_deg=20.0, seed=6)
    boxes = sign * np.stack([o.box for o in movie.observations])
    plane = half_plane(BOX, 23)
    sample = Boxes(
        box_coefficients(boxes, plane, device), plane, noise_weights(movie.noise, plane), movie.diameter_A, PIXEL_A,
        Grid(BOX, 23), device,
    )  # fmt: skip
    found, *_ = constants(sample, search_grid(4.2, CUBE), (3.85, 4.05), (1, -1))
    assert found.sign == sign
    assert found.lattice.constant_A == pytest.approx(3.95, rel=5e-3)
