"""Efficiency of an orientation distribution: a real, even point spread function, even views at the top."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.efficiency import BEST, orientation_efficiency, point_spread
from tumble.recon.metrics.reference import view_sets


def test_the_point_spread_is_even_and_peaks_in_the_middle() -> None:
    spread = point_spread(view_sets(100)["cone 30 deg"])
    assert np.unravel_index(spread.argmax(), spread.shape) == (32, 32, 32)
    np.testing.assert_allclose(spread[1:, 1:, 1:], spread[:0:-1, :0:-1, :0:-1], atol=1e-9 * spread.max())


def test_a_cone_of_views_blurs_along_its_axis() -> None:
    spread = point_spread(view_sets(500)["cone 30 deg"])
    assert spread[36, 32, 32] > 1.5 * spread[32, 32, 36]


def test_even_views_are_best_and_the_number_hardly_matters() -> None:
    values = [orientation_efficiency(view_sets(count)["uniform"]) for count in (50, 300, 3000)]
    assert values == pytest.approx([BEST] * 3, abs=0.03)


def test_turning_all_views_changes_little() -> None:
    views = view_sets(800)["tilt +-60 deg"]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert orientation_efficiency(views @ turn) == pytest.approx(orientation_efficiency(views), abs=0.05)


def test_no_views() -> None:
    with pytest.raises(ValueError, match="no views"):
        orientation_efficiency(np.zeros((0, 3)))
