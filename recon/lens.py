"""What the lens does to the sign of the contrast, and the signs that undo it (phase flipping).

``chi(k) = pi/2 Cs lambda^3 k^4 - pi lambda dz k^2``, `dz` the underfocus; where ``sin(chi) - w cos(chi)`` is positive,
`w` the amplitude contrast, atoms are bright. Source: E. J. Kirkland, Advanced Computing in Electron Microscopy, 2nd ed.
(2010), chapter 3. Only signs are taken from it: amplitudes are measured, and a frequency that the lens does not pass is
noise whatever its sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .geometry import HalfPlane

REST_ENERGY_KEV = 510.99895
HC_KEV_A = 12.398419843
AMPLITUDE_CONTRAST = 0.03  # of metal crystals of 2 nm; it only moves the zeros a little

Contrast = Literal["auto", "bright", "dark"]


@dataclass(frozen=True, slots=True)
class Lens:
    """What the operator knows of the image formation.

    Attributes
    ----------
    voltage_kV : acceleration voltage.
    cs_um : spherical aberration in micrometres, negative when over-corrected.
    defocus_A : underfocus positive. With both given every frequency gets the sign back that the lens has taken from
        it; None: atoms have one sign throughout.
    contrast : of atoms where `cs_um` and `defocus_A` are not given; "auto" finds out from the lattice.
    """

    voltage_kV: float = 300.0
    cs_um: float | None = None
    defocus_A: float | None = None
    contrast: Contrast = "auto"

    def __post_init__(self) -> None:
        if not self.voltage_kV > 0:
            raise ValueError(f"voltage_kV must be positive, got {self.voltage_kV:g}")
        if (self.cs_um is None) != (self.defocus_A is None):
            raise ValueError("cs_um and defocus_A belong together: give both or neither")
        if self.cs_um is not None and self.contrast != "auto":
            raise ValueError("contrast follows from cs_um and defocus_A: leave it out, or leave those out")

    @property
    def signs_tried(self) -> tuple[int, ...]:
        """Signs of the contrast among which the lattice decides."""
        return (1, -1) if self.contrast == "auto" and self.cs_um is None else (1,)

    def of_sign(self, sign: int) -> Lens:
        """The same lens when atoms were found to be bright (1) or dark (-1)."""
        return replace(self, contrast="dark" if sign < 0 else "bright") if len(self.signs_tried) > 1 else self

    def signs(self, plane: HalfPlane, pixel_size_A: float) -> NDArray[np.float32]:
        """(n,) +1 or -1 for each coefficient of `plane`: what it is multiplied by for bright atoms."""
        if self.cs_um is None or self.defocus_A is None:
            return np.full(len(plane.kx), -1 if self.contrast == "dark" else 1, np.float32)
        wavelength = HC_KEV_A / math.sqrt(self.voltage_kV * (2 * REST_ENERGY_KEV + self.voltage_kV))
        k2 = (plane.radius.astype(np.float64) / (plane.box_px * pixel_size_A)) ** 2
        chi = math.pi * wavelength * k2 * (0.5e4 * self.cs_um * wavelength**2 * k2 - self.defocus_A)
        transfer = math.sqrt(1 - AMPLITUDE_CONTRAST**2) * np.sin(chi) - AMPLITUDE_CONTRAST * np.cos(chi)
        return np.where(transfer < 0, -1, 1).astype(np.float32)
