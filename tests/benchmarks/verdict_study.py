"""Verdicts and forecasts on simulated streams of evidence, against the truth: timelines, and whether each was right.

    python tests/benchmarks/verdict_study.py [--seeds 4] [--other] [--out FILE]

The streams come from `verdict_model.py`, a model and no run of the program (its first lines say what it leaves out);
verdict, forecast, all metrics and the tracing of atoms are the program's own. Trust is an input: it comes after some
hundred frames, as measured on real runs, and is False for the wrong map.

The truth says *enough* at the first moment when the map agrees with the crystal up to the target (FSC against the
truth 0.5, which is what half maps call 0.143) and the worst of 100 directions agrees at least 0.4 times as well as the
middle one, which a direction that was not seen does not.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from verdict_model import BOX_A, DIAMETER_A, EDGE, FRAME_TIME_S, REACH, Case, Reconstruction

from tumble.recon.atoms import find_peaks, select_atoms
from tumble.recon.change import Alarm
from tumble.recon.forecast import NEXT_FRAMES
from tumble.recon.metrics import cones, shells
from tumble.recon.progress import NewMap, Progress
from tumble.recon.records import Forecast, Trust

FIRST = round(0.85 * 3**0.5 / 3.97 * BOX_A)
BOOTSTRAP = 400
LOOK = 50  # frames between looks at the truth
NEIGHBOUR_A = 3.97 / 2**0.5
ATOMS_OFF_A = (
    0.01  # rms per axis, of the traced atoms besides the noise of the map: reconstructed streams have 0.009 to 0.02
)
FAR_FRAMES = 500
EARLY, LATE = 0.05, 0.20

CASES = (
    Case("uniform views", "uniform", 3000, noise=0.2, envelope_A2=3),
    Case("tumbling", "tumbling", 4000, noise=0.17, envelope_A2=3),
    Case("tumbling, finer target", "tumbling", 4000, noise=0.12, envelope_A2=2, target_A=0.9),
    Case("side band", "side band", 3500, noise=0.16, envelope_A2=3),
    Case("wedge of +-60 degrees", "wedge 60", 3500, noise=0.15, envelope_A2=3, expected=("PLATEAU", "STARVED")),
    Case("sticks after 1000 frames", "sticking", 3500, noise=0.2, envelope_A2=3, expected=("STARVED", "PLATEAU")),
    Case("spins about one axis", "spinning", 3500, noise=0.15, envelope_A2=3, expected=("PLATEAU", "STARVED")),
    Case("low dose", "tumbling", 4000, noise=0.8, envelope_A2=6, expected=("PLATEAU",)),
    Case("dissolves from frame 1500", "tumbling", 3000, noise=0.2, dissolve_from=1500, expected=("CHANGING",)),
    Case("twin, tumbling", "tumbling", 4000, noise=0.17, envelope_A2=3, twinned=True),
    Case("twin, side band", "side band", 3500, noise=0.16, envelope_A2=3, twinned=True),
    Case("twin, wedge of +-60 degrees", "wedge 60", 3500, noise=0.15, envelope_A2=3, expected=("PLATEAU", "STARVED"),
         twinned=True),
    Case("twin, spins about one axis", "spinning", 2500, noise=0.15, envelope_A2=3, expected=("PLATEAU", "STARVED"),
         twinned=True),
    Case("wrong map", "uniform", 3000, noise=0.15, envelope_A2=3, trusted_after=None, expected=("CONTINUE",)),
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One case as it went: verdicts, forecasts at each map, and when the truth said enough (frames)."""

    case: Case
    verdicts: tuple[tuple[int, str, tuple[str, ...]], ...]
    forecasts: tuple[tuple[int, Forecast], ...]
    enough_frames: int | None
    maps: tuple[int, ...]

    @property
    def timeline(self) -> list[tuple[int, str]]:
        """(frames, word) where the word changes."""
        found: list[tuple[int, str]] = []
        for frames, word, _ in self.verdicts:
            if not found or found[-1][1] != word:
                found.append((frames, word))
        return found

    @property
    def said_enough(self) -> int | None:
        return next((frames for frames, word, _ in self.verdicts if word == "ENOUGH"), None)

    def judge(self) -> tuple[bool, str]:
        """Whether the verdicts were right, and in words why not."""
        said, true = self.said_enough, self.enough_frames
        case = self.case
        if case.expected != ("ENOUGH",):
            if said is not None and (case.trusted_after is None or true is None or said < (1 - EARLY) * true):
                return False, f"ENOUGH at {said}"
            last = self.timeline[-1][1]
            words = {word for _, word in self.timeline}
            if case.expected == ("CHANGING",):
                first = next((frames for frames, word in self.timeline if word == "CHANGING"), None)
                early = first is not None and case.dissolve_from is not None and first < case.dissolve_from
                return first is not None and not early, f"CHANGING at {first}"
            return last in case.expected or bool(words & set(case.expected)), f"ends {last}"
        if true is None:
            return said is None, "the truth never said enough"
        if said is None:
            return False, f"never ENOUGH, truth {true}"
        wanted = max(true, case.trusted_after or 0)
        late = said / wanted - 1
        return -EARLY - 1e-9 <= late <= LATE + 1e-9, f"{100 * late:+.0f} %"


