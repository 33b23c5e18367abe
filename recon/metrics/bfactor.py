"""Resolution as a function of the number of views: the straight line of Rosenthal and Henderson, with its uncertainty.

``1/d^2 = s ln N + c`` and ``B = 2 / s`` (J. Mol. Biol. 333, 721 (2003)): the signal falls off with ``exp(-B k^2 / 2)``
in power, so that each factor e in views buys the same step in 1/d^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

LEAST_POINTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class BFactorFit:
    """The line ``1/d^2 = slope ln N + intercept`` and how well it is known.

    Attributes
    ----------
    slope : 1/A^2 for a factor e in views. intercept : 1/A^2 at one view.
    covariance : (2, 2) of (slope, intercept), scaled by the scatter of the points.
    freedom : degrees of freedom of that scatter.
    """

    slope: float
    intercept: float
    covariance: NDArray[np.float64]
    freedom: float

    @property
    def b_factor_A2(self) -> float:
        """2 / slope, in A^2; infinite when more views do not help."""
        return 2 / self.slope if self.slope > 0 else math.inf

    def b_factor_interval_A2(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of the B-factor that holds the true one with probability `level`."""
        reach = student.ppf(0.5 + level / 2, self.freedom) * math.sqrt(max(self.covariance[0, 0], 0.0))
        low, high = self.slope - reach, self.slope + reach
        return (2 / high if high > 0 else math.inf), (2 / low if low > 0 else math.inf)

    def resolution_A(self, views: float) -> float:
        """Resolution that `views` views should give; infinite when the line has not left zero."""
        squared = self.slope * math.log(max(views, 1e-9)) + self.intercept
        return squared**-0.5 if squared > 0 else math.inf

    def views_for(self, resolution_A: float) -> float:
        """Views that should give `resolution_A`; infinite when more views do not help."""
        if self.slope <= 0:
            return math.inf
        return _exponential((resolution_A**-2 - self.intercept) / self.slope)


def _exponential(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def fit_b_factor(views: ArrayLike, resolution_A: ArrayLike, scatter: float = 0.0) -> BFactorFit:
    """Fit the line to resolutions reached with so many views.

    Parameters
    ----------
    views : (n,) number of views. resolution_A : (n,) resolution reached.
    scatter : standard deviation of one 1/d^2 (1/A^2) that is assumed at least; a few points on a line by chance would
        else claim to be exact.

    Raises
    ------
    ValueError : fewer than three points, or all with the same number of views.
    """
    logarithm = np.log(np.asarray(views, np.float64))
    squared = np.asarray(resolution_A, np.float64) ** -2
    if len(logarithm) < LEAST_POINTS or np.ptp(logarithm) < 1e-6:
        raise ValueError(f"{len(logarithm)} points do not make a line: {LEAST_POINTS} at different counts are needed")
    design = np.stack([logarithm, np.ones_like(logarithm)], axis=1)
    solution = np.linalg.lstsq(design, squared, rcond=None)[0]
    freedom = len(squared) - 2
    variance = max(float(((squared - design @ solution) ** 2).sum()) / freedom, scatter**2)
    covariance = variance * np.linalg.inv(design.T @ design)
    return BFactorFit(float(solution[0]), float(solution[1]), covariance, freedom)
