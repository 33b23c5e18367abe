"""The least that every step of the path has to do, in operations and bytes, from sizes alone; and what machines can do.

One operation is one addition or multiplication of two numbers; a real transform of n points takes 2.5 n log2 n of them.
Bytes are the least that has to move through memory: inputs once, results once, per launch; what stays in a cache is
free. Refinements count all their rounds, though a pose that has converged stops sooner. Kernels are counted per Fourier
coefficient, read off `recon/kernels/bodies.py`; everything else from the code of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# operations per coefficient
SLICE_FLOPS = 56  # coordinates, weights, two trilinear sums
SCORE_FLOPS = 72 + 4 * 28  # one slice for the pose and its half turn, cross terms, two Newton passes of each
REFINE_FLOPS = 270  # value, gradient and normal matrix, once per round and once before
INSERT_FLOPS = 96  # phase, weights, three additions to each of eight neighbours
# per pair of states of two frames: transition, Viterbi, forward, backward
CHAIN_FLOPS = 30
# per point of the half spectrum beside each volume transform: weights, division or filter, mask, attenuation
PASS_FLOPS, PASS_BYTES = 6, 12  # a complex value and a weight read
COUNT_BYTES, REAL_BYTES, COMPLEX_BYTES = 2, 4, 8  # of a detector count, float32, complex64
POSE_BYTES = 44  # rotation and shift, float32
CELL_FLOPS = 60  # view direction of a pose and its cell


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations and bytes."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.flops * times, self.bytes * times)


@dataclass(frozen=True, slots=True)
class Roof:
    """What a machine can do at best: operations per second, bytes per second."""

    flops: float
    bytes: float

    def floor_ms(self, flops: float, moved: float) -> float:
        """Least time for this much arithmetic and traffic, ms."""
        return 1e3 * max(flops / self.flops, moved / self.bytes)


CPU_CORE = Roof(flops=50e9, bytes=10e9)  # 0.25 GFlop in 2.5 ms on two cores
GPU = Roof(flops=67e12, bytes=4.8e12)  # NVIDIA H200 data sheet: float32 without tensor cores, memory


# ---------------------------------------------------------------- kernels and transforms, per launch


def transform(shape: tuple[int, ...], howmany: int = 1) -> Cost:
    """Real transforms of arrays of `shape`; those of volumes with the pass over the spectrum that goes with them."""
    points = math.prod(shape)
    cost = Cost(2.5 * points * math.log2(max(points, 2)), COMPLEX_BYTES * points)
    if len(shape) == 3:
        cost += Cost(PASS_FLOPS, PASS_BYTES) * (points / 2)
    return cost * howmany


def lines(shape: tuple[int, ...], axis: int, *, real: bool) -> Cost:
    """Transforms along one axis of an array, part of a transform that leaves out what is zero or not wanted.

    Every volume transform has one real part; the pass over the spectrum is counted with that.
    """
    points, length = math.prod(shape), shape[axis]
    each = Cost(2.5 * math.log2(max(length, 2)), COMPLEX_BYTES)
    if real:
        return each * points + Cost(PASS_FLOPS, PASS_BYTES) * (points / 2 if len(shape) == 3 else 0)
    return each * (2 * points)


def slices(poses: int, count: int, volume_bytes: int) -> Cost:
    """Slices of a volume, `count` coefficients of each pose."""
    return Cost(SLICE_FLOPS * poses * count, volume_bytes + COMPLEX_BYTES * poses * count)


def scores(poses: int, frames: int, count: int, volume_bytes: int) -> Cost:
    """Scores and best shifts of pairs of a pose and its half turn, of boxes in `frames` rows."""
    moved = volume_bytes + COMPLEX_BYTES * count * frames + (36 + 24) * poses
    return Cost(SCORE_FLOPS * poses * count, moved)


def refinements(poses: int, frames: int, count: int, rounds: int, volume_bytes: int) -> Cost:
    """Refined poses of boxes in `frames` different rows."""
    moved = volume_bytes + COMPLEX_BYTES * count * frames + 2 * POSE_BYTES * poses
    return Cost(REFINE_FLOPS * poses * count * (rounds + 1), moved)


def insertions(boxes: int, count: int, sums_bytes: int) -> Cost:
    """Boxes added to sums, which are read and written once."""
    return Cost(INSERT_FLOPS * boxes * count, 2 * sums_bytes + COMPLEX_BYTES * count * boxes)


# ---------------------------------------------------------------- steps that launch no kernel


def maps_of_field(size_px: int, bands: int) -> Cost:
    """Energy of every lattice band and the low map of a square field: contrast, transforms, filters, means."""
    points = size_px**2
    each = Cost(2.5 * points * math.log2(points) + 3 * points + 2 * points)
    return each * bands + Cost(2.5 * points * math.log2(points) + 3 * points, (COUNT_BYTES + 2 * REAL_BYTES) * points)


@dataclass(frozen=True, slots=True)
class FrontEndSizes:
    """Lengths in px; `crop_px` is the square that is tracked on, `bin_px` its binning, `search_every` in frames."""

    frame_px: int
    box_px: int
    crop_px: int
    bin_px: int
    bands: int
    noise_boxes: float
    search_every: int
    wire_bytes: float


def front_end(sizes: FrontEndSizes) -> dict[str, Cost]:
    """Per frame, one particle in it."""
    pixels = float(sizes.frame_px**2)
    raw = COUNT_BYTES * pixels
    binned = (sizes.crop_px / sizes.bin_px) ** 2
    match = Cost((sizes.bands + 2) * 2.5 * binned * math.log2(binned) + 4 * (sizes.bands + 1) * binned)
    box = float(sizes.box_px**2)
    empty = Cost(2.5 * box * math.log2(box) + 6 * box, (COUNT_BYTES + REAL_BYTES) * box)
    return {
        "decode": Cost(0.0, raw + sizes.wire_bytes),  # bit operations are not counted
        "check": Cost(0.0, 8 * 4096),  # a sample, that of the frame before, both read and written
        "keep": Cost(2 * pixels, 2 * raw),  # sum, maximum
        "detect": maps_of_field(sizes.frame_px, sizes.bands) * (1 / sizes.search_every),
        "track": maps_of_field(sizes.crop_px, sizes.bands) + match,
        "noise": empty * sizes.noise_boxes,
        "box": Cost(2 * box, (COUNT_BYTES + REAL_BYTES) * box),
    }


def search(poses: int, shifts: int, coefficients: int, batch_frames: int) -> Cost:
    """Exhaustive search, per frame: the matrix product, the best shift of every pose, two sweeps of the chain."""
    flops = 2.0 * poses * shifts * coefficients + 2.0 * poses * shifts + 10.0 * poses
    return Cost(flops, REAL_BYTES * (poses * coefficients / batch_frames + coefficients * 2) + 5.0 * poses)


def decisions(states: int, turns: float) -> Cost:
    """Chain over `states` per frame, decided `turns` times."""
    return Cost(CHAIN_FLOPS * states**2, REAL_BYTES * states**2) * turns


def atoms(box_px: int) -> Cost:
    """Per map: smoothing and a spline of three maps, local maxima of one, all three moved to the centroid."""
    points = float(box_px**3)
    smooth = Cost(3 * 2 * 9 * points, 2 * REAL_BYTES * points) * 3
    spline = Cost(3 * 4 * points, 2 * REAL_BYTES * points) * 3
    crest = Cost(3 * 6 * points, 2 * REAL_BYTES * points)
    return smooth + spline + crest + transform((box_px,) * 3, 6)


def status(frames: int, box_px: int) -> Cost:
    """Per snapshot: coverage of the frames in the buffer, the brightest density of a layer of the map."""
    layer = 7.0 * box_px**2
    return Cost(CELL_FLOPS * frames + layer, 33.0 * frames + REAL_BYTES * layer)


def snapshot(text_bytes: float, box_px: int) -> Cost:
    """Per snapshot: its text written once, its picture read and scaled."""
    return Cost(4.0 * box_px**2, text_bytes + REAL_BYTES * box_px**2)
