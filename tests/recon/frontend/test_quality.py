"""Bad frames are refused with the right reason, good ones never."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.frontend.quality import FrameGate, Levels, median, sample_stride

SHAPE = (40, 48)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def settled(rng, frames=30, dtype=np.uint16):
    gate = FrameGate(*SHAPE, FrontEndOptions())
    for index in range(frames):
        assert gate.check(index, rng.poisson(12, SHAPE).astype(dtype)) == ""
    return gate


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda good: good[:-1], "wrong shape"),
        (lambda good: good[None], "wrong shape"),
        (lambda good: good.astype(complex), "wrong type"),
        (lambda good: good.astype(str), "wrong type"),
        (np.zeros_like, "blank"),
        (lambda good: good // 10, "blank"),
        (lambda good: np.where(good > 0, np.nan, 1.0), "not finite"),
        (lambda good: np.where(good > 20, np.inf, good), "not finite"),
        (lambda good: good * np.uint16(2), "dose jump"),
        (lambda good: (good * 0.6).astype(np.uint16), "dose jump"),
        (lambda good: np.where(good > 15, 65535, good).astype(np.uint16), "saturated"),
        (lambda good: np.full_like(good, 65535), "blank"),
        (lambda good: -good.astype(np.int32), "blank"),
    ],
)
def test_bad_frame_has_its_reason_and_the_next_good_one_passes(rng, make, reason):
    gate = settled(rng)
    assert gate.check(30, make(rng.poisson(12, SHAPE).astype(np.uint16))) == reason
    assert gate.check(31, rng.poisson(12, SHAPE).astype(np.uint16)) == ""


def test_repeats_are_duplicates(rng):
    gate = settled(rng)
    frame = rng.poisson(12, SHAPE).astype(np.uint16)
    assert gate.check(30, frame) == ""
    assert gate.check(31, frame.copy()) == "duplicate"
    assert gate.check(31, rng.poisson(12, SHAPE).astype(np.uint16)) == "duplicate"
    assert gate.check(12, rng.poisson(12, SHAPE).astype(np.uint16)) == "duplicate"
    assert gate.check(32, rng.poisson(12, SHAPE).astype(np.uint16)) == ""


def test_a_lasting_new_dose_is_taken_over(rng):
    gate = settled(rng)
    reasons = [gate.check(30 + i, rng.poisson(30, SHAPE).astype(np.uint16)) for i in range(20)]
    assert reasons[:7] == ["dose jump"] * 7
    assert set(reasons[8:]) == {""}


def test_a_beam_that_breathes_is_no_jump(rng):
    gate = settled(rng)
    for index in range(30, 200):
        beam = 12 * (1 + 0.15 * np.sin(index / 9))
        assert gate.check(index, rng.poisson(beam, SHAPE).astype(np.uint16)) == ""


def test_masked_pixels_are_not_saturation(rng):
    gate = FrameGate(*SHAPE, FrontEndOptions())
    for index in range(20):
        frame = rng.poisson(12, SHAPE).astype(np.uint16)
        frame[:3] = 65535  # a gap between modules
        assert gate.check(index, frame) == ""
        assert abs(gate.mean - 12) < 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_every_usual_type_passes(rng, dtype):
    gate = settled(rng, dtype=dtype)
    assert abs(gate.mean - 12) < 1


def test_a_first_bad_frame_does_not_block_the_movie(rng):
    gate = FrameGate(*SHAPE, FrontEndOptions())
    gate.check(0, rng.poisson(40, SHAPE).astype(np.uint16))
    reasons = [gate.check(1 + i, rng.poisson(12, SHAPE).astype(np.uint16)) for i in range(30)]
    assert set(reasons[10:]) == {""}


@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_the_median_is_that_of_numpy(rng, count):
    values = rng.random(count).tolist()
    assert median(values) == float(np.median(values))


def test_what_a_pass_over_the_frame_told_is_believed(rng):
    gate, told = settled(rng), settled(np.random.default_rng(7))
    frame = rng.poisson(12, SHAPE).astype(np.uint16)
    sample = frame.reshape(-1)[:: sample_stride(frame.size)]
    levels = Levels(int(frame.sum()), 0, sample)
    for index in (30, 31):
        assert gate.check(index, frame) == told.check(index, frame, levels=levels) == ("duplicate" * (index == 31))
    assert gate.mean == told.mean
