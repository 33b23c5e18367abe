"""Whether to go on with a tilt series: what the angles leave open, which tilt comes next, and the word for it.

With one tilt axis what is missing is known from the angles alone. Inside the open wedge nothing was measured; what
positivity puts there is alike in both halves, and no correlation speaks for it. Nor does any for the tilt axis: with
one that was 90 degrees off the halves agreed to 1.33 A, with the right one to 1.31 A, and left-out tilts by 0.28 and
0.40. So ENOUGH, which needs trust, is never said of a tilt series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics.sampling import tilt_elongation
from .records import Trust, Verdict

Floats = NDArray[np.float64]
WIDE = 1.75  # times the usual step: a gap
USUAL_STEP_DEG = 2.0  # while there are too few tilts to have one
CLOSED_DEG = 7.5  # a wider opening is a wedge, however coarse the steps are
CROSSING = 1.05  # one shell may dip below the threshold this near to the target
TOLD_APART = (
    0.2  # ring correlation of left-out tilts, in the finer half of what is resolved, below which a map is wrong
)


@dataclass(frozen=True, slots=True)
class TiltGeometry:
    """What the angles of a tilt series leave open.

    Attributes
    ----------
    tilts : how many. low_deg, high_deg : the outermost. step_deg : the usual one.
    wedge_deg : opening of what no tilt has seen, 0 when the series closes (half a turn).
    elongation : along the beam, by the wedge alone; 1 when it is closed.
    next_deg : the tilt that would help most; None when nothing is open.
    gap : the next one is in a gap between others, not beyond the outermost.
    """

    tilts: int
    low_deg: float
    high_deg: float
    step_deg: float
    wedge_deg: float
    elongation: float
    next_deg: float | None
    gap: bool


def tilt_geometry(angles_deg: ArrayLike) -> TiltGeometry:
    """Geometry of a series of angles (m,), degrees, in any order.

    Raises
    ------
    ValueError : there is none.
    """
    angles = np.unique(np.round(np.asarray(angles_deg, np.float64), 2))
    if not len(angles):
        raise ValueError("a tilt series without a tilt")
    steps = np.diff(angles)
    step = float(np.median(steps)) if len(steps) > 1 else USUAL_STEP_DEG
    low, high = float(angles[0]), float(angles[-1])
    span = high - low
    open_deg = max(0.0, 180.0 - span)
    wedge = open_deg if open_deg > min(WIDE * step, CLOSED_DEG) else 0.0
    half_span = min(span, 180.0) / 2
    elongation = tilt_elongation(half_span) if wedge and half_span > 0.5 else (1.0 if not wedge else float("inf"))
    count = len(np.asarray(angles_deg).ravel())
    if len(steps) > 1 and steps.max() > WIDE * step:
        at = int(steps.argmax())
        middle = float(angles[at] + angles[at + 1]) / 2
        return TiltGeometry(count, low, high, step, wedge, elongation, middle, gap=True)
    outward = min((low - step, high + step), key=abs) if wedge else None
    return TiltGeometry(count, low, high, step, wedge, elongation, outward, gap=False)


@dataclass(frozen=True, slots=True)
class TiltEvidence:
    """What is known when a verdict is asked for.

    Attributes
    ----------
    state, note : of the reconstruction. frames_seen : of the series. over : no tilt comes any more.
    geometry : None before the first map. target_A : what the operator wants.
    resolution_A : of the halves. worst_A : of the worst of the three main directions; None where nothing correlates.
    diameter_A : of what is in the map. trust : whether left-out tilts speak against the map.
    """

    state: str
    note: str
    frames_seen: int
    over: bool
    target_A: float
    geometry: TiltGeometry | None = None
    resolution_A: float | None = None
    worst_A: float | None = None
    diameter_A: float = 0.0
    trust: Trust | None = None


def judge_tilts(previous: Verdict | None, evidence: TiltEvidence) -> Verdict:
    """The verdict now; a word keeps the frame at which it was first said."""
    word, reasons = _word(evidence)
    used = evidence.geometry.tilts if evidence.geometry else 0
    if previous is not None and previous.word == word:
        return replace(previous, reasons=reasons, milestone=used)
    return Verdict(word, reasons, evidence.frames_seen, milestone=used)


def tilt_trust(predicted: Floats, finest: int, tilts: int) -> Trust:
    """Whether tilts that a map does not contain speak against it; they cannot prove that axis and angles are right.

    Parameters
    ----------
    predicted : (rings,) ring correlation of left-out tilts, see `tilts.TiltMaps`. finest : the ring that the map
        resolves; the finer half of the rings up to it is looked at, where neighbouring tilts do not look alike anyhow.
    """
    if finest < 4:
        return Trust(None, ("too little is resolved to test the map on left-out tilts",), frames=tilts)
    level = float(predicted[finest // 2 : finest + 1].mean())
    words = f"left-out tilts agree with the map by {level:.2f}"
    if level < TOLD_APART:
        return Trust(False, (f"{words}, {TOLD_APART} is needed: check tilt axis, angles and alignment",), frames=tilts)
    return Trust(None, (f"{words}; nothing has borne out axis and angles",), frames=tilts)


def _word(evidence: TiltEvidence) -> tuple[str, tuple[str, ...]]:
    geometry = evidence.geometry
    if evidence.state == "FAILED":
        return "PLATEAU", (f"cannot be mapped: {evidence.note}",)
    if geometry is None:
        return "SEARCHING", (evidence.note or "no map yet",)
    reached = evidence.worst_A is not None and evidence.worst_A <= CROSSING * evidence.target_A
    reasons = []
    if reached and not geometry.wedge_deg:
        reasons.append(f"the wedge is closed, {evidence.target_A:.2f} A reached in all main directions")
    if geometry.next_deg is not None and not evidence.over:
        where = "in the widest gap" if geometry.gap else "outwards"
        reasons.append(f"next tilt {geometry.next_deg:+.1f} deg, {where}")
    if geometry.wedge_deg:
        longer = f"{geometry.elongation:.2f} times longer along the beam" if geometry.elongation < 20 else "flat"
        reasons.append(f"a wedge of {geometry.wedge_deg:.0f} deg is open: the map is {longer}")
    if not reached:
        here = "no resolution" if evidence.resolution_A is None else f"{evidence.resolution_A:.2f} A"
        reasons.append(f"{here} of {evidence.target_A:.2f} A" + _step_limit(evidence, geometry))
    if evidence.trust is not None:
        reasons += evidence.trust.reasons
    open_yet = geometry.next_deg is not None and not evidence.over
    return ("CONTINUE" if open_yet else "PLATEAU"), tuple(reasons)


def _step_limit(evidence: TiltEvidence, geometry: TiltGeometry) -> str:
    """What the step of the angles allows (Crowther, DeRosier & Klug, Proc. R. Soc. A 317, 319 (1970))."""
    limit = np.radians(geometry.step_deg) * evidence.diameter_A
    if limit <= evidence.target_A:
        return ""
    return f"; steps of {geometry.step_deg:.1f} deg carry {limit:.1f} A across {evidence.diameter_A:.0f} A"
