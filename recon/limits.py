"""Resolution limits of every stage, in cycles per box, from physical ones that worked for Pt (a = 3.97 A)."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import BCC, Lattice

# 1/A for a lattice constant of 3.97 A; they scale with the reciprocal lattice.
INDEX, DECIDE, DECIDE_GRID = 0.873, 0.757, 0.815
REFINE = (0.93, 1.106)
REFINE_GRID, FINAL = 1.164, 1.251
REFERENCE_A = 3.97
NYQUIST_SHARE = 0.94  # of the band limit of the pixels; beyond it masks and interpolation alias


@dataclass(frozen=True, slots=True)
class Limits:
    """Radii in cycles per box."""

    index: int
    score: int
    score_grid: int
    refine: tuple[float, ...]
    refine_grid: int
    final: int

    @property
    def largest(self) -> int:
        return max(self.index, self.final)


def limits(box_px: int, pixel_size_A: float, lattice_constant_A: float) -> Limits:
    """Limits for boxes of `box_px` pixels; `lattice_constant_A` of an fcc lattice, see `Lattice.scale_A`.

    Raises
    ------
    ValueError : pixels too coarse to resolve (200), without which no lattice can be indexed.
    """
    box_A = box_px * pixel_size_A
    ceiling = int(NYQUIST_SHARE * box_px / 2)
    if ceiling / box_A < 2.05 / lattice_constant_A:
        raise ValueError(
            f"pixel size {pixel_size_A:.3f} A resolves {box_A / ceiling:.2f} A, the (200) planes of "
            f"a = {lattice_constant_A:.2f} A need {lattice_constant_A / 2:.2f} A: use a higher magnification"
        )
    return _radii(lattice_constant_A, box_A, ceiling)


def followed(now: Limits, lattice: Lattice, box_A: float) -> Limits:
    """Limits for the lattice that was found, within those that coefficients are kept for.

    Those of fcc crystals, twinned or not, stay as they are. Body-centred metals have smaller constants and farther
    reflections.
    """
    return _radii(lattice.scale_A, box_A, now.largest) if lattice.kind is BCC else now


def _radii(lattice_constant_A: float, box_A: float, most: int) -> Limits:
    """Limits, `most` at most."""

    def radius(k: float) -> int:
        return min(round(k * REFERENCE_A / lattice_constant_A * box_A), most)

    return Limits(
        radius(INDEX),
        radius(DECIDE),
        radius(DECIDE_GRID),
        tuple(float(radius(k)) for k in REFINE),
        radius(REFINE_GRID),
        radius(FINAL),
    )
