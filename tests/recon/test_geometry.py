"""Sizes, the half plane of Friedel pairs and the masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.recon.geometry import box_mask, box_ring, box_size_px, fast_length, half_plane, raised_cosine
from tumble.recon.limits import limits

seeded = settings(derandomize=True, deadline=None, max_examples=60)  # the same examples in every run


@seeded
@given(st.floats(1, 5000))
def test_fast_length(minimum: float) -> None:
    length = fast_length(minimum)
    assert length >= minimum
    assert length % 2 == 0
    rest = length
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    assert rest == 1


def test_fast_length_is_the_smallest() -> None:
    good = sorted(2**a * 3**b * 5**c for a in range(1, 12) for b in range(8) for c in range(6))
    for minimum in range(2, 600):
        assert fast_length(minimum) == next(g for g in good if g >= minimum)


@seeded
@given(st.floats(3, 100), st.floats(0.1, 1.0))
def test_box_holds_the_particle(diameter: float, pixel: float) -> None:
    box = box_size_px(diameter, pixel)
    assert box >= 64
    assert box % 2 == 0
    assert box * pixel >= 1.4 * diameter * (1 - 1e-12)


@pytest.mark.parametrize(("diameter", "pixel"), [(0, 0.3), (20, 0), (-1, 0.3), (float("nan"), 0.3), (20, float("nan"))])
def test_sizes_must_be_positive(diameter: float, pixel: float) -> None:
    with pytest.raises(ValueError, match="must both be positive"):
        box_size_px(diameter, pixel)


@pytest.mark.parametrize(("box", "k_max"), [(64, 1), (64, 20), (96, 42)])
def test_half_plane_holds_one_of_each_friedel_pair(box: int, k_max: int) -> None:
    plane = half_plane(box, k_max)
    kept = list(zip(plane.kx.tolist(), plane.ky.tolist(), strict=True))
    assert len(set(kept)) == len(kept)
    for ky in range(-k_max - 1, k_max + 2):
        for kx in range(-k_max - 1, k_max + 2):
            inside = 1 <= kx * kx + ky * ky <= k_max * k_max
            assert ((kx, ky) in kept) + ((-kx, -ky) in kept) == (1 if inside else 0)


def test_half_plane_is_sorted_and_counts() -> None:
    plane = half_plane(64, 24)
    assert (np.diff(plane.radius) >= 0).all()
    np.testing.assert_allclose(plane.radius, np.hypot(plane.kx, plane.ky), rtol=1e-6)
    for radius in (0.5, 1, 5, 13, 24, 30):  # 5 and 13 are radii of Pythagorean points: on the rim counts as inside
        assert plane.count(radius) == (plane.kx.astype(int) ** 2 + plane.ky.astype(int) ** 2 <= radius**2).sum()


@pytest.mark.parametrize("k_max", [0, 32, 100])
def test_half_plane_stays_below_nyquist(k_max: int) -> None:
    with pytest.raises(ValueError, match=r"outside 1\.\.31"):
        half_plane(64, k_max)


def test_raised_cosine() -> None:
    values = raised_cosine(np.array([0.0, 5.0, 6.0, 7.0, 9.0]), 5.0, 2.0)
    np.testing.assert_allclose(values, [1, 1, 0.5, 0, 0], atol=1e-7)


@pytest.mark.parametrize("box", [64, 96])
def test_mask_and_ring(box: int) -> None:
    mask, ring = box_mask(box), box_ring(box)
    y, x = np.mgrid[:box, :box] - box // 2
    radius = np.hypot(y, x)
    assert (mask[radius <= 42 / 96 * box] == 1).all()
    assert (mask[radius >= 47 / 96 * box] == 0).all()
    np.testing.assert_array_equal(mask, mask.T)
    np.testing.assert_array_equal(mask[1:, 1:], mask[:0:-1, :0:-1])  # about pixel n // 2
    assert ring.sum() > 2 * box
    assert mask[ring].max() < 1
    assert radius[ring].min() >= 43 / 96 * box


def test_limits_scale_with_the_reciprocal_lattice() -> None:
    platinum, gold = limits(96, 0.358, 3.97), limits(96, 0.358, 3.97 * 1.1)
    assert platinum.index == round(0.873 * 96 * 0.358)
    assert gold.index == round(platinum.index / 1.1)
    assert platinum.index <= platinum.largest
    assert platinum.score < platinum.score_grid <= platinum.refine_grid <= platinum.final < 48
    coarse = limits(64, 0.6, 3.97)
    assert max(coarse.final, *coarse.refine) <= 0.94 * 32


def test_pixels_too_coarse_for_the_lattice_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="use a higher magnification") as refusal:
        limits(64, 1.0, 3.97)
    assert "\n" not in str(refusal.value)
