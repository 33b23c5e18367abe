"""Whether to go on: one word per particle, with its reasons, from evidence that is all published beside it.

ENOUGH needs a map that is trusted on evidence other than the halves' FSC, directions that have all been seen, and the
target resolution. It is never said on an FSC alone: wrong poses and shared missing cones keep that high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .outlook import SHRINKING, VOID
from .records import Forecast, Milestone, Trust, Verdict

SURE = 0.75  # probability, from the signal of all shells, from which a target counts as reached
CROSSING = 1.05  # one shell may dip below the threshold this near to the target; twice that does not take ENOUGH back
VOID_SLACK = 1.5  # the same for the empty share
LEAST_CONE = 0.6  # agreement of map and atoms in the weakest cone of 30 degrees, of that in the middle one: a hole of
# 4 % of the directions left 0.54 to 0.60, and in cones of 20 degrees less than 0.4
LEAST_FRESH = 0.12  # effective views a frame below which a crystal shows nothing new, where its drift is not known,
SLOWED = (
    0.3  # or this share of what a frame brought before: a small crystal's planes are wide, and one keeps giving a bit
)
STILL_DEG = 0.25  # a frame: what gets on more slowly sticks, and what gets on faster does not, however little is fresh
WATCHED_FRAMES = 600  # before which nobody says that more will not help
LATELY_FRAMES = 300  # at least, over which fresh views and voids are compared: what came before is not asked
PATIENT = frozenset({"PLATEAU", "STARVED"})
PATIENCE = 2  # milestones in a row that must say one of these
TOO_LONG = 8.0  # times the frames so far: a target that far away is out of reach
UNSURE = 0.15  # share of unsure poses from which they are the limit
FADING_A2 = 25.0  # B-factor from which the image, not the number of views, is the limit
SOON = 0.1  # of the latest time: an earliest one before that is not told
MOST_NAMES = 3  # that are listed one by one


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one particle at one moment.

    Attributes
    ----------
    state : of the reconstruction, see `records.ParticleStatus`. note : its remark.
    tracked : False when the track is lost.
    frames_seen : of this particle.
    target_A : resolution that the operator wants.
    history : milestones, oldest first. forecast : made with the newest.
    reached : probability that the target is reached, from the signal of all shells; None while there is no map.
    b_factor_A2 : how the signal fades with resolution; None when not known.
    trust : whether the map is right; None while it has not been judged.
    unsure_share : share of the frames whose pose is unsure.
    changing : what says that the structure changes, in words; empty when nothing does.
    """

    state: str
    frames_seen: int
    target_A: float
    note: str = ""
    tracked: bool = True
    history: tuple[Milestone, ...] = ()
    forecast: Forecast | None = None
    reached: float | None = None
    b_factor_A2: float | None = None
    trust: Trust | None = None
    unsure_share: float = 0.0
    changing: str = ""


def update(previous: Verdict | None, evidence: Evidence) -> Verdict:
    """The verdict now.

    Words that would make an operator leave wait until they were found `PATIENCE` milestones in a row; ENOUGH, once
    said, stays until something is clearly worse.

    Parameters
    ----------
    previous : the verdict before; None at first.
    """
    word, reasons = _judge(previous, evidence)
    milestones = evidence.history[-1].frames_used if evidence.history else 0
    if previous is None:
        return Verdict(word, reasons, evidence.frames_seen, milestone=milestones)
    if word == previous.word:
        return replace(previous, reasons=reasons, proposed="", proposals=0, milestone=milestones)
    if word in PATIENT and evidence.history and evidence.state != "FAILED":
        alike = previous.proposed in PATIENT
        fresh = milestones != previous.milestone
        proposals = (previous.proposals if alike else 0) + (fresh or not alike)
        if proposals < PATIENCE:
            stay = previous if previous.word != "ENOUGH" else Verdict("CONTINUE", (), evidence.frames_seen)
            why = _continue(evidence) if stay.word == "CONTINUE" else stay.reasons
            return replace(stay, reasons=why, proposed=word, proposals=proposals, milestone=milestones)
    return Verdict(word, reasons, evidence.frames_seen, milestone=milestones)


