"""A made-up crystal, followed and reconstructed while nothing else is to be done: what one takes is compiled then.

numba compiles a kernel when it is first called, and keeps it on disk: after an installation the first frames wait for
ten seconds, and the first map comes a minute later than any other. Whoever waits for a stream spends that time before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .device import Device
from .frontend.frontend import FrontEnd
from .frontend.options import FrontEndOptions
from .geometry import box_size_px
from .particle import ParticleReconstruction, ReconstructionOptions
from .records import Observation
from .residual import read_images
from .rotations import from_rotation_vector, multiply, random_rotations, to_matrix
from .spectra import noise_from_boxes

Floats = NDArray[np.float64]
LATTICE_A, DIAMETER_A, PIXEL_A = 3.92, 14.0, 0.31  # few coefficients
SIGMA_A, CONTRAST = 0.45, 30.0  # of a Gaussian atom; its sum in units of the noise of a pixel
STEP_DEG = 3.0
FRAMES, FIRST = 165, 150  # of which the first map is made; some come after it
FIELD_PX, FIELD_PIXEL_A, FIELD_COUNTS, FIELD_FRAMES = 112, 0.5, 10.0, 90  # found after 50, followed in the others


COMPILED_LAST = read_images  # by `rehearse`: where numba has kept it, there is nothing to rehearse


def rehearse(device: Device) -> Iterator[None]:
    """Reconstruct a made-up crystal, a piece of work after the other."""
    rng = np.random.default_rng(0)
    size = box_size_px(DIAMETER_A, PIXEL_A)
    noise = noise_from_boxes(rng.standard_normal((200, size, size), np.float32))
    options = ReconstructionOptions(bootstrap_frames=FIRST)
    particle = ParticleReconstruction(1, PIXEL_A, DIAMETER_A, lambda: noise, options, device)
    for frame, image in enumerate(_images(FRAMES, size, PIXEL_A, rng)):
        box = (rng.standard_normal((size, size)) + CONTRAST * image).astype(np.float32)
        particle.push(
            Observation(
                particle=1, frame=frame, time_s=0.0025 * frame, box=box, corner_px=(0, 0),
                centre_px=(size // 2, size // 2), centre_sd_px=0.5,
            )
        )  # fmt: skip
        while particle.work():
            yield
    particle.status()


def rehearse_front_end(options: FrontEndOptions, threads: int) -> Iterator[None]:
    """Find and follow a made-up crystal, a frame after the other."""
    rng = np.random.default_rng(0)
    front_end = FrontEnd(FIELD_PX, FIELD_PX, FIELD_PIXEL_A, options, threads=threads)
    for frame, image in enumerate(_images(FIELD_FRAMES, FIELD_PX, FIELD_PIXEL_A, rng)):
        counts = rng.poisson(np.maximum(FIELD_COUNTS + 2 * CONTRAST * image, 0.0)).astype(np.uint16)
        front_end.step(frame, 0.0025 * frame, counts)
        yield


def _images(frames: int, size: int, pixel_A: float, rng: np.random.Generator) -> Iterator[Floats]:
    """Projections (size, size) of an irregular piece of an fcc crystal of Gaussian atoms that tumbles in the middle."""
    cells = np.array([cell for cell in product(range(-4, 5), repeat=3) if sum(cell) % 2 == 0]) * LATTICE_A / 2
    inside = (np.linalg.norm(cells, axis=1) < DIAMETER_A / 2) & (cells @ (1.0, 0.4, 0.1) < 0.3 * DIAMETER_A)
    atoms, line, pose = cells[inside], np.arange(size)[:, None] - size // 2, random_rotations(1, rng)[0]
    for _ in range(frames):
        seen, image = atoms @ to_matrix(pose)[:2].T / pixel_A, np.zeros((size, size))
        for sigma, sign in ((SIGMA_A / pixel_A, 1.0), (1 / pixel_A, -1.0)):  # a lens passes little of low frequencies
            x, y = (np.exp(-0.5 * ((line - seen[:, axis]) / sigma) ** 2) for axis in (0, 1))
            image += sign * (y @ x.T) / (2 * np.pi * sigma**2)
        yield image
        pose = multiply(from_rotation_vector(rng.normal(0, np.radians(STEP_DEG), 3)), pose)
