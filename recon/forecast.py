"""How long until the target: from the fall-off of the signal with resolution and the rate at which fresh views come.

Every shell of the half-map FSC says how many views it still needs: its signal-to-noise ratio grows with the number of
effective views, and with resolution it falls as the power of the crystal times ``exp(-B k^2 / 2)`` (Rosenthal &
Henderson, J. Mol. Biol. 333, 721 (2003)). Shells that are seen speak for themselves, the others follow the fit. All
uncertainties are drawn from, so that the answer is an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics.sampling import FourierSampling
from .metrics.shells import NEEDED_SNR, signal_to_noise
from .outlook import VOID, Outlook, Sighting, outlook
from .records import Forecast, Milestone

Floats = NDArray[np.float64]

DRAWS = 400
LIMITS = (0.03, 0.97)  # quantiles of the draws: 91 % of the 239 cases that they were chosen on, 88 % of 146 fresh ones
DRAWN = 0.7  # of their spread about the median is believed: 0.12 of the logarithm were drawn where 0.055 happened
UNSEEN, UNSEEN_SCATTER = 0.6, 0.5  # of the empty share: so much more of the logarithm is needed, +- so much,
MOST_UNSEEN = 0.2  # and no more of the share counts: what is not seen yet holds some of the weakest of each shell
SEEN_SIGMAS = 2.5  # a shell whose FSC exceeds so many of its standard deviations speaks for itself
LEAST_SCATTER = 0.15  # of the logarithm of a shell about the fit
MOST_FSC = 0.995  # beyond, the logarithm of the signal-to-noise ratio is not measured
LEAST_POWER = 1e-3  # of one atom
ATOMS_ERROR = 0.01  # of the correlation of a map with its own atoms, and
VOID_ERROR = 0.1  # of the directions that no view has measured as much again: neither is noise
NOISE_FITTED = 0.015  # share of the power of noise that atoms placed in it explain, three numbers each
WORTH_SCATTER = 0.06  # of the logarithm of the signal, for given effective views: 0.03 to 0.08 in the model
B_PRIOR_A2 = (8.0, 6.0)  # mean and standard deviation before anything is seen: atoms, poses and optics
RECENT_SHARE = 0.35  # of all frames, over which a rate is measured
RECENT_FRAMES = 250  # at least
AHEAD = 4  # times the frames so far: how far into the future views are foreseen
NEXT_FRAMES = 100  # from one map to the next, at least, however near the target: nothing is known sooner
NEVER_S = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How alike a map of all frames and its own atoms are.

    Attributes
    ----------
    correlation : (shells,) FSC of the two. empty : share of the directions that no view has measured, where the map
        holds nothing of the atoms. views : effective views behind the map.
    """

    correlation: Floats
    empty: float
    views: float

    def measured(self, independent: Floats) -> tuple[Floats, Floats]:
        """As `Curve.measured`, from this alone; `independent` (shells,) coefficients.

        A map with the signal-to-noise ratio s, twice that of one half, correlates with what is free of noise as
        ``sqrt(s / (1 + s))`` (Rosenthal & Henderson 2003).
        """
        alike = np.clip(self.correlation / math.sqrt(max(1 - self.empty, 1e-3)), 1e-2, MOST_FSC)
        ratio = alike**2 / (1 - alike**2)
        off = ATOMS_ERROR + VOID_ERROR * self.empty
        error = np.hypot((1 - alike**2) / np.sqrt(independent), off) * (2 / alike + 2 * alike / (1 - alike**2))
        return np.log(ratio / 2 / max(self.views, 1.0)), np.hypot(error, NOISE_FITTED / ratio)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The FSC that a forecast begins with.

    Attributes
    ----------
    correlation : (shells,) half-map FSC, one shell per cycle per `box_A`. first : shell where the lattice begins.
    diameter_A : of the crystal; it has (box / diameter)^3 fewer independent coefficients than the box.
    power : (shells,) power of the crystal without envelope, up to a factor, as `debye_power` gives; 1 if not known.
    likeness : of the map of all frames with its own atoms; None where it has none.
    """

    correlation: Floats
    box_A: float
    diameter_A: float
    first: int
    power: Floats
    likeness: Likeness | None = None

    @property
    def k(self) -> Floats:
        """(shells,) 1/A."""
        return np.asarray(np.arange(len(self.correlation)) / self.box_A, np.float64)

    @property
    def independent(self) -> Floats:
        """(shells,) independent coefficients."""
        shells = np.maximum(np.arange(len(self.correlation)), 1)
        return np.asarray(4 * math.pi * shells**2 * (self.diameter_A / self.box_A) ** 3, np.float64)

    @property
    def deviation(self) -> Floats:
        """(shells,) standard deviation of the FSC."""
        return np.asarray((1 - np.clip(self.correlation, 0, 1) ** 2) / np.sqrt(self.independent) + 1e-3, np.float64)

    def measured(self, views: float) -> tuple[Floats, Floats]:
        """Logarithm of the signal-to-noise ratio of one view, and its standard error, (shells,) each, from what is
        measured of each shell; `views` are those behind the halves.

        At the threshold the correlation of the halves tells it to 10 %, that of the map with its atoms to 5: it
        compares noise with hardly any. Atoms are not quite where they ought to be, and some of the noise is in them;
        both are in its error, so that it counts where signal is weak but there.
        """
        bounded = np.clip(self.correlation, 1e-3, MOST_FSC)
        value = np.log(signal_to_noise(bounded) / views)
        error = np.minimum(self.deviation / (bounded * (1 - bounded)), 1.5)
        if self.likeness is None:
            return value, error
        other, doubt = self.likeness.measured(self.independent)
        weight = error**2 / (error**2 + doubt**2)
        return value + weight * (other - value), error * doubt / np.hypot(error, doubt)


def debye_power(atoms_A: ArrayLike, k: Floats, bins: int = 4000) -> Floats:
    """Mean power on spheres of radius `k` (1/A) of point atoms (n, 3) A, in units of one atom (Debye 1915)."""
    atoms = np.asarray(atoms_A, np.float64)
    if len(atoms) < 2:
        return np.ones(len(k))
    distance = np.linalg.norm(atoms[:, None] - atoms[None], axis=-1).ravel()
    count, edges = np.histogram(distance, bins)
    middle = 0.5 * (edges[1:] + edges[:-1])
    middle[0] = 0.0  # the atoms themselves
    return np.asarray((np.sinc(2 * np.outer(k, middle)) @ count) / len(atoms), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The line ``a - (B / 2) k^2`` of ln(SNR of one view / power) through the shells that are seen.

    `line` (a, B), its `covariance`, `scatter` of shells about it, `error` (shells,) of the measured values `per_view`.
    """

    line: Floats
    covariance: Floats
    scatter: float
    seen: NDArray[np.int64]
    per_view: Floats
    error: Floats