def _judge(previous: Verdict | None, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    if evidence.state == "FAILED":
        return "PLATEAU", (f"cannot be mapped: {evidence.note}",)
    if not evidence.tracked:
        return "LOST", ("the track is lost",)
    if not evidence.history:
        making = "the first map is being made" if evidence.state == "INDEXING" else "no map yet"
        return "SEARCHING", (evidence.note or making,)
    if evidence.changing:
        return "CHANGING", (evidence.changing,)
    enough, missing = _enough(previous, evidence)
    if enough:
        return "ENOUGH", missing
    starved = _starved(evidence)
    if starved:
        return "STARVED", starved
    plateau = _plateau(evidence)
    if plateau:
        return "PLATEAU", plateau
    return "CONTINUE", _continue(evidence)


def _enough(previous: Verdict | None, evidence: Evidence) -> tuple[bool, tuple[str, ...]]:
    """Whether everything holds, and what was found."""
    newest, said = evidence.history[-1], previous is not None and previous.word == "ENOUGH"
    trust = evidence.trust
    if trust is None or trust.trusted is not True:
        return False, ()
    limit_A = evidence.target_A * (2 * CROSSING - 1 if said else CROSSING)
    void = VOID * (VOID_SLACK if said else 1.0)
    if newest.resolution_A is None or newest.empty_fraction > void or _one_sided(newest, said):
        return False, ()
    likely = said or (evidence.reached is not None and evidence.reached >= SURE)
    if newest.resolution_A > limit_A or not likely:
        return False, ()
    return True, (
        f"{evidence.target_A:.2f} A reached (halves cross at {newest.resolution_A:.2f} A)",
        f"{100 * (1 - newest.empty_fraction):.0f} % of the map's directions measured",
        "the map is trusted" + (", by an earlier second map" if trust.reasons else ""),
    )


def _one_sided(newest: Milestone, said: bool = False) -> bool:
    """Whether the map does not show its atoms in some direction, or has none, so that the one number of the FSC
    misleads.
    """
    return newest.weakest_cone is None or newest.weakest_cone < LEAST_CONE / (VOID_SLACK if said else 1.0)


def lately(history: Sequence[Milestone]) -> Milestone | None:
    """The newest milestone `LATELY_FRAMES` at least before the last one."""
    return next((m for m in history[::-1] if history[-1].frames_used - m.frames_used >= LATELY_FRAMES), None)


def _starved(evidence: Evidence) -> tuple[str, ...]:
    newest, before = evidence.history[-1], lately(evidence.history)
    if before is None or newest.frames_used < WATCHED_FRAMES:
        return ()
    frames = newest.frames_used - before.frames_used
    fresh = (newest.effective_views - before.effective_views) / max(frames, 1)
    if newest.drift_deg is not None:  # of one that stands still wrong poses make views that look fresh, and fill a void
        stuck = newest.drift_deg < STILL_DEG
    else:
        filling = before.empty_fraction > VOID and newest.empty_fraction <= SHRINKING * before.empty_fraction
        least = max(LEAST_FRESH, SLOWED * before.effective_views / max(before.frames_used, 1))
        stuck = not filling and fresh < least
    if not stuck:
        return ()
    return (
        f"the last {frames} frames were worth {max(fresh, 0.0) * frames:.0f} fresh views: it sticks or hardly turns",
    )


def _plateau(evidence: Evidence) -> tuple[str, ...]:
    newest, before = evidence.history[-1], lately(evidence.history)
    if before is None or newest.frames_used < WATCHED_FRAMES:
        return ()
    if newest.held_fraction > VOID:
        share = 100 * newest.held_fraction
        void = f"{share:.0f} % of the map's directions stay unmeasured"
        return (f"coverage: {void}; it turns about one axis or within limits",)
    forecast = evidence.forecast
    if forecast is None or forecast.low_s is None or evidence.reached is None or evidence.reached >= 0.5:
        return ()
    if forecast.low_s <= TOO_LONG * newest.time_s:
        return ()
    return (_limit(evidence),)


def _limit(evidence: Evidence) -> str:
    """Why the resolution does not go on, by elimination."""
    if evidence.unsure_share > UNSURE:
        return f"motion: poses are unsure in {100 * evidence.unsure_share:.0f} % of the frames"
    if evidence.b_factor_A2 is not None and evidence.b_factor_A2 > FADING_A2:
        return (
            f"defocus or motion within a frame: the signal fades with B = {evidence.b_factor_A2:.0f} A^2, "
            "more views hardly help"
        )
    return f"dose: too little signal a frame for {evidence.target_A:.2f} A in any reasonable time"


def _continue(evidence: Evidence) -> tuple[str, ...]:
    newest = evidence.history[-1]
    reasons = []
    reached = newest.resolution_A is not None and newest.resolution_A <= evidence.target_A
    if not reached:
        here = "no resolution" if newest.resolution_A is None else f"{newest.resolution_A:.2f} A"
        reasons.append(f"{here} of {evidence.target_A:.2f} A")
    if newest.empty_fraction > VOID:
        reasons.append(f"{100 * newest.empty_fraction:.0f} % of the map's directions not measured yet")
    elif _one_sided(newest):
        reasons.append("from some directions the map hardly shows its atoms: it has to be seen from more sides")
    trust = evidence.trust
    if trust is None or trust.trusted is None:
        reasons.append("the map has not been judged yet")
    elif not trust.trusted:
        reasons.append("the map is not trusted: " + ("; ".join(trust.reasons) or "no reason given"))
    going = evidence.state != "DONE" and not (reached and newest.empty_fraction <= VOID)
    if evidence.forecast is not None and going:
        reasons.append(in_words(evidence.forecast, sides=reached))
    if not reasons:
        reasons.append(f"halves cross at {newest.resolution_A:.2f} A, but not every shell up to the target is sure yet")
    return tuple(reason for reason in reasons if reason)


def in_words(forecast: Forecast, *, sides: bool = False) -> str:
    """The forecast as an operator reads it; `sides`: the target is reached, but directions are lacking."""
    target = "target from all sides" if sides else "target"
    if forecast.low_s is None:
        return forecast.words
    if forecast.median_s is None:
        never = "at this rate of fresh views some directions stay unmeasured"
        return never if sides else forecast.words or "the target is out of reach"
    if forecast.high_s is None:
        return f"{target} in {_duration(forecast.low_s)} or later, perhaps never"
    if forecast.low_s < SOON * forecast.high_s:
        return f"{target} within {_duration(forecast.high_s)}"
    return f"{target} in {_duration(forecast.low_s)} to {_duration(forecast.high_s)}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def session_verdict(verdicts: dict[str, Verdict], *, final: bool = False) -> str:
    """One line on all particles: how many are done, and what to do next; empty without any.

    Parameters
    ----------
    verdicts : by the particle's name. final : nothing comes any more, and there is nothing to do.
    """
    if not verdicts:
        return ""
    names = {word: [name for name, v in verdicts.items() if v.word == word] for word in _NEXT}
    done, going = len(names["ENOUGH"]), len(names["CONTINUE"]) + len(names["SEARCHING"])
    words = f"{done} of {len(verdicts)} {'particles have' if len(verdicts) > 1 else 'particle has'} enough"
    if final:
        return words
    steps = [_NEXT[word][len(found) > 1].format(_named(found)) for word, found in names.items() if found]
    if not going:
        steps.append("move on: more of this movie will not help" if done < len(verdicts) else "stop here")
    return words + "".join(f"; {step}" for step in steps if step)


def _named(names: list[str]) -> str:
    """A few names, or how many there are."""
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} particles"


# what to do about one particle, and about several
_NEXT = {
    "ENOUGH": ("", ""),
    "CHANGING": ("{} is changing: look at it, lower the dose", "{} are changing: look at them, lower the dose"),
    "CONTINUE": ("go on for {}", "go on for {}"),
    "SEARCHING": ("wait for a map of {}", "wait for maps of {}"),
    "STARVED": ("{} shows nothing new: stir, or take another", "{} show nothing new: stir, or take others"),
    "PLATEAU": ("{} will not get better like this", "{} will not get better like this"),
    "LOST": ("{} is lost", "{} are lost"),
}
