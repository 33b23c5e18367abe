"""Figures on the recorded scene with known truth: two crystals, centres, diameters, books, at two doses."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.frontend.frontend import FrontEnd

PIXEL_A = 0.358
FRAMES = 500
TRUE_DIAMETER_A = {"P": 24.7, "Q": 25.3}


@pytest.mark.shared
@pytest.mark.parametrize(("keep", "limit_px"), [(1.0, 1.5), (25 / 80, 2.0)])
def test_two_crystals_are_found_and_followed(shared_data, keep, limit_px):
    import h5py
    import hdf5plugin  # noqa: F401 - registers bitshuffle

    rng = np.random.default_rng(5)
    observations, analysed, rejected = [], [], []
    with h5py.File(shared_data / "scene_PQ.h5") as file:
        dataset = file["frames"]
        front = FrontEnd(*dataset.shape[1:], PIXEL_A)
        for index in range(FRAMES):
            frame = dataset[index]
            if keep < 1:
                frame = rng.binomial(frame, keep).astype(np.uint16)
            out = front.step(index, index * 0.0025, frame)
            observations += out.observations
            analysed += out.analysed
            rejected += out.rejected
    out = front.flush()
    observations += out.observations
    assert [*analysed, *out.analysed] == list(range(FRAMES))
    assert rejected == []
    assert len(front.particles()) == 2
    with h5py.File(shared_data / "truth_PQ.h5") as truth:
        for found in front.particles():
            name = min("PQ", key=lambda n: np.hypot(*(truth[n]["centres_px"][FRAMES - 1] - found.centre_px)))
            mine = [o for o in observations if o.particle == found.particle]
            assert [o.frame for o in mine] == list(range(FRAMES))
            error = np.array([o.centre_px for o in mine]) - truth[name]["centres_px"][:FRAMES]
            assert np.sqrt((error**2).sum(axis=1).mean()) < limit_px
            assert np.hypot(*error.T).max() < 8
            assert abs(found.diameter_A - TRUE_DIAMETER_A[name]) < 2.5
            noise = front.noise(len(mine[0].box))
            assert noise is not None
            counts = 80 * keep * PIXEL_A**2
            assert 0.95 < noise.power.mean() * counts < 1.15
