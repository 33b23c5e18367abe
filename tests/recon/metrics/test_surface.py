"""Surface and volume of bodies with a formula."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.surface import area_and_volume, sphericity


def _distance(edge: int, centre: float = 0.0) -> np.ndarray:
    line = np.arange(edge) - edge // 2 - centre
    return np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2)


@pytest.mark.parametrize("centre", [0.0, 0.3])
def test_ball(centre: float) -> None:
    area, volume = area_and_volume(10 - _distance(31, centre), 0.0)
    assert area == pytest.approx(4 * np.pi * 100, rel=0.01)
    assert volume == pytest.approx(4 / 3 * np.pi * 1000, rel=0.01)


def test_two_balls_add_up() -> None:
    ball = np.maximum(0.0, 6 - _distance(21))
    one = area_and_volume(ball, 1e-3)
    two = area_and_volume(np.concatenate([ball, ball], axis=2), 1e-3)
    assert two == pytest.approx((2 * one[0], 2 * one[1]))


def test_box() -> None:
    field = np.zeros((20, 24, 28))
    field[5:15, 5:19, 5:23] = 1.0
    area, volume = area_and_volume(field, 0.5)  # the surface lies half a voxel outside of the ones
    assert volume == pytest.approx(10 * 14 * 18, rel=0.01)
    assert area == pytest.approx(2 * (10 * 14 + 14 * 18 + 10 * 18), rel=0.08)


def test_a_rod_is_no_sphere() -> None:
    rod = np.zeros((41, 15, 15))
    rod[5:36, 5:10, 5:10] = 1.0
    assert sphericity(_distance(41) < 14) == pytest.approx(1.0, abs=0.01)
    assert sphericity(rod) < 0.75


def test_a_body_that_is_cut_off_has_no_surface() -> None:
    with pytest.raises(ValueError, match="border"):
        area_and_volume(np.ones((5, 5, 5)), 0.5)
    with pytest.raises(ValueError, match="no body"):
        area_and_volume(np.zeros((5, 5, 5)), 0.5)