def _fit(curve: Curve, views: float) -> _Fit:
    squared = curve.k**2
    correlation, deviation = curve.correlation, curve.deviation
    seen = np.flatnonzero((correlation > SEEN_SIGMAS * deviation) & (np.arange(len(correlation)) >= curve.first))
    per_view, error = curve.measured(views)
    per_view = per_view - np.log(np.maximum(curve.power, LEAST_POWER))
    design = np.stack([np.ones(len(seen)), -squared[seen] / 2], axis=1)
    scatter = LEAST_SCATTER
    for _ in range(3):
        weight = 1 / (error[seen] ** 2 + scatter**2)
        normal = design.T @ (weight[:, None] * design) + np.diag([1e-6, B_PRIOR_A2[1] ** -2])
        right = design.T @ (weight * per_view[seen]) + np.array([0.0, B_PRIOR_A2[0] / B_PRIOR_A2[1] ** 2])
        line = np.linalg.solve(normal, right)
        rest = per_view[seen] - design @ line
        if len(seen) > 3:
            excess = float((weight * (rest**2 - error[seen] ** 2)).sum() / weight.sum())
            scatter = max(LEAST_SCATTER, math.sqrt(max(excess, 0.0)))
    return _Fit(
        line, np.asarray(np.linalg.inv(normal), np.float64), scatter, seen, per_view, np.asarray(error, np.float64)
    )


def _per_view(correlation: Floats, curve: Curve, views: float) -> Floats:
    return np.log(signal_to_noise(correlation) / views / np.maximum(curve.power, LEAST_POWER))


def b_factor_A2(curve: Curve, views: float) -> float | None:
    """B-factor with which the signal fades, from the shells that are seen; None when too few are."""
    fit = _fit(curve, views)
    return float(fit.line[1]) if len(fit.seen) > 3 else None


