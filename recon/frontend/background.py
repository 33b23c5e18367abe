"""The field without its particles: energy floors, low-resolution noise power, graphene lattice and its notch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

from .bands import frequencies
from .tracking import Background

GRAPHENE_PER_A = (0.462, 0.477)  # first order, 2.13 A, with 1.5 % for the calibration of the pixel size
NOTCH_PER_A = 0.01
SHEET_Z, FURTHER_SHEET_Z = 7.0, 4.5
MAX_SHEETS = 3


def measure_background(maps: NDArray[np.float32], centres: list[tuple[float, float, float]], mean: float) -> Background:
    """Measure energy floors and low-map noise where there is no particle.

    Parameters
    ----------
    maps : (frames, bands + 1, bin rows, bin columns) float32, energy of every band and the low map last.
    centres : (row, column, radius) of every particle, bins.
    mean : mean counts per pixel of these frames.
    """
    shape = maps.shape[2:]
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    free = np.ones(shape, bool)
    for row, column, radius in centres:
        free &= np.hypot(rows - row, columns - column) > 1.6 * radius
    if free.mean() < 0.1:  # no room: what is left must do, and the spectrum comes from everything
        free[:] = True
    energies = maps[:, :-1][:, :, free].astype(np.float64)
    floors = energies.mean(axis=(0, 2))
    shapes = floors**2 / np.maximum(energies.var(axis=(0, 2)), 1e-30)
    soft = gaussian_filter(free.astype(np.float32), 2, mode="nearest") * free
    power = np.zeros(shape)
    chosen = maps[:: max(1, len(maps) // 40), -1]
    for low in chosen:
        centred = (low - low[free].mean()) * soft
        power += np.abs(scipy.fft.fft2(centred)) ** 2
    power /= len(chosen) * float(np.square(soft).sum())
    # Particles reach over a few coefficients: smoothing over a comparable width keeps the estimate steady.
    widths = [1.5 * max(1.0, side / 72) for side in shape]
    smooth = gaussian_filter(power, widths, mode="wrap").astype(np.float32)
    return Background(floors, shapes, np.maximum(smooth, 1e-12), mean)


@dataclass(frozen=True, slots=True)
class GrapheneSheet:
    """One sheet: direction of a first-order spot (degrees, 0..60), its frequency in 1/A, and its significance."""

    angle_deg: float
    frequency_per_A: float
    z_score: float

    def spots(self) -> list[tuple[float, float]]:
        """(ky, kx) in 1/A of the six spots (first and second order) of one half-plane."""
        places = []
        for order, offset in ((1.0, 0.0), (3**0.5, 30.0)):
            for turn in (0.0, 60.0, 120.0):
                angle = np.deg2rad(self.angle_deg + offset + turn)
                places.append(
                    (
                        order * self.frequency_per_A * float(np.sin(angle)),
                        order * self.frequency_per_A * float(np.cos(angle)),
                    )
                )
        return places


class PowerSpectrum:
    """Running mean power spectrum of a central patch, windowed and zero-padded; bounded memory."""

    def __init__(self, rows: int, columns: int, pixel_size_A: float, patch_px: int = 512) -> None:
        self.side = min(rows, columns, patch_px)
        self.first = ((rows - self.side) // 2, (columns - self.side) // 2)
        self.pixel_size_A = pixel_size_A
        self.padded = scipy.fft.next_fast_len(max(2 * self.side, 512), real=True)
        window = np.hanning(self.side).astype(np.float32)
        self._window = window[:, None] * window[None]
        self._sum = np.zeros((self.padded, self.padded // 2 + 1))
        self.frames = 0

    def add(self, contrast: NDArray[np.float32]) -> None:
        """Add one field, (rows, columns) float32, counts / mean - 1."""
        row, column = self.first
        patch = contrast[row : row + self.side, column : column + self.side]
        patch = (patch - patch.mean()) * self._window
        self._sum += np.abs(scipy.fft.rfft2(patch, s=(self.padded, self.padded))) ** 2
        self.frames += 1

    def graphene(self) -> list[GrapheneSheet]:
        """Return the graphene sheets seen, strongest first.

        Three spots 60 degrees apart are summed over frequency and angle, which a single crystal reflection cannot
        imitate; a generic peak finder would also take (111) of the particles.
        """
        nyquist = 0.5 / self.pixel_size_A
        resolution = 1 / (self.side * self.pixel_size_A)
        if self.frames == 0 or nyquist < GRAPHENE_PER_A[1] + 0.02:
            return []
        angles = np.arange(0, 60, 0.1)
        radii = np.arange(GRAPHENE_PER_A[0], GRAPHENE_PER_A[1] + 1e-9, 0.0005)
        summed = np.zeros((len(radii), len(angles)))
        scale = self.pixel_size_A * self.padded
        for turn in (0, 60, 120):
            turned = np.deg2rad(angles + turn)
            rows, columns = radii[:, None] * np.sin(turned), radii[:, None] * np.cos(turned)
            flip = np.where(columns < 0, -1, 1)
            places = [(rows * flip * scale) % self.padded, columns * flip * scale]
            # The weakest of the three decides as much as the strongest: a geometric mean refuses one bright spot.
            summed += np.log(map_coordinates(self._sum, places, order=1, mode="grid-wrap") + 1e-300) / 3
        best = summed.max(axis=0)
        at = summed.argmax(axis=0)
        # Compared with the neighbouring angles: a crystal's rim reaches into the ring smoothly, a sheet is a needle.
        local = best - median_filter(best, 61, mode="wrap")
        spread = 1.4826 * float(np.median(np.abs(local))) + 1e-12
        inside = (at > 0) & (at < len(radii) - 1)
        found: list[GrapheneSheet] = []
        for place in np.argsort(-local):
            z_score = float(local[place] / spread)
            if z_score < (FURTHER_SHEET_Z if found else SHEET_Z) or len(found) == MAX_SHEETS:
                break
            angle = float(angles[place])
            apart = all(min(abs(angle - s.angle_deg), 60 - abs(angle - s.angle_deg)) > 3 for s in found)
            radius = float(radii[at[place]])
            # All sheets share the pixel size, so their spots lie on one circle within the resolution of the patch.
            alike = all(abs(radius - s.frequency_per_A) < resolution / 4 for s in found)
            if apart and alike and inside[place]:
                found.append(GrapheneSheet(angle, radius, z_score))
        return found


def notch_filter(
    rows: int, columns: int, sheets: list[GrapheneSheet], pixel_size_A: float, radius: float = NOTCH_PER_A
) -> NDArray[np.float32]:
    """Return a soft notch at every graphene spot, (rows, columns // 2 + 1) float32, for `scipy.fft.rfft2`.

    The gain is small (2 % of the matched-filter signal-to-noise) and a radius of 0.03 1/A loses it again.
    """
    ky, kx = frequencies(rows, columns, pixel_size_A)
    notch = np.ones(np.broadcast_shapes(ky.shape, kx.shape), np.float32)
    for sheet in sheets:
        for spot_y, spot_x in sheet.spots():
            for sign in (1, -1):
                distance = np.hypot(ky - sign * spot_y, kx - sign * spot_x)
                notch *= 1 / (1 + np.exp(np.clip(8 * (radius - distance) / radius, -60, 60)))
    return notch
