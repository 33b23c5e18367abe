"""The microscope: electron wavelength, coherent transfer, focal spread, detector; all in angstrom and 1/A.

Signs: the exit wave is multiplied by ``exp(-i chi)``, ``chi(k) = pi/2 C3 lambda^3 k^4 - pi lambda dz k^2``, `dz` the
underfocus. A weak phase object then has the contrast ``2 sigma V sin(chi)``: negative C3 with overfocus shows bright
atoms. Source: E. J. Kirkland, Advanced Computing in Electron Microscopy, 2nd ed. (2010), chapters 2, 3 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REST_ENERGY_KEV = 510.99895
HC_KEV_A = 12.398419843


def electron_wavelength_A(voltage_kV: float) -> float:
    """Relativistic electron wavelength in angstrom (0.0197 at 300 kV); Kirkland 2010, equation 2.5.

    Raises
    ------
    ValueError
        If the voltage is not positive.
    """
    if not voltage_kV > 0:
        raise ValueError(f"acceleration voltage must be positive, got {voltage_kV} kV")
    return HC_KEV_A / math.sqrt(voltage_kV * (2 * REST_ENERGY_KEV + voltage_kV))


def interaction_rad_per_VA(voltage_kV: float) -> float:
    """Phase per projected potential, rad / (V A) (6.53e-4 at 300 kV); Kirkland 2010, equation 5.6.

    Raises
    ------
    ValueError
        If the voltage is not positive.
    """
    wavelength = electron_wavelength_A(voltage_kV)
    ratio = (REST_ENERGY_KEV + voltage_kV) / (2 * REST_ENERGY_KEV + voltage_kV)
    return 2 * math.pi / (wavelength * voltage_kV * 1e3) * ratio


@dataclass(frozen=True, slots=True)
class Optics:
    """Imaging conditions.

    Attributes
    ----------
    voltage_kV : acceleration voltage.
    spherical_aberration_um : C3; negative together with a negative `defocus_A` images atoms bright.
    defocus_A : underfocus positive; -54 is 54 A of overfocus.
    focal_spread_A : standard deviation of the focus (chromatic), damps the wave.
    blur_sigma_A : image blur (vibration, magnetic noise), standard deviation per axis.
    amplitude_contrast : absorption relative to phase, 0 to 1: electrons scattered so far that no detector sees them.
        The default is what multislice frames of 2 nm Pt particles show at low frequency.
    mtf_falloff : detector MTF ``exp(-falloff (k / Nyquist)^2)`` on top of the integration over square pixels.
    debye_waller_A2 : B factor of every atom.
    aperture_per_A : radius of the objective aperture in 1/A.
    """

    voltage_kV: float = 300.0
    spherical_aberration_um: float = -10.0
    defocus_A: float = -54.0
    focal_spread_A: float = 10.0
    blur_sigma_A: float = 0.15
    amplitude_contrast: float = 0.03
    mtf_falloff: float = 0.6
    debye_waller_A2: float = 0.55
    aperture_per_A: float = math.inf

    def __post_init__(self) -> None:
        if not self.voltage_kV > 0:
            raise ValueError(f"voltage_kV must be positive, got {self.voltage_kV}")
        if min(self.focal_spread_A, self.blur_sigma_A, self.mtf_falloff, self.debye_waller_A2) < 0:
            raise ValueError("focal spread, blur, MTF fall-off and Debye-Waller factor must not be negative")
        if not 0 <= self.amplitude_contrast <= 1:
            raise ValueError(f"amplitude_contrast must lie between 0 and 1, got {self.amplitude_contrast}")
        if not self.aperture_per_A > 0:
            raise ValueError(f"aperture_per_A must be positive, got {self.aperture_per_A}")

    @property
    def wavelength_A(self) -> float:
        """Electron wavelength, A."""
        return electron_wavelength_A(self.voltage_kV)

    @property
    def interaction_rad_per_VA(self) -> float:
        """Phase per projected potential, rad / (V A)."""
        return interaction_rad_per_VA(self.voltage_kV)


def aberration_phase(
    optics: Optics, frequency_per_A: NDArray[np.floating[Any]], height_A: float = 0.0
) -> NDArray[np.float64]:
    """``chi(k)`` in radians for a plane at `height_A` along the beam (+ is nearer to the lens: more underfocus)."""
    k2 = np.asarray(frequency_per_A, dtype=np.float64) ** 2
    wavelength = optics.wavelength_A
    aberration_A = optics.spherical_aberration_um * 1e4
    defocus = optics.defocus_A + height_A
    chi: NDArray[np.float64] = math.pi * wavelength * k2 * (0.5 * aberration_A * wavelength**2 * k2 - defocus)
    return chi


def wave_damping(optics: Optics, frequency_per_A: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Damping of the wave by focal spread and aperture (Kirkland 2010, equation 3.41, coherent illumination)."""
    k = np.asarray(frequency_per_A, dtype=np.float64)
    spread = math.pi * optics.wavelength_A * optics.focal_spread_A * k**2
    damping: NDArray[np.float64] = np.exp(-0.5 * spread**2) * (k <= optics.aperture_per_A)
    return damping


def wave_transfer(
    optics: Optics, frequency_per_A: NDArray[np.floating[Any]], height_A: float = 0.0
) -> NDArray[np.complex128]:
    """What the lens multiplies the Fourier transform of an exit wave with: ``exp(-i chi)`` times the damping."""
    chi = aberration_phase(optics, frequency_per_A, height_A)
    transfer: NDArray[np.complex128] = wave_damping(optics, frequency_per_A) * np.exp(-1j * chi)
    return transfer


def contrast_transfer(
    optics: Optics, frequency_per_A: NDArray[np.floating[Any]], height_A: float = 0.0
) -> NDArray[np.float64]:
    """Linear transfer from the phase of a weak object to the contrast of its image, detector not included.

    ``2 (sqrt(1 - w^2) sin(chi) - w cos(chi))`` times the damping, `w` the amplitude contrast: 2 at best, positive
    where a positive potential appears bright.
    """
    chi = aberration_phase(optics, frequency_per_A, height_A)
    share = optics.amplitude_contrast
    oscillation = math.sqrt(1 - share**2) * np.sin(chi) - share * np.cos(chi)
    transfer: NDArray[np.float64] = 2.0 * oscillation * wave_damping(optics, frequency_per_A)
    return transfer


def detector_transfer(
    optics: Optics,
    frequency_x_per_A: NDArray[np.floating[Any]],
    frequency_y_per_A: NDArray[np.floating[Any]],
    pixel_size_A: float,
) -> NDArray[np.float64]:
    """Transfer of the intensity: integration over square pixels, detector MTF, image blur (1 at zero frequency)."""
    fx = np.asarray(frequency_x_per_A, dtype=np.float64)
    fy = np.asarray(frequency_y_per_A, dtype=np.float64)
    k2 = fx**2 + fy**2
    nyquist = 0.5 / pixel_size_A
    pixel = np.sinc(fx * pixel_size_A) * np.sinc(fy * pixel_size_A)
    blur = np.exp(-2.0 * math.pi**2 * optics.blur_sigma_A**2 * k2)
    transfer: NDArray[np.float64] = pixel * blur * np.exp(-optics.mtf_falloff * k2 / nyquist**2)
    return transfer
