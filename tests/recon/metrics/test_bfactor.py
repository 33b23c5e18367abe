"""The line of resolution against views: recovered with an interval that is honest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tumble.recon.metrics.bfactor import fit_b_factor


def test_interval_of_the_b_factor_covers() -> None:
    rng = np.random.default_rng(0)
    views = np.array([200.0, 300, 450, 700, 1000, 1500])
    held = 0
    for _ in range(300):
        squared = 0.12 * np.log(views) - 0.1 + rng.normal(0, 0.02, len(views))
        low, high = fit_b_factor(views, squared**-0.5).b_factor_interval_A2(0.9)
        held += low <= 2 / 0.12 <= high
    assert 0.85 < held / 300 < 0.95


def test_there_and_back() -> None:
    views = np.array([200.0, 400, 800])
    fit = fit_b_factor(views, (0.1 * np.log(views) - 0.2) ** -0.5)
    assert fit.views_for(fit.resolution_A(3000.0)) == pytest.approx(3000)
    assert fit.views_for(0.5) == pytest.approx(math.exp((4 + 0.2) / 0.1), rel=1e-6)
    assert math.isinf(fit.views_for(0.1))


def test_a_resolution_that_does_not_improve_has_no_end() -> None:
    fit = fit_b_factor([200, 400, 800], [1.0, 1.02, 1.04])
    assert math.isinf(fit.views_for(0.9))
    assert math.isinf(fit.b_factor_A2)


def test_a_line_needs_points() -> None:
    with pytest.raises(ValueError, match="3 at different counts"):
        fit_b_factor([200, 400], [1.0, 0.9])
    with pytest.raises(ValueError, match="3 at different counts"):
        fit_b_factor([200, 200, 200], [1.0, 0.9, 0.8])
