"""The step of the front end on a small scene with known truth: finding, following, books, invariances."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from tumble.recon.frontend.frontend import FrontEnd, FrontEndOutput
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.records import Observation

PIXEL_A = 0.358


def run(frames: Iterable[NDArray], pixel_A: float = PIXEL_A, options: FrontEndOptions | None = None):
    """Feed all frames; return the front end and everything that came out, merged."""
    frames = list(frames)
    front = FrontEnd(*frames[0].shape, pixel_A, options)
    outputs = [front.step(index, index * 0.0025, frame) for index, frame in enumerate(frames)]
    outputs.append(front.flush())
    merged = FrontEndOutput(
        tuple(o for out in outputs for o in out.observations),
        tuple(i for out in outputs for i in out.analysed),
        tuple(r for out in outputs for r in out.rejected),
        tuple(e for out in outputs for e in out.events),
    )
    return front, merged


def of_particle(merged: FrontEndOutput, particle: int) -> list[Observation]:
    return [o for o in merged.observations if o.particle == particle]


def centre_rms_px(observations: list[Observation], truth: NDArray) -> float:
    """2D rms distance of the smoothed track from the truth (frames, 2)."""
    return float(np.sqrt(np.mean([np.sum((np.array(o.centre_px) - truth[o.frame]) ** 2) for o in observations])))


@pytest.fixture(scope="module")
def tracked(twin):
    return run(twin.frames)


def test_finds_both_crystals_and_follows_them(twin, tracked):
    front, merged = tracked
    assert [p.state for p in front.particles()] == ["tracked", "tracked"]
    for found in front.particles():
        observations = of_particle(merged, found.particle)
        errors = [centre_rms_px(observations, truth) for truth in twin.centres]
        assert min(errors) < 1.7
        assert abs(found.diameter_A - 20.0) < 2.5
        assert [o.frame for o in observations] == list(range(len(twin.frames)))
        assert all(o.accepted for o in observations)


def test_every_frame_comes_back_exactly_once(twin):
    frames = list(twin.frames)
    frames[20] = np.zeros_like(frames[20])
    frames[70] = frames[69]
    frames[80] = frames[80][:-1]
    front = FrontEnd(*twin.frames.shape[1:], PIXEL_A)
    back = []
    for index, frame in enumerate(frames):
        out = front.step(index, 0.0, frame)
        back += [*out.analysed, *(i for i, _ in out.rejected)]
        assert len(back) >= index + 1 - 50  # bounded delay
    out = front.flush()
    back += out.analysed
    assert sorted(back) == list(range(len(frames)))
    assert front.flush().analysed == ()


def test_boxes_hold_the_frame_around_the_track(twin, tracked):
    _, merged = tracked
    for observation in merged.observations[::17]:
        x, y = observation.corner_px
        side = len(observation.box)
        raw = twin.frames[observation.frame, y : y + side, x : x + side].astype(float)
        assert observation.box.dtype == np.float32
        level = (raw * (observation.box + 1)).sum() / ((observation.box + 1.0) ** 2).sum()
        np.testing.assert_allclose(raw / level - 1, observation.box, atol=1e-4)
        assert abs(level / raw.mean() - 1) < 0.05
        middle = np.array(observation.corner_px) + side // 2
        assert np.abs(middle - observation.centre_px).max() <= 0.5


def test_same_frames_give_the_same_bits(twin, tracked):
    _, merged = tracked
    _, again = run(twin.frames)
    assert [o.centre_px for o in again.observations] == [o.centre_px for o in merged.observations]
    assert all(np.array_equal(a.box, b.box) for a, b in zip(again.observations, merged.observations, strict=True))


def test_gain_scale_leaves_boxes_unchanged(twin, tracked):
    _, merged = tracked
    _, scaled = run(twin.frames * np.uint16(4))
    assert len(scaled.observations) == len(merged.observations)
    for a, b in zip(scaled.observations, merged.observations, strict=True):
        assert a.corner_px == b.corner_px
        np.testing.assert_allclose(a.box, b.box, rtol=2e-4, atol=2e-5)


def test_cyclic_shift_of_the_frames_shifts_the_tracks(twin, tracked):
    front, merged = tracked
    rolled_front, rolled = run(np.roll(twin.frames, (8, -12), axis=(1, 2)))
    assert len(rolled_front.particles()) == len(front.particles())
    for found in front.particles():
        before = np.array([o.centre_px for o in of_particle(merged, found.particle)])
        after = [np.array([o.centre_px for o in of_particle(rolled, p.particle)]) for p in rolled_front.particles()]
        assert min(np.sqrt(np.mean((a - before - (-12, 8)) ** 2)) for a in after) < 0.2


def test_beam_fluctuations_cancel(twin_maker):
    twin = twin_maker(count=60, starts=((100.0, 100.0),), diameters_A=(20.0,))
    beam = np.random.default_rng(0).uniform(0.9, 1.0, 60)
    dimmed = [
        np.random.default_rng(i).binomial(f, b).astype(np.uint16)
        for i, (f, b) in enumerate(zip(twin.frames, beam, strict=True))
    ]
    _, merged = run(dimmed)
    # Means of boxes at the constant outside of the particle do not follow the beam.
    levels = [o.box[:, :4].mean() for o in merged.observations]
    assert abs(np.corrcoef(levels, beam)[0, 1]) < 0.5
    assert np.std(levels) < 0.03


def test_empty_movie_has_no_particle(twin_maker):
    empty = twin_maker(count=350, shape=(170, 170), starts=())
    front, merged = run(empty.frames, options=FrontEndOptions(search_every=4))
    assert front.particles() == ()
    assert merged.observations == ()
    assert merged.analysed == tuple(range(350))
    assert any("no particle" in event for event in merged.events)


@pytest.mark.parametrize(("diameter_A", "pixel_A"), [(16.0, 0.25), (50.0, 0.6), (30.0, 0.5)])
def test_other_sizes_and_samplings(twin_maker, diameter_A, pixel_A):
    rows = int(2.4 * diameter_A / pixel_A) | 1  # odd
    twin = twin_maker(
        count=55,
        shape=(rows, rows + 8),
        starts=((rows * 0.5, rows * 0.48),),
        diameters_A=(diameter_A,),
        pixel_A=pixel_A,
        counts=80 * pixel_A**2,
        step_px=0.2 / pixel_A,
    )
    front, merged = run(twin.frames, pixel_A)
    (found,) = front.particles()
    assert abs(found.diameter_A / diameter_A - 1) < 0.2
    assert centre_rms_px(of_particle(merged, 1), twin.centres[0]) * pixel_A < 0.8


def test_short_movie_is_searched_at_the_end(twin):
    front, merged = run(twin.frames[:20])
    assert len(front.particles()) == 2
    assert merged.analysed == tuple(range(20))


def test_pixel_size_that_cannot_resolve_a_lattice_is_told_once(twin):
    front, merged = run(twin.frames[:12], 1.5)
    assert front.particles() == ()
    assert merged.analysed == tuple(range(12))
    assert len(merged.events) == 1
    assert "cannot resolve a lattice" in merged.events[0]


def test_noise_spectrum_of_white_noise_is_its_variance(twin_maker):
    rng = np.random.default_rng(3)
    twin = twin_maker(count=100, shape=(220, 240), starts=((60.0, 110.0),), diameters_A=(20.0,))
    frames = twin.frames.copy()
    white = rng.poisson(10.0, frames.shape).astype(np.uint16)
    frames[:, :, 116:] = white[:, :, 116:]
    frames[:, :4], frames[:, -4:] = white[:, :4], white[:, -4:]
    front, merged = run(frames)
    box_px = len(merged.observations[0].box)
    noise = front.noise(box_px)
    assert noise is not None
    assert noise.power.shape == (box_px, box_px)
    assert noise.boxes >= 100
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    ring = (np.hypot(y, x) > 0.3 * box_px) & (np.hypot(y, x) < 0.48 * box_px)
    assert abs(noise.power[ring].mean() * 10.0 - 1) < 0.05
    np.testing.assert_allclose(noise.power[1:, 1:], noise.power[1:, 1:][::-1, ::-1], rtol=1e-5)
