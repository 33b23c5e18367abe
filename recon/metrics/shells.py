"""Fourier shell correlation of two maps, its correction for the mask, and the resolution it stands for."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Map = NDArray[np.floating]
Floats = NDArray[np.float64]

THRESHOLD = 0.143  # Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003)
RANDOMISE_BELOW = 0.8  # phases are randomised from the shell on where the unmasked FSC first falls below this
SHELLS_LATER = 2  # from here on the correction is believed


def shell_numbers(edge: int) -> NDArray[np.int64]:
    """Shell (cycles per box, rounded) of every coefficient of ``rfftn`` of a cubic map: (edge, edge, edge // 2 + 1)."""
    whole = np.fft.fftfreq(edge, 1 / edge)
    half = np.arange(edge // 2 + 1)
    squared = whole[:, None, None] ** 2 + whole[None, :, None] ** 2 + (half * half)[None, None, :]
    return np.rint(np.sqrt(squared)).astype(np.int64)


def multiplicity(edge: int) -> NDArray[np.float64]:
    """How often every coefficient of ``rfftn`` stands for one of ``fftn``: (edge // 2 + 1,), 2 but on the planes that
    are their own mates.
    """
    weight = np.full(edge // 2 + 1, 2.0)
    weight[0] = 1.0
    if edge % 2 == 0:
        weight[-1] = 1.0
    return weight


def _check(first: Map, second: Map) -> int:
    if first.shape != second.shape or first.ndim != 3 or len(set(first.shape)) != 1:
        raise ValueError(f"maps of shapes {first.shape} and {second.shape}: two cubes of one size are needed")
    return first.shape[0]


def shell_correlation(first: Map, second: Map) -> Floats:
    """Fourier shell correlation (Harauz & van Heel, Optik 73, 146 (1986)).

    Parameters
    ----------
    first, second : (n, n, n) real maps ``[z, y, x]`` of the same body in the same place.

    Returns
    -------
    (n // 2 + 1,) float64, correlation per shell of one cycle per box; 0 where a map has no power.

    Raises
    ------
    ValueError : not two cubes of one size.
    """
    edge = _check(first, second)
    return _correlate(scipy.fft.rfftn(first), scipy.fft.rfftn(second), edge)


def _correlate(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating], edge: int) -> Floats:
    weight = np.broadcast_to(multiplicity(edge), first.shape).ravel()
    shells = shell_numbers(edge).ravel()
    top = edge // 2 + 1

    def summed(values: NDArray[np.floating]) -> Floats:
        return np.asarray(np.bincount(shells, values.ravel() * weight, top)[:top], np.float64)

    power = summed(abs(first) ** 2) * summed(abs(second) ** 2)
    cross = summed((first * second.conj()).real)
    return np.divide(cross, np.sqrt(power), out=np.zeros(top), where=power > 0)


def crossing(correlation: Floats, threshold: float = THRESHOLD, first: int = 1) -> float | None:
    """Shell at which the correlation first falls below `threshold`, interpolated; the last shell when it never does,
    None when it begins below.

    Parameters
    ----------
    correlation : (shells,) one value per shell. first : shells below are not looked at.
    """
    for shell in range(first, len(correlation)):
        if correlation[shell] < threshold:
            if shell == first:
                return None
            above, below = correlation[shell - 1], correlation[shell]
            return float(shell - 1 + (above - threshold) / max(above - below, 1e-12))
    return float(len(correlation) - 1)


def resolution_A(correlation: Floats, box_A: float, threshold: float = THRESHOLD, first: int = 1) -> float | None:
    """Resolution of a box of `box_A`: where the correlation first falls below `threshold`; None if it begins below."""
    shell = crossing(correlation, threshold, first)
    return None if shell is None else box_A / shell


def with_random_phases(volume: Map, from_shell: int, rng: np.random.Generator) -> Floats:
    """The map with random phases from `from_shell` (cycles per box) on, amplitudes unchanged: (n, n, n) float64."""
    edge = _check(volume, volume)
    spectrum = scipy.fft.rfftn(np.asarray(volume, np.float64))
    noise = scipy.fft.rfftn(rng.normal(size=volume.shape))  # of a real map: its phases have Friedel symmetry
    noise /= np.maximum(abs(noise), 1e-30)
    changed = np.where(shell_numbers(edge) >= from_shell, abs(spectrum) * noise, spectrum)
    return np.asarray(scipy.fft.irfftn(changed, s=volume.shape), np.float64)


def masked_correlation(first: Map, second: Map, mask: Map, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """FSC of masked maps, corrected for what the mask itself correlates (Chen et al., Ultramicroscopy 135, 24 (2013)).

    The phases of both maps are randomised beyond the shell where the unmasked FSC first falls below 0.8; what still
    correlates under the mask, FSC_n, is the mask's doing: ``(FSC_t - FSC_n) / (1 - FSC_n)`` from two shells later on.

    Parameters
    ----------
    first, second : (n, n, n) half maps. mask : (n, n, n), 0 to 1.

    Returns
    -------
    (n // 2 + 1,) corrected correlation, and FSC_n (0 where nothing was randomised). Where FSC_n exceeds 0.1 at the
    resolution reported, the mask is too tight to believe either.

    Raises
    ------
    ValueError : not cubes of one size.
    """
    _check(first, mask)
    plain = shell_correlation(first, second)
    under = shell_correlation(first * mask, second * mask)
    below = np.flatnonzero(plain[1:] < RANDOMISE_BELOW)
    start = int(below[0]) + 1 if len(below) else len(plain)
    random = shell_correlation(
        with_random_phases(first, start, rng) * mask, with_random_phases(second, start, rng) * mask
    )
    trusted = np.arange(len(plain)) >= start + SHELLS_LATER
    noise = np.where(trusted, random, 0.0)
    return (under - noise) / np.maximum(1 - noise, 1e-6), noise


def signal_to_noise(correlation: Floats) -> Floats:
    """Spectral signal-to-noise ratio of one half, ``FSC / (1 - FSC)``, per shell; 0 where nothing correlates."""
    bounded = np.clip(correlation, 0.0, 1 - 1e-9)
    return bounded / (1 - bounded)


NEEDED_SNR = THRESHOLD / (1 - THRESHOLD)