def needed_views(curve: Curve, views: float, target_A: float, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Effective views that bring every shell up to the target over the threshold: (draws,), all as likely.

    Parameters
    ----------
    views : effective views behind the curve.
    """
    last = min(math.ceil(curve.box_A / target_A), len(curve.correlation) - 1)
    shells = np.arange(min(curve.first, last), last + 1)
    fit = _fit(curve, views)
    lines = rng.multivariate_normal(fit.line, fit.covariance, draws)
    expected = lines[:, :1] - lines[:, 1:] * curve.k[shells] ** 2 / 2
    own = np.isin(shells, fit.seen)
    gain = np.where(own, fit.scatter**2 / (fit.scatter**2 + fit.error[shells] ** 2), 0.0)
    drawn = expected + gain * (fit.per_view[shells] - expected)
    drawn += fit.scatter * np.sqrt(1 - gain) * rng.normal(size=drawn.shape)
    # a shell that is not seen is weaker than what would be seen
    limit = np.clip(curve.correlation + SEEN_SIGMAS * curve.deviation, 1e-3, MOST_FSC)
    drawn = np.where(own, drawn, np.minimum(drawn, _per_view(limit, curve, views)[shells]))
    needed = math.log(NEEDED_SNR) - drawn - np.log(np.maximum(curve.power[shells], LEAST_POWER))
    most = needed.max(axis=1) + WORTH_SCATTER * rng.normal(size=draws)
    return np.asarray(np.exp(np.minimum(most, 50.0)), np.float64)


def recent(history: Sequence[Milestone]) -> Milestone | None:
    """The milestone from which on a rate is measured: a third of the frames ago, and some hundreds at least."""
    if len(history) < 2:
        return None
    newest = history[-1]
    reach = max(RECENT_FRAMES, RECENT_SHARE * newest.frames_used)
    older = [milestone for milestone in history[:-1] if newest.frames_used - milestone.frames_used >= reach]
    return older[-1] if older else history[0]


def forecast(
    views: Floats,
    history: Sequence[Milestone],
    target_A: float,
    sightings: Sequence[Sighting],
    sampling: FourierSampling,
) -> Forecast:
    """Seconds until the target, as an interval, counted from the newest milestone.

    Parameters
    ----------
    views : (draws,) effective views needed, as of the newest milestone, see `needed_views`. history : oldest first.
    sightings : of the same moments. sampling : their geometry.
    """
    newest, before = history[-1], recent(history)
    if before is None or newest.time_s <= before.time_s:
        return Forecast(target_A, None, None, None, "the rate of fresh views is not known yet")
    rng = np.random.default_rng(newest.frames_used)
    frame_s = (newest.time_s - before.time_s) / max(newest.frames_used - before.frames_used, 1)
    begin = sightings[history.index(before)]
    futures = outlook(begin, sightings[-1], sampling, AHEAD * newest.frames_used, rng)
    views = _with_void(views, newest.empty_fraction, rng)
    frames = np.maximum(_arrival(futures, newest, views), _closing(futures, newest, len(views)))
    seconds = np.minimum(frames * frame_s, 10 * NEVER_S)
    levels = [LIMITS[0], 0.5, LIMITS[1]]
    low, middle, high = (float(q) for q in np.quantile(seconds, levels, method="inverted_cdf"))  # never is no number
    low = min(max(low, NEXT_FRAMES * frame_s), high)
    words = "" if middle < NEVER_S else "at this rate of fresh views the target is out of reach"
    return Forecast(target_A, low, middle if middle < NEVER_S else None, high if high < NEVER_S else None, words)


def _with_void(views: Floats, empty: float, rng: np.random.Generator) -> Floats:
    """(draws,) effective views needed in the end by what now has so large an `empty` share."""
    logarithm, unseen = np.log(views), min(empty, MOST_UNSEEN)
    middle = np.median(logarithm)
    more = unseen * (UNSEEN + UNSEEN_SCATTER * rng.normal(size=len(views)))
    return np.asarray(np.exp(middle + DRAWN * (logarithm - middle) + more), np.float64)


def _arrival(futures: Outlook, newest: Milestone, views: Floats) -> Floats:
    """(draws,) frames until the effective views are those needed; futures are dealt out to the draws in turn."""
    out = np.zeros(len(views))
    marks = np.concatenate([[0.0], futures.frames])
    for number, effective in enumerate(futures.effective):
        course = np.maximum.accumulate(np.concatenate([[newest.effective_views], effective]))
        own = slice(number, None, len(futures.effective))
        wanted = views[own]
        rate = max((course[-1] - course[len(course) // 2]) / (marks[-1] - marks[len(marks) // 2]), 1e-9)
        beyond = marks[-1] + (wanted - course[-1]) / rate
        rising = course + 1e-9 * np.arange(len(course))
        out[own] = np.where(wanted > course[-1], beyond, np.interp(wanted, rising, marks, left=0.0))
    return out


def _closing(futures: Outlook, newest: Milestone, draws: int) -> Floats:
    """(draws,) frames until few enough directions are empty; never in a future that ends before."""
    marks = np.concatenate([[0.0], futures.frames])
    empty = np.column_stack([np.full(len(futures.empty), newest.empty_fraction), futures.empty])
    closed = empty <= VOID
    first = np.where(closed.any(axis=1), marks[closed.argmax(axis=1)], np.inf)
    return np.resize(first, draws)
