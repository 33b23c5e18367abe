"""A model of a reconstruction for the verdict study: true poses, real Fourier coverage, noise for each coefficient.

It is no run of the program. A crystal of Gaussian atoms with a known 3D transform is seen from simulated views. Every
coefficient is measured by the views in whose central plane it lies, each time with independent noise, and the halves
are alternate blocks of 25 frames, as in the program. Half maps, their FSC and everything derived are computed by the
program's own functions; the truth is the same map without noise. Errors of poses are an envelope. What the model leaves
out: wrong branches (the trust statistic is an input here), errors of the track, interpolation.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from tumble.recon.change import Change, Occupation
from tumble.recon.kinds import FCC, Lattice

Floats = NDArray[np.float64]

BOX_A = 29.0
DIAMETER_A = 24.0
EDGE = 84  # voxels: Nyquist at 1.45 / A
REACH = 38  # Fourier voxels, 1.31 / A
HALF_FRAMES = 25
FRAME_TIME_S = 2.5e-3
ATOM_SIGMA_A = 0.33


@dataclass(frozen=True)
class Case:
    """One simulated movie.

    Attributes
    ----------
    views : motion, one of uniform, tumbling, side band, wedge 60, sticking, spinning.
    noise : of one view and coefficient, against one atom's scattering at zero frequency times sqrt(atoms).
    envelope_A2 : B-factor of poses, motion and optics, on the amplitude exp(-B k^2 / 4).
    dissolve_from : frame from which atoms leave the surface.
    twinned : two grains share a (111) plane off the middle.
    trusted_after : frames from which on the map is trusted; None when it is wrong.
    """

    name: str
    views: str = "tumbling"
    frames: int = 4000
    noise: float = 1.0
    envelope_A2: float = 6.0
    target_A: float = 1.0
    dissolve_from: int | None = None
    trusted_after: int | None = 800
    step_deg: float = 2.5
    seed: int = 0
    twinned: bool = False
    expected: tuple[str, ...] = field(default=("ENOUGH",))


def crystal(seed: int = 0, *, twinned: bool = False) -> Floats:
    """A rough Pt crystal without symmetry: (n, 3) A."""
    rng = np.random.default_rng(seed)
    atoms = Lattice(FCC, 3.97).ball(2 * DIAMETER_A)
    if twinned:
        normal = np.ones(3) / np.sqrt(3)
        upper = atoms[atoms @ normal > -0.1]
        mirrored = upper - 2 * np.outer(upper @ normal, normal)
        atoms = np.concatenate([upper, mirrored[mirrored @ normal < -0.1]]) + 2.3 * normal
    cuts = rng.normal(size=(5, 3))
    cuts /= np.linalg.norm(cuts, axis=1, keepdims=True)
    inside = np.linalg.norm(atoms, axis=1) < DIAMETER_A / 2
    inside &= (atoms @ cuts.T < DIAMETER_A / 2 * rng.uniform(0.55, 0.9, 5)).all(axis=1)
    return atoms[inside] - atoms[inside].mean(axis=0)


def view_directions(case: Case) -> Floats:
    """(frames, 3) directions of the beam in the body frame, one a frame."""
    rng = np.random.default_rng(case.seed)
    count, step = case.frames, np.radians(case.step_deg)
    if case.views == "uniform":
        found = rng.normal(size=(count, 3))
        return found / np.linalg.norm(found, axis=1, keepdims=True)
    if case.views == "side band":  # turning about z, which stays across the beam within a few degrees
        turn = np.cumsum(rng.normal(0, 2 * step, count))
        tilt = rng.normal(0, np.radians(3), count)
        return np.stack([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)], axis=1)
    if case.views == "spinning":  # about an axis 40 degrees off the beam
        turn = np.cumsum(rng.normal(0, 2 * step, count))
        tilt = np.radians(40) + rng.normal(0, np.radians(1), count)
        return np.stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)], axis=1)
    if case.views == "wedge 60":  # rocking about y within +-60 degrees
        tilt = np.radians(60) * np.sin(np.cumsum(rng.normal(0, 2 * step, count)))
        off = rng.normal(0, np.radians(1), count)
        return np.stack([np.sin(tilt) * np.cos(off), np.sin(off), np.cos(tilt) * np.cos(off)], axis=1)
    steps = np.full(count, step)
    if case.views == "sticking":
        steps[1000:] = np.radians(0.05)
    turns = Rotation.from_rotvec(rng.normal(size=(count, 3)) * steps[:, None])
    pose, found = Rotation.random(random_state=np.random.RandomState(case.seed)), []
    for turn in turns:
        pose = turn * pose
        found.append(pose.as_matrix()[2])
    return np.array(found)


@njit(cache=True)
def _measure(points: Floats, views: Floats, counts: NDArray[np.int64]) -> None:
    for point in range(points.shape[0]):
        number = 0
        for view in range(views.shape[0]):
            along = (
                points[point, 0] * views[view, 0]
                + points[point, 1] * views[view, 1]
                + points[point, 2] * views[view, 2]
            )
            number += abs(along) < 0.5
        counts[point] += number


class Reconstruction:
    """Sums of the two halves of one movie, fed in blocks of `HALF_FRAMES` frames."""

    def __init__(self, case: Case) -> None:
        self.case, self.views = case, view_directions(case)
        self._rng = np.random.default_rng(case.seed + 1000)
        whole = np.fft.fftfreq(EDGE, 1 / EDGE)
        z, y, x = np.meshgrid(whole, whole, np.arange(EDGE // 2 + 1.0), indexing="ij")
        radius = np.sqrt(z * z + y * y + x * x)
        self._inside = radius <= REACH
        self._points = np.stack([x[self._inside], y[self._inside], z[self._inside]], axis=1)
        self.radius = radius[self._inside]
        k = self.radius / BOX_A
        self._envelope = np.exp(-2 * np.pi**2 * ATOM_SIGMA_A**2 * k * k - case.envelope_A2 * k * k / 4)
        self.atoms_A = self._first_atoms_A = crystal(case.seed % 5, twinned=case.twinned)
        self._now = self.transform(self.atoms_A)
        self._weight = np.sqrt(2 * len(self.atoms_A)) * case.noise
        self.signal = np.zeros((2, len(k)), np.complex128)
        self.counts = np.zeros((2, len(k)), np.int64)
        self.frames = 0
        self._recent: deque[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.complex128]]] = deque(maxlen=8)

    def transform(self, atoms: Floats) -> NDArray[np.complex128]:
        """Coefficients of a crystal, envelope included."""
        whole = np.fft.fftfreq(EDGE, 1 / EDGE) / BOX_A
        lines = [np.exp(-2j * np.pi * np.outer(whole if a else whole[: EDGE // 2 + 1], atoms[:, a])) for a in range(3)]
        lines[0][-1] = np.exp(-2j * np.pi * (EDGE // 2) / BOX_A * atoms[:, 0])
        zy = (lines[2][:, None, :] * lines[1][None, :, :]).reshape(-1, len(atoms))
        full = (zy @ lines[0].T).reshape(EDGE, EDGE, EDGE // 2 + 1)
        return np.asarray(full[self._inside] * self._envelope)

    def advance(self) -> None:
        """Take the next block."""
        case, start = self.case, self.frames
        if case.dissolve_from is not None and start >= case.dissolve_from and (start // HALF_FRAMES) % 4 == 0:
            reach = np.linalg.norm(self.atoms_A, axis=1)
            self.atoms_A = self.atoms_A[reach < np.quantile(reach, 0.98)]
            self._now = self.transform(self.atoms_A)
        half = (start // HALF_FRAMES) % 2
        seen = np.zeros(len(self.radius), np.int64)
        _measure(self._points, np.ascontiguousarray(self.views[start : start + HALF_FRAMES]), seen)
        hit = np.flatnonzero(seen)
        noise = self._rng.normal(size=(2, len(hit))) * self._weight * np.sqrt(seen[hit] / 2)
        measured = seen[hit] * self._now[hit] + noise[0] + 1j * noise[1]
        self._recent.append((hit, seen[hit], measured))
        self.signal[half, hit] += measured
        self.counts[half] += seen
        self.frames += HALF_FRAMES

    def _solved(self, signal: NDArray[np.complex128], counts: NDArray[np.int64]) -> NDArray[np.complex128]:
        """As the program divides before it knows the FSC: with a twentieth of the mean count of the shell added."""
        shell = np.rint(self.radius).astype(int)
        mean = np.bincount(shell, counts) / np.bincount(shell)
        return np.asarray(signal / (counts + 0.05 * mean[shell] + 1e-9))

    def change(self) -> Change:
        """What the newest 200 frames lack at the places of the atoms, by the rule of `recon.change`."""
        total, counts = self.signal.sum(axis=0), self.counts.sum(axis=0)
        map_now = total / np.maximum(counts, 1)
        lacking, typical = np.zeros_like(total), np.zeros_like(total)
        variance = np.zeros(len(counts))
        for hit, seen, measured in self._recent:
            lacking[hit] += measured - seen * map_now[hit]
            typical[hit] += seen * map_now[hit]
            variance[hit] += seen * self._weight**2
        matched = np.where((self.radius > 0.3 * BOX_A) & (self.radius < 0.9 * BOX_A), self._envelope, 0.0)
        places = (self._first_atoms_A[:, ::-1].T / BOX_A * EDGE) % EDGE
        maps = self._real(lacking * matched, typical * matched)
        found, usual = (map_coordinates(values, places, order=1, mode="grid-wrap") for values in maps)
        level = float(np.median(usual))
        # each coefficient but those of x = 0 stands for two in the real map
        error = np.sqrt(2 * (variance * matched**2).sum()) / EDGE**3 / level
        found = found / level
        nowhere = np.zeros(0)  # no places beside the crystal
        occupation = Occupation(found - np.median(found), np.full(len(found), error), nowhere, nowhere)
        return Change(int(occupation.gone.sum()), 0, len(found), self.frames - 200, 0, self.frames - 1)

    def halves(self) -> tuple[Floats, Floats]:
        """Half maps (EDGE,)*3, what was not measured zero."""
        first, second = self._real(*[self._solved(s, c) for s, c in zip(self.signal, self.counts, strict=True)])
        return first, second

    def true_correlation(self) -> Floats:
        """FSC of the map of all frames with the crystal as it is now, per shell."""
        joint = self._solved(self.signal.sum(axis=0), self.counts.sum(axis=0))
        shell = np.rint(self.radius).astype(int)
        weight = np.where(self._points[:, 0] > 0, 2.0, 1.0)
        cross, own, true = (
            np.bincount(shell, weight * values)
            for values in ((joint * self._now.conj()).real, abs(joint) ** 2, abs(self._now) ** 2)
        )
        return np.asarray(cross / np.sqrt(np.maximum(own * true, 1e-30)), np.float64)

    def joint_and_truth(self) -> tuple[Floats, Floats]:
        """The map of all frames, and the map of the crystal as it is now."""
        joint, truth = self._real(self._solved(self.signal.sum(axis=0), self.counts.sum(axis=0)), self._now)
        return joint, truth

    def joint(self, weight: Floats) -> Floats:
        """The map of all frames (EDGE,)*3, shells multiplied by `weight` (REACH + 1,)."""
        solved = self._solved(self.signal.sum(axis=0), self.counts.sum(axis=0))
        solved *= weight[np.rint(self.radius).astype(int)]
        return self._real(solved)[0]

    def _real(self, *spectra: NDArray[np.complex128]) -> list[Floats]:
        out = []
        for values in spectra:
            grid = np.zeros(self._inside.shape, np.complex128)
            grid[self._inside] = values
            out.append(np.asarray(scipy.fft.irfftn(grid, s=(EDGE,) * 3), np.float64))
        return out
