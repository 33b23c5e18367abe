"""Follow one crystal on a crop: likelihood maps, random-walk filter, fixed-lag smoother.

The score of a position is the log-likelihood of a soft disc in the low map (whitened by the measured background) plus
a fraction of the log-likelihood of raised lattice-band energy inside the disc. The posterior mean is taken on a fine
grid and smoothed backwards over a fixed lag (Rauch, Tung and Striebel, AIAA J. 3, 1445, 1965).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..device import Device, cpu
from .bands import MapMaker, Sampling
from .boxes import contrasts
from .history import History
from .loops import soft_disc
from .measuring import RING_BINS, measured
from .options import FrontEndOptions
from .waves import paired, waves

SOFT_EDGE_A = 1.29  # softness of the disc's rim
DISC_TO_EXCESS = 2.0  # from the mean excess to the template: bright orientations carry most of the information
TOGETHER = 4  # crops that are worked on in one piece: few enough for the cache, enough that calls are not what costs
INNER_RADII, OUTER_RADII = 0.6, 1.35  # within and beyond which a particle is measured and what is around it
PROFILE_FRAMES = 50  # ring means of this many frames replace the disc
PROFILE_MEMORY = 200
SYSTEMATIC_VARIANCE_BINS2 = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What the field looks like where there is no particle.

    Attributes
    ----------
    floors : (bands,) mean energy, float64, at the mean dose `mean`.
    shapes : (bands,) gamma shape of the binned energy (mean^2 / variance).
    low_power : (bin rows, bin columns) float32, power of the low map per Fourier coefficient, uncentred; white noise of
        variance s2 gives s2.
    mean : mean counts per pixel of the frames it was measured on.
    """

    floors: NDArray[np.float64]
    shapes: NDArray[np.float64]
    low_power: NDArray[np.float32]
    mean: float

    def low_power_on(self, size: int) -> NDArray[np.float32]:
        """Nearest sample of `low_power` on a (size, size // 2 + 1) grid; the mean is made infinitely noisy."""
        rows, columns = self.low_power.shape
        frequency = np.fft.fftfreq(size)
        at_row = np.round((frequency % 1) * rows).astype(int) % rows
        at_column = np.round((frequency[: size // 2 + 1] % 1) * columns).astype(int) % columns
        power = self.low_power[np.ix_(at_row, at_column)].astype(np.float32)
        power[0, 0] = np.inf
        return power


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one frame said about one particle.

    `evidence` is the log-likelihood of the particle at its place against no particle, `amplitude` the contrast of the
    disc, `excess` the relative rise of the energy of every band, `shade` the mean contrast outside the particle, i.e.
    local over frame mean - 1.
    """

    evidence: float
    amplitude: float
    excess: NDArray[np.float64]
    shade: float


@dataclass(slots=True, eq=False)
class Template:
    """Likelihood filters of one particle on its crop."""

    filters: NDArray[np.complex64]  # see `waves.paired`, of bands + 1 maps
    baseline: float  # score of the template's own position-independent terms


@dataclass(slots=True, eq=False)
class Track:
    """One particle being followed."""

    particle: int
    diameter_A: float
    z_score: float
    mean: NDArray[np.float64]  # (row, column), bins
    covariance: NDArray[np.float64]
    amplitude: float
    excess: NDArray[np.float64]
    crop_bins: int
    state: str = "tracked"
    last_frame: int | None = None
    low_share: float = 1.0
    energy_share: float = 1.0
    presence: float = 2.0
    frames_without: int = 0
    measured: int = 0
    dose_ratio: float = 1.0
    template: Template | None = None
    profile: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    profile_frames: int = 0
    history: History = field(default_factory=History)

    def radius_bins(self, sampling: Sampling) -> float:
        """Radius in bins."""
        return self.diameter_A / 2 / sampling.bin_A


def crop_bins_for(diameter_A: float, rows: int, columns: int, sampling: Sampling) -> int:
    """Side of the square crop for a particle, bins: 1.9 diameters at 24 A, never more than the field."""
    wanted = max(diameter_A + 22.0, 36.0) / sampling.bin_A
    size = scipy.fft.next_fast_len(int(np.ceil(wanted)), real=True)
    size += size % 2
    limit = min(rows, columns) // sampling.bin_px
    return int(size if size <= limit else limit - limit % 2)


class CropTracker:
    """Measures particles on crops; holds the filters, not the tracks."""

    def __init__(
        self, rows: int, columns: int, sampling: Sampling, options: FrontEndOptions, device: Device | None = None
    ) -> None:
        """`device` is where the frames lie; the processor when there is none. Threads are those that call."""
        self.sampling = sampling
        self.options = options
        self.device = replace(device or cpu(1), threads=1)
        self.field_bins = (rows // sampling.bin_px, columns // sampling.bin_px)
        self.walk_variance = (options.walk_A / sampling.bin_A) ** 2
        self._makers: dict[int, MapMaker] = {}

    def maker(self, crop_bins: int) -> MapMaker:
        """Map maker for crops of this size."""
        if crop_bins not in self._makers:
            pixels = crop_bins * self.sampling.bin_px
            self._makers[crop_bins] = MapMaker(pixels, pixels, self.sampling, self.device)
        return self._makers[crop_bins]

    def build_template(self, track: Track, background: Background) -> None:
        """Make the likelihood filters of a track from its present amplitude and excess."""
        size = track.crop_bins
        radius, softness = track.radius_bins(self.sampling), SOFT_EDGE_A / self.sampling.bin_A
        disc = np.fft.ifftshift(soft_disc((size, size), size // 2, size // 2, radius, softness))
        learned = track.profile_frames >= PROFILE_FRAMES
        low = self._learned(track, radius) if learned else track.amplitude * disc
        # The energy keeps its flat disc: it wanders inside the particle (a twin lights up one half at a time), and a
        # learned, peaked profile would follow it.
        gains = [1 + DISC_TO_EXCESS * max(0.05, float(excess)) * disc for excess in track.excess]
        power = background.low_power_on(size)
        low_spectrum = scipy.fft.rfft2(low)
        baseline = -0.5 * float(np.vdot(scipy.fft.irfft2(low_spectrum / power, s=(size, size)), low))
        filters = []
        weight = self.options.energy_weight
        for gain, shape in zip(gains, background.shapes, strict=True):
            filters.append(np.conj(scipy.fft.rfft2(1 - 1 / gain)) * np.float32(weight * shape))
            baseline -= weight * float(shape) * float(np.log(gain).sum())
        filters.append(np.conj(low_spectrum) / power)
        track.template = Template(paired(np.asarray(filters)), baseline)

    def _learned(self, track: Track, radius: float) -> NDArray[np.float32]:
        """Low map of a particle from its own ring means, (size, size) float32, centred on [0, 0] with wrap."""
        size = track.crop_bins
        axis = np.fft.fftfreq(size, 1 / size)
        distance = np.hypot(axis[:, None], axis[None])
        place = np.arange(len(track.profile)) * RING_BINS
        rim = 1 / (1 + np.exp(np.clip((place - 1.25 * radius) / 0.5, -60, 60)))
        outside = (place > OUTER_RADII * radius) & (place < size / 2)
        level = float(track.profile[outside].mean()) if outside.any() else 0.0
        return np.asarray(np.interp(distance, place, (track.profile - level) * rim), np.float32)

    def corner(self, track: Track) -> tuple[int, int]:
        """First (row, column) of the crop, bins, held inside the field."""
        half = track.crop_bins // 2
        corner = [
            min(max(round(float(track.mean[axis])) - half, 0), self.field_bins[axis] - track.crop_bins)
            for axis in (0, 1)
        ]
        return corner[0], corner[1]

    def maps(
        self, tracks: list[Track], corners: list[tuple[int, int]], data: Any, mean: float, dead: Any | None
    ) -> list[NDArray[np.float32]]:
        """Energy and low maps of the crops of tracks, (bands + 1, size, size) float32 each, on the host.

        Parameters
        ----------
        corners : (row, column) of every crop, bins. data : (rows, columns) counts; mean : its mean count.
        dead : (rows, columns) bool of bad pixels, or None; on the device like `data`.
        """
        bin_px = self.sampling.bin_px
        found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(tracks)
        for piece in alike(tracks, range(len(tracks)), len(tracks)):
            maker = self.maker(tracks[piece[0]].crop_bins)
            places = [(corners[i][1] * bin_px, corners[i][0] * bin_px) for i in piece]
            crops = contrasts(self.device, data, places, maker.shape, [mean] * len(piece), dead)
            for i, maps in zip(piece, self.device.to_host(maker.maps(crops)), strict=True):
                found[i] = maps
        return found

    def update(
        self,
        track: Track,
        maps: NDArray[np.float32],
        corner: tuple[int, int],
        floors: NDArray[np.float64],
        others: list[Track],
        frames: int,
    ) -> Measurement:
        """Advance a track by one measured frame (predict, measure, posterior mean); the track is changed.

        Parameters
        ----------
        maps : (bands + 1, size, size) float32 of the crop at `corner` (row, column in bins); changed in place.
        floors : (bands,) energy floors at the dose of this frame.
        others : tracks that may reach into the crop: their disc is subtracted and their energy divided out.
        frames : frames since the last update, at least 1.
        """
        if track.template is None:
            raise RuntimeError("build_template must come before update")
        if others:
            self._explain_away(maps, corner, others)
        size = track.crop_bins
        step = self.walk_variance * frames
        prior = track.covariance.copy()
        prior[0, 0] += step
        prior[1, 1] += step
        if track.profile_frames == 0:
            track.profile = np.zeros(int(size * 0.7 / RING_BINS))
        track.profile_frames += 1
        radius = track.radius_bins(self.sampling)
        track.mean, track.covariance, at_mean, inside, outside = measured(
            maps,
            floors,
            track.template.filters,
            waves(size),
            track.mean,
            corner,
            prior,
            (INNER_RADII * radius, OUTER_RADII * radius),
            track.profile,
            1 / min(track.profile_frames, PROFILE_MEMORY),
        )
        return Measurement(
            at_mean + track.template.baseline, float(inside[-1] - outside[-1]), inside[:-1] - 1, float(outside[-1])
        )

    def _explain_away(self, maps: NDArray[np.float32], corner: tuple[int, int], others: list[Track]) -> None:
        """Remove other particles from the maps of a crop, in place."""
        shape = maps.shape[1:]
        softness = SOFT_EDGE_A / self.sampling.bin_A
        for other in others:
            row, column = float(other.mean[0]) - corner[0], float(other.mean[1]) - corner[1]
            disc = soft_disc((shape[0], shape[1]), row, column, other.radius_bins(self.sampling), softness)
            maps[-1] -= np.float32(other.amplitude) * disc
            for band, excess in enumerate(other.excess):
                maps[band] /= 1 + np.float32(DISC_TO_EXCESS * max(0.0, float(excess))) * disc


def alike(tracks: list[Track], chosen: Iterable[int], most: int) -> list[list[int]]:
    """Places of the chosen tracks whose crops have one size, at most so many together."""
    sizes: dict[int, list[int]] = {}
    for i in chosen:
        sizes.setdefault(tracks[i].crop_bins, []).append(i)
    return [same[first : first + most] for _, same in sorted(sizes.items()) for first in range(0, len(same), most)]
