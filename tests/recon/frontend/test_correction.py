"""Dark, gain and bad pixels: the frame that would have been without them comes back, and crystals are found in it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tumble.recon.frontend.correction import Calibration, Corrector, median_of_nine
from tumble.recon.frontend.frontend import FrontEnd
from tumble.recon.frontend.options import FrontEndOptions

SHAPE = (37, 41)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def corrected(data: np.ndarray, **tables: np.ndarray) -> tuple[np.ndarray, float]:
    corrector = Corrector(*data.shape, Calibration(**tables))
    out = np.full(data.shape, 77, corrector.dtype(data))
    return out, corrector.apply(data, out)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32])
@pytest.mark.parametrize("tables", [("dark",), ("gain",), ("dark", "gain"), ("dark", "gain", "bad"), ("gain", "bad")])
def test_arithmetic_is_the_textbook_formula(rng, dtype, tables):
    data = rng.integers(0, 200, SHAPE).astype(dtype)
    known = {
        "dark": rng.uniform(0, 5, SHAPE),
        "gain": rng.uniform(0.5, 2, SHAPE),
        "bad": (rng.random(SHAPE) < 0.05).astype(np.uint32),
    }
    out, mean = corrected(data, **{name: known[name] for name in tables})
    expected = (data - (known["dark"] if "dark" in tables else 0.0)) * (known["gain"] if "gain" in tables else 1.0)
    good = known["bad"] == 0 if "bad" in tables else np.ones(SHAPE, bool)
    np.testing.assert_allclose(out[good], expected[good], rtol=1e-5, atol=1e-4)
    assert mean == pytest.approx(expected[good].mean(), rel=1e-6)
    assert out.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_bad_pixels_alone_leave_counts_as_they_are(rng, dtype):
    data = rng.integers(0, 200, SHAPE).astype(dtype)
    bad = np.zeros(SHAPE, np.uint32)
    bad[0, 0] = bad[5, 7] = bad[36, 40] = 4
    data[bad > 0] = np.iinfo(dtype).max
    out, mean = corrected(data, bad=bad)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[bad == 0], data[bad == 0])
    assert mean == pytest.approx(data[bad == 0].mean())
    around = np.delete(data[4:7, 6:9].ravel(), 4)
    assert abs(int(out[5, 7]) - around.mean()) <= 1
    assert abs(int(out[0, 0]) - data[[0, 1, 1], [1, 0, 1]].mean()) <= 1


def test_gap_between_modules_gets_the_mean(rng):
    data = rng.integers(90, 110, SHAPE).astype(np.uint16)
    bad = np.zeros(SHAPE, bool)
    bad[10:15] = True
    data[bad] = 65535
    out, mean = corrected(data, bad=bad)
    np.testing.assert_array_equal(out[11:14], int(mean))
    assert 90 <= out[10].min() <= out[10].max() <= 110  # the rim of a gap has neighbours


def test_unusable_entries_of_tables_are_bad_pixels(rng):
    gain, dark = np.ones(SHAPE), np.zeros(SHAPE)
    gain[1, 1], gain[2, 2], gain[3, 3], dark[4, 4] = 0, np.nan, -1, np.inf
    corrector = Corrector(*SHAPE, Calibration(dark, gain))
    assert corrector.bad is not None
    assert corrector.bad.sum() == 4
    out = np.empty(SHAPE, np.float32)
    mean = corrector.apply(np.full(SHAPE, 7, np.uint8), out)
    assert mean == 7
    np.testing.assert_array_equal(out, 7)


def test_what_a_masked_pixel_of_a_real_type_holds_does_not_matter():
    data = np.full(SHAPE, 3.0, np.float32)
    data[5, 5] = np.nan
    bad = np.isnan(data)
    out, mean = corrected(data, bad=bad)
    assert mean == 3
    np.testing.assert_array_equal(out, 3)


def test_tables_of_another_size_or_without_a_good_pixel_are_refused():
    with pytest.raises(ValueError, match="gain is 3 x 4 px, but frames are 37 x 41 px"):
        Corrector(*SHAPE, Calibration(gain=np.ones((3, 4))))
    with pytest.raises(ValueError, match="no good pixel"):
        Corrector(*SHAPE, Calibration(bad=np.ones(SHAPE)))
    assert not Corrector(*SHAPE).active


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 2), (31, 40)])
def test_median_of_nine_is_that_of_the_general_filter(rng, shape):
    field = rng.poisson(3.0, shape).astype(np.float32)  # with equal values in it
    np.testing.assert_array_equal(median_of_nine(field), median_filter(field, 3, mode="nearest"))


def run(frames, calibration=None):
    front = FrontEnd(*frames[0].shape, 0.358, None, calibration)
    outputs = [front.step(index, index * 0.0025, frame) for index, frame in enumerate(frames)]
    outputs.append(front.flush())
    return front, outputs


def test_crystals_behind_a_bad_detector_are_tracked_as_behind_a_good_one(twin, rng):
    """An uneven, offset camera with a gap and hot pixels, and its calibration: tracks and boxes of the ideal camera."""
    clean = twin.frames[:90]
    shape = clean[0].shape
    gain = np.exp(rng.normal(0, 0.3, shape)) * (1 + np.linspace(-0.5, 0.5, shape[1]))
    dark = rng.uniform(50, 150, shape)
    bad = rng.random(shape) < 0.002
    bad[: shape[0] // 20] = True
    spoilt = [(frame / gain + dark).astype(np.float32) for frame in clean]
    for frame in spoilt:
        frame[bad] = 60000
    front, outputs = run(spoilt, Calibration(dark, gain, bad))
    ideal, expected = run(list(clean))
    assert len(front.particles()) == len(ideal.particles()) == 2
    assert not [reason for out in outputs for reason in out.rejected]
    boxes = {(o.particle, o.frame): o for out in expected for o in out.observations}
    seen = [o for out in outputs for o in out.observations]
    assert len(seen) == len(boxes)
    for observation in seen[::13]:
        twin_box = boxes[observation.particle, observation.frame]
        assert np.hypot(*np.subtract(observation.centre_px, twin_box.centre_px)) < 1.5
        if observation.corner_px == twin_box.corner_px:
            assert np.corrcoef(observation.box.ravel(), twin_box.box.ravel())[0, 1] > 0.98


def test_a_pixel_that_breaks_during_the_series_is_learnt(twin):
    frames = twin.frames[:90].copy()
    frames[55:, 5, 9] = 900
    options = FrontEndOptions(window_frames=40, search_every=1, search_frames=20)
    front = FrontEnd(*frames[0].shape, 0.358, options)
    events = [words for index, frame in enumerate(frames) for words in front.step(index, 0.0, frame).events]
    assert [words for words in events if "bad pixels" in words] == ["1 more bad pixels are left out"]
