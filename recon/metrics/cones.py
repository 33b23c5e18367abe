"""Resolution by direction: Fourier correlation within cones, and what isotropic data of the same quality would give.

Correlation shell by shell needs signal everywhere. A small crystal has reflections, and between them every cone crosses
0.143 long before the resolution ends; for it there is `weakest_cone`, which asks only where its atoms scatter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numba import njit, prange
from numpy.typing import NDArray

from ..coverage import view_grid
from .shells import THRESHOLD, Map, multiplicity, shell_numbers

Floats = NDArray[np.float64]

AXES = 256
HALF_ANGLE_DEG = 20.0
WIDE_DEG = 30.0  # half-angle of cones that always hold reflections of a cubic crystal
LEAST_SAMPLES = 20  # coefficients of a cone and shell below which its correlation says nothing


@njit(parallel=True, cache=True)
def _sums(
    axes: Floats,
    cosine: float,
    directions: Floats,
    shells: NDArray[np.int64],
    cross: Floats,
    first: Floats,
    second: Floats,
    weight: Floats,
    totals: Floats,
) -> None:
    """Add (cross term, power, power, coefficients) of every axis and shell to `totals` (axes, shells, 4)."""
    for axis in prange(axes.shape[0]):
        x, y, z = axes[axis, 0], axes[axis, 1], axes[axis, 2]
        for item in range(shells.shape[0]):
            along = directions[item, 0] * x + directions[item, 1] * y + directions[item, 2] * z
            if abs(along) >= cosine:
                shell = shells[item]
                totals[axis, shell, 0] += weight[item] * cross[item]
                totals[axis, shell, 1] += weight[item] * first[item]
                totals[axis, shell, 2] += weight[item] * second[item]
                totals[axis, shell, 3] += weight[item]


@njit(cache=True)
def _fill(body: Floats, axes: Floats, reach: Floats) -> None:
    """Set to 1 what lies nearer to the middle than the reach of the axis nearest in direction."""
    half, most = body.shape[0] // 2, reach.max()
    for z in range(-half, 1):  # the other half is its mirror image
        for y in range(-half, half + 1):
            for x in range(-half, half + 1):
                radius = math.sqrt(x * x + y * y + z * z)
                if radius >= most:
                    continue
                nearest, best = 0, -1.0
                for axis in range(axes.shape[0]):
                    along = abs(axes[axis, 0] * x + axes[axis, 1] * y + axes[axis, 2] * z)
                    if along > best:
                        nearest, best = axis, along
                if radius < reach[nearest]:
                    body[half + z, half + y, half + x] = 1.0
                    body[half - z, half - y, half - x] = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ConicalCorrelation:
    """FSC within cones.

    Attributes
    ----------
    axes : (axes, 3) unit vectors (x, y, z) of a hemisphere. correlation : (axes, shells). samples : (axes, shells),
        coefficients behind each value.
    """

    axes: Floats
    correlation: Floats
    samples: Floats

    def crossings(self, threshold: float = THRESHOLD) -> Floats:
        """(axes,) shell at which the correlation of each cone first falls to `threshold`; the last one if never.

        Shells of too few coefficients are passed over.
        """
        low = (self.correlation <= threshold) & (self.samples >= LEAST_SAMPLES)
        low[:, 0] = False
        last = self.correlation.shape[1]
        return np.where(low.any(axis=1), low.argmax(axis=1), last).astype(np.float64)

    def areas(self) -> Floats:
        """(axes,) sum of correlation x shell^2 up to the first value at or below 0.143."""
        shells = np.arange(self.correlation.shape[1])
        counted = (shells[None, :] < self.crossings()[:, None]) & (self.samples >= LEAST_SAMPLES)
        return np.asarray((np.where(counted, self.correlation, 0.0) * shells**2).sum(axis=1), np.float64)

    @property
    def area_ratio(self) -> float:
        """cFAR: smallest area over the largest; 0 when nothing correlates anywhere."""
        areas = self.areas()
        return float(areas.min() / areas.max()) if areas.max() > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """The coefficients of ``rfftn`` of a cubic map within a radius, in order; geometry only."""

    inside: NDArray[np.bool_]
    shells: NDArray[np.int64]
    directions: Floats
    weight: Floats

    @staticmethod
    @lru_cache(maxsize=2)
    def within(edge: int, radius: int) -> _Half:
        """Of maps of one edge; remembered, since every map of a particle has the same."""
        shells = shell_numbers(edge)
        inside = (shells <= radius) & (shells > 0)
        whole = np.fft.fftfreq(edge, 1 / edge)
        z, y, x = np.meshgrid(whole, whole, np.arange(edge // 2 + 1), indexing="ij")
        vectors = np.stack([x[inside], y[inside], z[inside]], axis=1)
        weight = np.broadcast_to(multiplicity(edge), shells.shape)[inside]
        directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return _Half(inside, shells[inside], directions, np.ascontiguousarray(weight))

    def correlate(
        self, first: NDArray[np.complexfloating], second: NDArray[np.complexfloating], axes: int, half_angle_deg: float
    ) -> ConicalCorrelation:
        vectors, totals = self.totals(first, second, axes, half_angle_deg)
        norm = np.sqrt(totals[..., 1] * totals[..., 2])
        correlation = np.divide(totals[..., 0], norm, out=np.zeros(norm.shape), where=norm > 0)
        return ConicalCorrelation(vectors, correlation, totals[..., 3])

    def totals(
        self, first: NDArray[np.complexfloating], second: NDArray[np.complexfloating], axes: int, half_angle_deg: float
    ) -> tuple[Floats, Floats]:
        """Axes (axes, 3), and (axes, shells, 4) cross term, powers and coefficients within the cone about each."""
        vectors = view_grid(axes)
        totals = np.zeros((axes, int(self.shells.max()) + 1, 4))
        cross, power1, power2 = (first * second.conj()).real, abs(first) ** 2, abs(second) ** 2
        _sums(
            vectors, float(np.cos(np.radians(half_angle_deg))), self.directions, self.shells,
            np.ascontiguousarray(cross, np.float64), np.ascontiguousarray(power1, np.float64),
            np.ascontiguousarray(power2, np.float64), self.weight, totals,
        )  # fmt: skip
        return vectors, totals

    def evened(self, values: NDArray[np.complexfloating], first: int) -> NDArray[np.complex128]:
        """Coefficients scaled so that every shell from `first` on has the power 1, nothing before."""
        power = np.bincount(self.shells, abs(values) ** 2 * self.weight)
        scale = np.divide(1.0, np.sqrt(power), out=np.zeros(len(power)), where=power > 0)
        scale[:first] = 0.0
        return np.asarray(values * scale[self.shells], np.complex128)


def _edge(first: Map, second: Map) -> int:
    if first.shape != second.shape or first.ndim != 3 or len(set(first.shape)) != 1:
        raise ValueError(f"maps of shapes {first.shape} and {second.shape}: two cubes of one size are needed")
    return first.shape[0]


def conical_correlation(
    first: Map, second: Map, radius: int | None = None, axes: int = AXES, half_angle_deg: float = HALF_ANGLE_DEG
) -> ConicalCorrelation:
    """FSC of two maps within cones about the directions of a Fibonacci hemisphere (Tan et al., Nat. Methods 14, 793
    (2017)).

    Parameters
    ----------
    first, second : (n, n, n) real maps ``[z, y, x]``.
    radius : last shell, cycles per box; half the edge when not given.

    Raises
    ------
    ValueError : not two cubes of one size.
    """
    edge = _edge(first, second)
    half = _Half.within(edge, min(radius or edge // 2, edge // 2))
    return half.correlate(
        scipy.fft.rfftn(first)[half.inside], scipy.fft.rfftn(second)[half.inside], axes, half_angle_deg
    )


def weakest_cone(volume: Map, model: Map, shells: tuple[int, int], axes: int = AXES) -> float:
    """How well a crystal's map agrees with its atoms in the wide cone where it does so least, of how well in the middle
    one; 0 to 1.

    The atoms say in which directions and shells a crystal scatters and how strongly, whatever its symmetry; nothing is
    asked of the gaps between reflections, and every shell counts alike. Where no view has measured, the map holds
    nothing of what they expect: of a cone of which only the share f was measured, the correlation is sqrt(f). It takes
    the noise of the map away to compare with the middle cone.

    Parameters
    ----------
    volume, model : (n, n, n) maps ``[z, y, x]``, measured and of the atoms (`density.density_of_atoms`).
    shells : first and last one, cycles per box.

    Raises
    ------
    ValueError : not two cubes of one size.
    """
    edge = _edge(volume, model)
    half = _Half.within(edge, min(shells[1], edge // 2))
    found, expected = (half.evened(scipy.fft.rfftn(part)[half.inside], shells[0]) for part in (volume, model))
    totals = half.totals(found, expected, axes, WIDE_DEG)[1].sum(axis=1)
    norm = np.sqrt(totals[:, 1] * totals[:, 2])
    agreement = np.divide(totals[:, 0], norm, out=np.zeros(axes), where=norm > 0)
    middle = float(np.median(agreement))
    return float(np.clip(agreement.min() / middle, 0.0, 1.0)) if middle > 0 else 0.0


def isotropic_area_ratios(
    correlation: Floats,
    edge: int,
    rng: np.random.Generator,
    *,
    draws: int = 8,
    power: NDArray[np.floating] | None = None,
    samples_at_edge: float | None = None,
    axes: int = AXES,
) -> Floats:
    """cFAR of data as good as these but isotropic: the null that an observed cFAR is to be compared with.

    A finite map never has cFAR 1: cones hold few coefficients, and the spots of a crystal are few. Signal of the given
    power and independent noise in each half, equally strong in all directions, are drawn so that every shell has the
    FSC that was observed.

    Parameters
    ----------
    correlation : (shells,) FSC of the halves; its length sets the last shell.
    edge : of the maps.
    draws : pairs of halves to draw.
    power : expected power of the signal for each coefficient of ``rfftn``, (n, n, n // 2 + 1), as of the symmetrised
        map; isotropic when not given.
    samples_at_edge : mean number of views that measured a coefficient of the last shell, when it is finite; their
        scatter, that of a crystal tumbling at random, then is in the noise.

    Returns
    -------
    (draws,) area ratios.
    """
    half = _Half.within(edge, len(correlation) - 1)
    strength = np.ones(len(half.shells)) if power is None else np.asarray(power, np.float64)[half.inside]
    mean = np.bincount(half.shells, strength * half.weight) / np.maximum(np.bincount(half.shells, half.weight), 1)
    strength = strength / np.maximum(mean, 1e-30)[half.shells]
    bounded = np.clip(correlation, 1e-3, 1 - 1e-6)
    noise = ((1 - bounded) / bounded)[half.shells]

    def gauss() -> NDArray[np.complex128]:
        return (rng.normal(size=len(strength)) + 1j * rng.normal(size=len(strength))) / np.sqrt(2)

    ratios = []
    for _ in range(draws):
        level = noise
        if samples_at_edge is not None:
            expected = samples_at_edge * half.shells.max() / half.shells
            level = noise * expected / np.maximum(rng.poisson(expected), 0.5)
        signal = np.sqrt(strength) * gauss()
        first, second = (signal + np.sqrt(level) * gauss() for _ in range(2))
        ratios.append(half.correlate(first, second, axes, HALF_ANGLE_DEG).area_ratio)
    return np.array(ratios)


def resolved_body(cones: ConicalCorrelation, threshold: float = THRESHOLD) -> NDArray[np.float64]:
    """Which coefficients are resolved: 1 inside the surface at which the cone about each direction crosses `threshold`.

    Returns
    -------
    (n, n, n) float64 ``[z, y, x]``, zero frequency in the middle, n odd, with a margin of four voxels.
    """
    reach = cones.crossings(threshold)
    half = int(reach.max()) + 4
    body = np.zeros((2 * half + 1,) * 3)
    _fill(body, cones.axes, reach)
    return body
