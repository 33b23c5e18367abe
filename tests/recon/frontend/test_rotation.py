"""Rotation measured without poses, the summing policy, and books of summed frames."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.frontend.bands import sampling_for
from tumble.recon.frontend.frontend import FrontEnd
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.frontend.rotation import frames_to_sum, rotation_step_deg, speckle
from tumble.recon.frontend.summing import FrameSummer, Held


def measured(twin, diameter_A=24.0):
    frames = [(frame, float(frame.mean())) for frame in twin.frames]
    centre = tuple(twin.centres[0].mean(axis=0))
    return rotation_step_deg(speckle(frames, centre, diameter_A, sampling_for(0.358), []), diameter_A)


def scene(twin_maker, step_deg, seed=0, count=50):
    return twin_maker(count=count, starts=((100.0, 100.0),), diameters_A=(24.0,), turn_deg=step_deg, seed=seed)


@pytest.mark.parametrize(("step_deg", "low", "high"), [(0.1, 0.0, 0.7), (0.5, 0.2, 1.5), (2.5, 1.2, 6.0)])
def test_measured_rotation_follows_the_true_one(twin_maker, step_deg, low, high):
    steps = [measured(scene(twin_maker, step_deg, seed)) for seed in range(3)]
    assert low <= np.median(steps) <= high


def test_no_crystal_no_rotation(twin_maker):
    rng = np.random.default_rng(1)
    frames = [(rng.poisson(10, (150, 150)), 10.0) for _ in range(40)]
    assert rotation_step_deg(speckle(frames, (75, 75), 24.0, sampling_for(0.358), []), 24.0) is None


def test_policy():
    assert frames_to_sum(None, 24.0) == 1
    assert frames_to_sum(2.5, 24.0) == 1
    assert frames_to_sum(0.0, 24.0) == 8
    assert frames_to_sum(0.0, 24.0, most=3) == 3
    counts = [frames_to_sum(step, 24.0) for step in (0.01, 0.2, 0.4, 0.6, 1.0, 2.0)]
    assert counts == sorted(counts, reverse=True)
    assert frames_to_sum(0.5, 50.0) <= frames_to_sum(0.5, 15.0)


def test_slow_crystals_are_summed_and_every_frame_comes_back(twin_maker):
    twin = scene(twin_maker, 0.02, count=130)
    frames = list(twin.frames)
    frames[77] = np.zeros_like(frames[77])
    front = FrontEnd(*twin.frames.shape[1:], 0.358)
    outputs = [front.step(index, index * 0.001, frame) for index, frame in enumerate(frames)] + [front.flush()]
    assert any("frames are summed" in event for out in outputs for event in out.events)
    analysed = [i for out in outputs for i in out.analysed]
    rejected = [i for out in outputs for i, _ in out.rejected]
    assert sorted(analysed + rejected) == list(range(130))
    observations = [o for out in outputs for o in out.observations]
    count = len(analysed) / len(observations)
    assert count == round(count)
    assert count > 1
    # Counting noise of the boxes is that of the sum.
    noise = front.noise(len(observations[0].box))
    assert noise is not None
    assert abs(np.median(noise.power) * 10 * count - 1) < 0.35


def test_fast_crystals_are_not_summed(twin_maker):
    twin = scene(twin_maker, 3.0, count=60)
    front = FrontEnd(*twin.frames.shape[1:], 0.358)
    outputs = [front.step(index, index * 0.001, frame) for index, frame in enumerate(twin.frames)] + [front.flush()]
    assert any("not summed" in event for out in outputs for event in out.events)
    assert [o.frame for out in outputs for o in out.observations] == list(range(60))


def test_fixed_sum_is_exact():
    summer = FrameSummer(3)
    held = [Held(i, i * 0.1, np.full((2, 2), i, np.uint16), float(i), (i,)) for i in (0, 1, 2, 3, 9, 10, 11, 12)]
    out = [summer.add(frame) for frame in held]
    sums = [held for held, _ in out if held is not None]
    assert [held.members for held in sums] == [(0, 1, 2), (9, 10, 11)]
    assert [held.index for held in sums] == [1, 10]
    assert sums[1].data.tolist() == [[30, 30], [30, 30]]
    assert sums[1].mean == 30
    assert [left for _, left in out if left] == [(3,)]
    assert summer.rest() == (12,)
    assert summer.rest() == ()


def test_options_are_checked():
    with pytest.raises(ValueError, match="sum_frames"):
        FrontEndOptions(sum_frames=0)
    with pytest.raises(ValueError, match="walk_A"):
        FrontEndOptions(walk_A=0)