def _true_enough(model: Reconstruction) -> bool:
    target_A = model.case.target_A
    reached = shells.resolution_A(model.true_correlation(), BOX_A, 0.5, FIRST)
    if reached is None or reached > target_A:
        return False
    joint, truth = model.joint_and_truth()
    last = int(np.ceil(BOX_A / target_A))
    conical = cones.conical_correlation(joint, truth, last, axes=100)
    numbers = np.arange(last + 1)
    weight = numbers**2 * (conical.samples >= cones.LEAST_SAMPLES) * (numbers >= FIRST)
    agreement = np.sort((conical.correlation * weight).sum(axis=1) / weight.sum(axis=1))
    return bool(agreement[0] >= 0.4 * agreement[50])


def _traced(model: Reconstruction, correlation: np.ndarray) -> np.ndarray:
    """Atoms (n, 3) A that the program finds in the map, weighted by the `correlation` (shells,) of its halves."""
    agreed = np.clip(correlation, 0, 1)
    volume = np.fft.fftshift(model.joint(2 * agreed / (1 + agreed))).astype(np.float32)
    return select_atoms(find_peaks(volume, BOX_A / EDGE, NEIGHBOUR_A), NEIGHBOUR_A)[0]


def _spacing(frames: int) -> int:
    """Frames from one map to the next, as in the program."""
    return max(200, min(frames // 3, 500))


def _step_deg(views: np.ndarray) -> float:
    """Rotation per axis of consecutive views; what turns about the beam is not seen in them, and need not be."""
    return float(np.degrees(np.sqrt((np.diff(views, axis=0) ** 2).sum(axis=1).mean() / 2)))


def watch(case: Case, *, eager: bool) -> Seen:
    """Run one case. `eager`: as in the program, a map is also made when the target may have been reached since."""
    model = Reconstruction(case)
    progress = Progress(case.target_A, DIAMETER_A, BOX_A)
    rng = np.random.default_rng(case.seed)
    alarm, verdicts, forecasts, maps = Alarm(), [], [], []
    next_map, last, enough, trusted = BOOTSTRAP, 0, None, None
    while model.frames < case.frames:
        model.advance()
        frames = model.frames
        if enough is None and frames % LOOK == 0 and _true_enough(model):
            enough = frames
        due = eager and trusted is True and progress.due(frames, model.views[:frames])
        if frames < next_map and not due:
            continue
        halves = model.halves()
        correlation = shells.shell_correlation(*halves)[: REACH + 1]
        atoms = _traced(model, correlation)
        atoms = atoms + rng.normal(0, ATOMS_OFF_A, atoms.shape)
        progress.advance(
            NewMap(
                frame=frames, time_s=frames * FRAME_TIME_S, views=model.views[:frames],
                number=np.arange(frames), step_deg=_step_deg(model.views[last:frames]),
                resolution_A=shells.resolution_A(correlation, BOX_A, first=FIRST), fsc=correlation, first=FIRST,
                atoms_A=atoms, halves=(np.fft.fftshift(halves[0]), np.fft.fftshift(halves[1])),
            )
        )  # fmt: skip
        trusted = None if frames < (case.trusted_after or 800) else case.trusted_after is not None
        verdict = progress.judge(
            state="MAPPING", frames_seen=frames, trust=Trust(trusted, () if trusted else ("atoms disagree",)),
            changing=alarm.hear(model.change()),
        )  # fmt: skip
        verdicts.append((frames, verdict.word, verdict.reasons))
        maps.append(frames)
        if progress.forecast is not None:
            forecasts.append((frames, progress.forecast))
        last, next_map = frames, frames + _spacing(frames)
    return Seen(case, tuple(verdicts), tuple(forecasts), enough, tuple(maps))


def _forecast_lines(all_seen: list[Seen]) -> list[str]:
    """How many intervals held what happened, and how wide they were."""
    held, widths, map_widths, far_widths, total_widths, never = [], [], [], [], [], []
    for seen in all_seen:
        if seen.case.dissolve_from is not None:
            continue  # a forecast for a crystal that stays
        for frames, interval in seen.forecasts:
            if interval.low_s is None or (seen.enough_frames is not None and frames >= seen.enough_frames):
                continue
            high_s = np.inf if interval.high_s is None else interval.high_s
            now_s = frames * FRAME_TIME_S
            if seen.enough_frames is None:  # not within the movie
                never.append(now_s + high_s > seen.case.frames * FRAME_TIME_S)
                continue
            left = max(seen.enough_frames - frames, NEXT_FRAMES) * FRAME_TIME_S  # nothing is known sooner
            slack = LOOK * FRAME_TIME_S
            held.append(interval.low_s - slack <= left <= high_s + slack)
            widths.append(high_s / max(interval.low_s, slack))
            next_map = _spacing(frames) * FRAME_TIME_S
            map_widths.append(max(high_s, next_map) / max(interval.low_s, next_map))
            if left > FAR_FRAMES * FRAME_TIME_S:
                far_widths.append(widths[-1])
            total_widths.append((now_s + high_s) / (now_s + interval.low_s))
    if not held or not far_widths:
        return []
    share, beyond = 100 * np.mean(held), 100 * np.mean(never or [np.nan])
    return [
        f"forecasts of cases that got there: {len(held)}; the interval held what happened in {share:.0f} %",
        f"  high / low of the time still to go: median {np.median(widths):.1f}",
        f"  the same where neither counts as less than the time to the next map: median {np.median(map_widths):.1f}",
        f"  the same with more than {FAR_FRAMES} frames to go: median {np.median(far_widths):.1f}",
        f"  high / low of the time since the start: median {np.median(total_widths):.2f}",
        f"forecasts of cases that did not: {len(never)}; the interval reached beyond the movie in {beyond:.0f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="runs of each case")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    parser.add_argument("--regular", action="store_true", help="maps at the regular frame counts only")
    parser.add_argument("--other", action="store_true", help="seeds and conditions that no constant was chosen on")
    parser.add_argument("--only", default="", help="cases whose name holds one of these words, with | between them")
    options = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    started = time.process_time()
    all_seen = []
    say(f"{'case':28}{'seed':>5}{'truth':>7}{'said':>7}  {'right':6}{'':12} timeline (frames: word)")
    for case in CASES:
        if not any(word in case.name for word in options.only.split("|")):
            continue
        for seed in range(options.first, options.first + options.seeds):
            mine = replace(case, seed=seed)
            if options.other:
                mine = replace(
                    mine, seed=seed + 50, noise=0.9 * case.noise, step_deg=3.5, envelope_A2=case.envelope_A2 + 1
                )
            seen = watch(mine, eager=not options.regular)
            all_seen.append(seen)
            good, words = seen.judge()
            timeline = ", ".join(f"{frames}: {word}" for frames, word in seen.timeline)
            say(
                f"{case.name:28}{mine.seed:5}{seen.enough_frames or '-':>7}{seen.said_enough or '-':>7}  "
                f"{'yes' if good else 'NO':6}{words:12} {timeline}"
            )
        say(f"{'':20}last reasons: {'; '.join(seen.verdicts[-1][2])}")
    right = [seen.judge()[0] for seen in all_seen]
    say(f"right: {sum(right)} of {len(right)}")
    for line in _forecast_lines(all_seen):
        say(line)
    say(f"{time.process_time() - started:.0f} s of processor time")
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
