"""A tilt series as it grows: images of known pose in, a map, its halves and what speaks for them out.

The pose of an image is that of the goniometer, turned into the image: ``q = qz q_gonio qz*``, qz the turn about the
beam that takes the x axis to the tilt axis. Volumes come from `solvers.iterative`, each begun with the one before;
shifts, turns in the plane and small errors of the angle are matched on the way. Images are dark-field ones: brighter
where there is more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .device import Device
from .metrics.shells import shell_correlation
from .rotations import conjugate, from_rotation_vector, multiply, normalise
from .solvers.iterative import iterate, total_variation, variation_weight
from .solvers.projector import Projector
from .tilt_images import TiltImages

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
LIVE_ROUNDS, FINAL_ROUNDS = 4, 60  # of the solver, from the volume before
MATCHED_FROM = 5  # tilts before which no map is worth matching an image to
FINAL_MATCHES, MATCH_ROUNDS = 6, 8  # of all tilts at the end, and rounds of the solver after each
TAPER = 0.06  # of a side: soft edge under which halves are compared
MATCHED_TURNS = "yz"  # errors of the tilt angle, and turns in the plane
CHECK_ROUNDS, CHECK_MATCHES = 12, 4  # of a half, before it is judged whether matching is for the better
SURE = 2.0  # standard errors of the mean by which it has to be


def lab_poses(poses: ArrayLike, axis_deg: float) -> Floats:
    """Poses (..., 4) of a goniometer as poses in the image, for a tilt axis `axis_deg` from x (columns) to y (rows)."""
    turn = from_rotation_vector([0.0, 0.0, np.radians(axis_deg)])
    return normalise(multiply(multiply(turn, poses), conjugate(turn)))


def mirrored(poses: ArrayLike) -> Floats:
    """Poses (..., 4) after x and y have changed places: a reflection turns the sense of every rotation."""
    q = np.asarray(poses, np.float64)
    return np.stack([q[..., 0], -q[..., 2], -q[..., 1], -q[..., 3]], axis=-1)


def tilt_angles_deg(poses: ArrayLike, axis_deg: float) -> Floats:
    """How far poses (m, 4) are turned about the tilt axis, degrees, -180 to 180."""
    q = np.asarray(poses, np.float64).reshape(-1, 4)
    along = q[:, 1] * np.cos(np.radians(axis_deg)) + q[:, 2] * np.sin(np.radians(axis_deg))
    sign = np.where(q[:, 0] < 0, -1.0, 1.0)
    return np.degrees(2 * np.arctan2(sign * along, sign * q[:, 0]))


def half_by_rank(angles_deg: Floats) -> NDArray[np.int64]:
    """Half (m,) of each tilt, 0 or 1: every other one in the order of the angles, whatever the order of recording."""
    rank = np.empty(len(angles_deg), np.int64)
    rank[np.argsort(angles_deg, kind="stable")] = np.arange(len(angles_deg))
    return rank % 2


@dataclass(frozen=True, slots=True, eq=False)
class TiltMaps:
    """Maps of all tilts so far, cubes ``[z, y, x]`` float32 with the origin in voxel ``n // 2``.

    Attributes
    ----------
    joint : filtered by what the halves agree on. unfiltered : the same, as the solver left it.
    half1, half2 : of every other tilt, unfiltered.
    fsc : (n // 2 + 1,) of the halves, one value per cycle per box.
    predicted : (shells,) Fourier ring correlation of each tilt with the projection of the map of the other half, which
        does not contain it; mean over the tilts. The last value is that of ``min(image sides) // 2`` cycles.
    misfit : R-factors ``sum |A x - b| / sum |b|`` of the images, in the volume of all of them (unfiltered, with what is
        beside the field), and each in that of the other half. At the end only.
    matched : the poses are matched ones, not those that were told.
    """

    joint: Image
    unfiltered: Image
    half1: Image
    half2: Image
    fsc: Floats
    predicted: Floats
    misfit: tuple[float, float] | None = None
    matched: bool = False


class TiltVolume:
    """The working side of a tilt series; no books, no states.

    Parameters
    ----------
    height, width : of the images, pixels. axis_deg : of the tilt axis, from x (columns) to y (rows).
    align : match shifts and small turns; of a film at the end only. What comes into its field with a new tilt is not in
        the map yet, and shifts matched to that lead astray (measured Ta film: final correlation 0.84 instead of 0.95).
        At the end the poses as told stand, unless matched ones are seen to be better (`_bears_out`).
    wide : how many images wide the specimen is, across the axis. A film goes on beyond the field, and when tilted moves
        into it: what is there has to have a place in the volume, or it is put where it is not.
    thick : how many images thick, along the beam; at most 1. Where a film is known not to be, nothing can be put.
    variation : weight of the total variation, in units of what the noise asks for (`variation_weight`); 0: none.

    An axis nearer to x than to y is worked on with x and y exchanged, because of `TiltImages`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        axis_deg: float,
        device: Device,
        *,
        align: bool = True,
        wide: float = 1.0,
        thick: float = 1.0,
        variation: float = 0.0,
    ) -> None:
        self._exchanged = abs(np.cos(np.radians(axis_deg))) > np.sqrt(0.5)
        self._shape = (width, height) if self._exchanged else (height, width)
        self._device, self._align, self._variation = device, align, variation
        self._follow = align and wide == 1
        across = self._shape[1] + 2 * round((wide - 1) / 2 * self._shape[1])
        self._volume_shape = (max(1, round(thick * self._shape[1])), self._shape[0], across)
        self.edge = max(height, width) + max(height, width) % 2
        self._tilts = TiltImages.none(*self._shape)
        self._volumes: list[Any] = [None, None, None]  # joint, half 1, half 2

    def __len__(self) -> int:
        return len(self._tilts)

    def add(self, image: Image, pose: ArrayLike) -> None:
        """Take an image (height, width), background taken off, and its pose (4,) in the lab frame."""
        given = np.ascontiguousarray(image.T if self._exchanged else image, np.float32)
        self._tilts = self._tilts.joined(given, mirrored(pose) if self._exchanged else np.asarray(pose, np.float64))
        if self._follow and len(self) > MATCHED_FROM and self._volumes[0] is not None:
            self._tilts = self._tilts.matched(self._volumes[0], "", self._device)

    @property
    def poses(self) -> Floats:
        """(m, 4) poses as they are now, lab frame."""
        turned = multiply(_about_beam(self._tilts.in_plane), self._tilts.poses)
        return mirrored(turned) if self._exchanged else turned

    @property
    def shifts_px(self) -> Floats:
        """(m, 2) where the body's origin is seen, (x, y) from pixel ``size // 2`` of each image."""
        cosine, sine = np.cos(self._tilts.in_plane), np.sin(self._tilts.in_plane)
        x, y = self._tilts.shifts_px.T
        shifts = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)
        return shifts[:, ::-1] if self._exchanged else shifts

    def solve(self, halves: NDArray[np.int64], *, final: bool = False) -> TiltMaps:
        """Maps of all images; `halves` (m,) says which half each belongs to.

        Raises
        ------
        ValueError : fewer than two images, or nothing in them.
        """
        every = np.ones(len(self), bool)
        if final and self._align and len(self) > MATCHED_FROM:
            if self._bears_out(halves):
                for _ in range(FINAL_MATCHES):
                    self._advance(0, every, MATCH_ROUNDS)
                    self._tilts = self._tilts.matched(self._volumes[0], MATCHED_TURNS, self._device)
            else:
                self._tilts = self._tilts.as_told()
        rounds = FINAL_ROUNDS if final else LIVE_ROUNDS
        self._advance(0, every, rounds)
        for half in (0, 1):
            self._advance(1 + half, halves == half, rounds)
        joint, *parts = (self._cube(volume) for volume in self._volumes)
        fsc = shell_correlation(parts[0] * self._window(), parts[1] * self._window())
        unseen = self._unseen(halves)
        predicted, matched = self._predicted(unseen), bool(self._tilts.shifts_px.any())
        maps = TiltMaps(_filtered(joint, fsc), joint, parts[0], parts[1], fsc, predicted, matched=matched)
        if not final:
            return maps
        seen = self._host(self._projector().forward(self._volumes[0]))
        return replace(maps, misfit=(self._r_factor(seen), self._r_factor(unseen)))

    def _projector(self) -> Projector:
        return self._tilts.projector(self._volume_shape, self._device)

    def _advance(self, number: int, which: NDArray[np.bool_], rounds: int) -> None:
        projector, images = self._projector().select(which), self._tilts.images[which]
        self._volumes[number] = self._solved(projector, images, self._volumes[number], rounds)

    def _solved(self, projector: Projector, images: Image, start: Any, rounds: int) -> Any:
        """A volume after so many rounds of the solver more."""
        if not self._variation:
            return iterate(projector, images, start=start, iterations=rounds).volume
        weight = self._variation * variation_weight(images)
        return total_variation(projector, images, weight=weight, start=start, iterations=rounds).volume

    def _bears_out(self, halves: NDArray[np.int64]) -> bool:
        """Whether matching makes a map of one half tell the images of the other better, by `SURE` standard errors.

        Matched always looks better on the images that were matched. So it is done anew within each half, from the poses
        as told, and judged by images that had no part in it; those may move and turn towards either map.
        """
        gains: list[float] = []
        for half in (0, 1):
            tilts, unseen = self._tilts.as_told(halves == half), self._tilts.as_told(halves != half)
            if min(len(tilts), len(unseen)) < 2:
                return False
            projector = tilts.projector(self._volume_shape, self._device)
            volume = begun = self._solved(projector, tilts.images, None, CHECK_ROUNDS)
            told = self._solved(projector, tilts.images, begun, CHECK_MATCHES * MATCH_ROUNDS)
            for _ in range(CHECK_MATCHES):
                tilts = tilts.matched(volume, MATCHED_TURNS, self._device)
                projector = tilts.projector(self._volume_shape, self._device)
                volume = self._solved(projector, tilts.images, volume, MATCH_ROUNDS)
            gains += list(np.log(self._rest(unseen, told) / self._rest(unseen, volume)))
        return float(np.mean(gains)) > SURE * float(np.std(gains)) / np.sqrt(len(gains))

    def _rest(self, tilts: TiltImages, volume: Any) -> Floats:
        """What a volume leaves of each image (m,), the image being where it suits the volume, and as bright."""
        for _ in range(CHECK_MATCHES):
            tilts = tilts.matched(volume, MATCHED_TURNS, self._device)
        seen = self._host(tilts.projector(self._volume_shape, self._device).forward(volume)).astype(np.float64)
        axes = (1, 2)
        scale = (seen * tilts.images).sum(axis=axes) / np.maximum((seen * seen).sum(axis=axes), 1e-30)
        left = tilts.images - scale[:, None, None] * seen
        return np.sqrt((left * left).sum(axis=axes))

    def _unseen(self, halves: NDArray[np.int64]) -> Image:
        """Projections (m, h, w), each of the map of the half that does not contain the image."""
        projector, unseen = self._projector(), np.empty_like(self._tilts.images)
        for half in (0, 1):
            unseen[halves == half] = self._host(projector.select(halves == half).forward(self._volumes[2 - half]))
        return unseen

    def _predicted(self, unseen: Image) -> Floats:
        rings = min(self._shape) // 2 + 1
        pairs = zip(self._tilts.images, unseen, strict=True)
        return np.asarray(np.mean([ring_correlation(image, other, rings) for image, other in pairs], axis=0))

    def _r_factor(self, projected: Image) -> float:
        return float(np.abs(projected - self._tilts.images).sum() / np.abs(self._tilts.images).sum())

    def _host(self, array: Any) -> NDArray[np.float32]:
        return np.asarray(self._device.to_host(array), np.float32)

    def _cube(self, volume: Any) -> Image:
        """The field of a volume, in a cube."""
        beside = (volume.shape[2] - self._shape[1]) // 2
        host = self._host(volume)[:, :, beside : beside + self._shape[1]]
        inner = host.transpose(0, 2, 1) if self._exchanged else host
        cube = np.zeros((self.edge,) * 3, np.float32)
        cube[tuple(slice(self.edge // 2 - n // 2, self.edge // 2 - n // 2 + n) for n in inner.shape)] = inner
        return cube

    def _window(self) -> Image:
        """Soft edge of the part of the cube that the solver fills."""
        height, width = self._shape
        lines = np.meshgrid(*(_taper(n) for n in (self._volume_shape[0], height, width)), indexing="ij")
        return self._cube(self._device.asarray(lines[0] * lines[1] * lines[2]))


def _about_beam(angles: Floats) -> Floats:
    vectors = np.zeros((len(angles), 3))
    vectors[:, 2] = angles
    return from_rotation_vector(vectors)


def _taper(length: int) -> Image:
    """(length,) 1 inside, half a cosine to 0 at both ends."""
    inside = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(inside / (TAPER * length + 1), 0, 1))).astype(np.float32)


def _filtered(volume: Image, fsc: Floats) -> Image:
    """The map of all images weighted by how well it is known, ``sqrt(2 F / (1 + F))`` per shell (Rosenthal &
    Henderson, J. Mol. Biol. 333, 721 (2003)).
    """
    smooth = np.convolve(np.pad(fsc, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    smooth[0] = 1.0
    factor = np.sqrt(2 * np.clip(smooth, 0, 1) / (1 + np.clip(smooth, 0, 1)))
    edge = volume.shape[0]
    axis = np.fft.fftfreq(edge, 1 / edge)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + np.arange(edge // 2 + 1) ** 2)
    spectrum = np.fft.rfftn(volume) * np.interp(radius, np.arange(len(factor)), factor)
    return np.asarray(np.fft.irfftn(spectrum, s=volume.shape, axes=(0, 1, 2)), np.float32)


def ring_correlation(first: Image, second: Image, rings: int) -> Floats:
    """Fourier ring correlation (rings,) of two images (h, w) under a soft edge; rings are cycles per shorter side."""
    height, width = first.shape
    window = _taper(height)[:, None] * _taper(width)[None, :]
    a, b = (np.fft.rfft2((image - image.mean()) * window) for image in (first, second))
    short = min(height, width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]) * short
    ring = np.rint(radius).astype(np.int64).ravel()

    def summed(values: NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(ring, values.ravel(), rings)[:rings], np.float64)

    power = np.sqrt(summed(abs(a) ** 2) * summed(abs(b) ** 2))
    return np.divide(summed((a * b.conj()).real), power, out=np.zeros(rings), where=power > 0)
